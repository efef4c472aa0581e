"""`tellerline` on the command line, as far as no stack is needed."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from shared.database.migrate import PartitionsFixed, agreed_partitions
from tellerline import commands
from tellerline.arguments import without_secrets
from tellerline.cli import main
from tellerline.local_stack.servers import StartFailed
from tellerline.stack_options import without_secrets as state_without_secrets


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.stdout, result.stderr


NAMES = ["bench", "dead-letters", "down", "keys", "migrate", "mix", "network", "status", "up", "verify"]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself(name: str) -> None:
    assert run(name, "--help")[0] == 0
    assert f"  {name} " in run("--help")[1]


def test_a_module_with_a_command_is_a_command_and_nothing_else_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "greet_all.py").write_text(
        "import click\ncommand = click.Command('greet-all', callback=lambda: click.echo('hi'))\n"
    )
    (tmp_path / "plain.py").write_text("command = 'none of click'\n")
    assert run("greet-all")[:2] == (0, "hi\n")
    for name in ("plain", "greet_all", "cli", "__main__", "no.such"):
        assert run(name)[0] == 2


def test_status_of_nothing_is_told_to_people_and_programs(tmp_path: Path) -> None:
    code, told, _ = run("status", "--data-dir", str(tmp_path))
    assert (code, told) == (1, f"nothing runs in {tmp_path}\n")
    code, told, _ = run("status", "--data-dir", str(tmp_path), "--json")
    assert (code, json.loads(told)) == (1, {"status": "stopped", "pids": {}})


def test_down_with_nothing_running_is_no_error(tmp_path: Path) -> None:
    folder = tmp_path / "never made"
    code, _, told = run("down", "--data-dir", str(folder))
    assert (code, told) == (0, f"nothing runs in {folder}\n")
    assert not folder.exists()


def test_migrate_without_a_stack_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELLERLINE_DATABASE_URL", raising=False)
    code, _, told = run("migrate", "--data-dir", str(tmp_path))
    assert code == 1
    assert "TELLERLINE_DATABASE_URL is not set" in told


@pytest.mark.parametrize("partitions", ["0", "257", "-1", "many"])
@pytest.mark.parametrize("is_option", [True, False])
def test_a_number_of_partitions_that_cannot_be_is_one_clear_line_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partitions: str, is_option: bool
) -> None:
    monkeypatch.setenv("TELLERLINE_PARTITIONS", "4" if is_option else partitions)
    folder = tmp_path / "stack"
    code, _, told = run("up", "--data-dir", str(folder), *(("--partitions", partitions) if is_option else ()))
    assert code == 2
    said = f"--partitions (or TELLERLINE_PARTITIONS) is a number from 1 to 256, not '{partitions}'"
    assert told == f"tellerline up: {said}\n"
    assert not folder.exists()


@pytest.mark.parametrize("partitions", ["0", "257", "many"])
def test_migrate_with_such_a_number_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, partitions: str) -> None:
    monkeypatch.setenv("TELLERLINE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("TELLERLINE_SECRET", "a secret of thirty-two characters")
    monkeypatch.setenv("TELLERLINE_PARTITIONS", partitions)
    code, _, told = run("migrate")
    assert (code, told.count("\n")) == (2, 1)
    assert told.startswith("settings: TELLERLINE_PARTITIONS: ")


@pytest.mark.parametrize("how", [("start_detached", "--detach"), ("Supervisor",)])
def test_a_start_that_fails_gives_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: tuple[str, ...]
) -> None:
    for exit_code in (1, 2):

        def fail(*_: object, exit_code: int = exit_code) -> None:
            raise StartFailed("no", exit_code=exit_code)

        monkeypatch.setattr(f"tellerline.commands.up.{how[0]}", fail)
        folder = tmp_path / f"stack-{exit_code}"
        assert run("up", "--data-dir", str(folder), *how[1:]) == (exit_code, "", "tellerline up: no\n")


@pytest.mark.parametrize(
    ("held", "asked", "agreed"), [(None, None, 3), (None, 5, 5), (1, None, 1), (4, 4, 4), (256, None, 256)]
)
def test_partitions_are_the_ledger_s_else_those_asked_for_else_one_for_each_worker(
    held: int | None, asked: int | None, agreed: int
) -> None:
    assert agreed_partitions(held, asked, of_new=3) == agreed


def test_another_number_of_partitions_than_the_ledger_has_is_refused() -> None:
    with pytest.raises(PartitionsFixed, match="the ledger has 4 partitions, not 3: the number is fixed when it is cr"):
        agreed_partitions(4, 3)
    with pytest.raises(PartitionsFixed, match="the ledger has 1 partition, not 4"):
        agreed_partitions(1, 4)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--admin-key", "hunter2"),
        ("--admin-key", ""),
        ("--admin-key", "a" * 201),
        ("--admin-key", "two words of a sentence"),
        ("--admin-key", "ein-langer-schlüssel"),
        ("--admin-key", "has space"),
        ("--workers", "0"),
        ("--port", "65536"),
        ("--port", "x"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    folder = tmp_path / "stack"
    code, _, told = run("up", "--data-dir", str(folder), *arguments)
    assert code == 2
    assert arguments[0] in told
    assert not folder.exists()


def test_up_in_a_folder_of_something_else_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    code, _, told = run("up", "--data-dir", str(tmp_path))
    assert code == 1
    assert told == f"tellerline up: {tmp_path} is not empty and no Tellerline data dir: choose another --data-dir\n"


def test_a_secret_on_the_command_line_moves_to_the_environment() -> None:
    command = ["python", "-m", "tellerline", "mix", "show"]
    arguments = [*command, "--api-key=k=1", "--admin-key", "a", "--port", "0", "--postgres=", "--database-url"]
    kept = [*command, "--port", "0", "--postgres=", "--database-url"]
    assert without_secrets(arguments) == (kept, {"TELLERLINE_API_KEY": "k=1", "TELLERLINE_ADMIN_KEY": "a"})


def test_ps_shows_no_secret_of_a_command(tmp_path: Path) -> None:
    """It waits for a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://me:hush@127.0.0.1:{silent.getsockname()[1]}/ledger"
        command = [sys.executable, "-m", "tellerline", "verify", "--data-dir", str(tmp_path), "--database-url", dsn]
        with subprocess.Popen(command) as running:
            silent.accept()[0].close()
            shown = Path(f"/proc/{running.pid}/cmdline").read_bytes()
            running.kill()
    assert b"verify" in shown
    assert b"hush" not in shown


