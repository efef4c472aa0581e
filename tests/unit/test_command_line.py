"""`tellerline` on the command line, as far as no stack is needed."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import tellerline
from tellerline.cli import main


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("name", ["up", "status", "down", "migrate"])
def test_every_command_explains_itself(name: str) -> None:
    assert run(name, "--help")[0] == 0
    assert f"  {name} " in run("--help")[1]


def test_a_module_with_a_command_is_a_command_and_nothing_else_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tellerline, "__path__", [*tellerline.__path__, str(tmp_path)])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "greet.py").write_text(
        "import click\ncommand = click.Command('greet', callback=lambda: click.echo('hi'))\n"
    )
    (tmp_path / "plain.py").write_text("command = 'none of click'\n")
    assert run("greet")[:2] == (0, "hi\n")
    assert run("plain")[0] == run("cli")[0] == run("__main__")[0] == run("no.such")[0] == 2


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


@pytest.mark.parametrize(
    "arguments",
    [
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