def test_up_prints_no_secret_for_programs_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"gateway": "http://127.0.0.1:8080", "admin_key": "hush", "amqp": "amqp://tellerline:hush@127.0.0.1:5672/"}

    def started(*_: object) -> dict[str, object]:
        return {**state, "data_dir": str(tmp_path)}

    monkeypatch.setattr("tellerline.commands.up.start_detached", started)

    def up(*options: str) -> tuple[int, str, str]:
        return run("up", "--detach", "--data-dir", str(tmp_path / f"stack{len(options)}"), *options)

    code, printed, told = up("--json")
    assert (code, json.loads(printed)["gateway"], "hush" in printed + told) == (0, "http://127.0.0.1:8080", False)
    _, printed, _ = up("--json", "--secrets")
    assert json.loads(printed).items() >= state.items()
    assert "hush" in up()[1]  # the admin key, for who starts it at a terminal


def test_the_status_of_a_stack_shows_no_secret_unless_it_is_asked_for() -> None:
    state = {
        "postgres": "postgresql://tellerline:hush@127.0.0.1:5432/tellerline",
        "amqp": "amqp://tellerline:hush@127.0.0.1:5672/",
        "admin_key": "hush",
        "gateway": "http://127.0.0.1:8080",
        "pids": {"gateway-1": 7},
    }
    assert state_without_secrets(state) == {
        "postgres": "postgresql://tellerline@127.0.0.1:5432/tellerline",
        "amqp": "amqp://tellerline@127.0.0.1:5672/",
        "gateway": "http://127.0.0.1:8080",
        "pids": {"gateway-1": 7},
    }
