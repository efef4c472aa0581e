"""What a stack keeps in its data dir, who may read it, and what each process is told of it."""

import errno
import json
import os
import socket
import stat
from dataclasses import asdict
from pathlib import Path

import pytest

from tellerline.local_stack.servers.files import LOOPBACK, KeptPorts, write_private
from tellerline.local_stack.servers.postgres import PrivatePostgres
from tellerline.local_stack.servers.process import StartFailed
from tellerline.local_stack.servers.rabbit import PrivateRabbit
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.detached import first_outcome
from tellerline.local_stack.supervisor.plan import (
    MARK,
    Options,
    base_environment,
    migrate_environment,
    network_plan,
    secrets_environment,
    service_plans,
)
from tellerline.local_stack.supervisor.run import standing_by


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    prepared = DataDir(tmp_path / "stack")
    prepared.prepare()
    return prepared


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_two_supervisors_never_share_a_data_dir(data_dir: DataDir) -> None:
    with data_dir.locked(), pytest.raises(StartFailed, match="a stack runs in"), DataDir(data_dir.path).locked():
        pass
    with data_dir.locked():
        pass


def test_the_state_counts_only_while_the_supervisor_lives(data_dir: DataDir) -> None:
    with data_dir.locked():
        data_dir.write_state({"status": "ready"})
        assert DataDir(data_dir.path).read_state() == {"status": "ready"}
    assert DataDir(data_dir.path).read_state() is None, "the file is there, the supervisor is not"


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StartFailed, match="no Tellerline data dir"):
        DataDir(tmp_path).prepare()


def test_secrets_are_made_once_and_nobody_else_may_read_them(data_dir: DataDir) -> None:
    assert data_dir.secret("signing") == DataDir(data_dir.path).secret("signing")
    assert len(data_dir.secret("signing")) >= 32
    assert data_dir.admin_key() == DataDir(data_dir.path).admin_key()
    assert data_dir.admin_key("another-key-of-ours") == DataDir(data_dir.path).admin_key() == "another-key-of-ours"
    data_dir.write_state({})
    for path in (data_dir.path / "secrets" / "signing", data_dir.path / "admin_key", data_dir.path / "state.json"):
        assert mode(path) == 0o600
    assert mode(data_dir.path) == 0o700


def test_a_rotated_secret_leaves_the_naming_key_as_it_was(data_dir: DataDir) -> None:
    before = secrets_environment(data_dir)
    signing = data_dir.path / "secrets" / "signing"
    signing.rename(signing.with_name("signing_previous"))
    after = secrets_environment(data_dir)
    assert after["TELLERLINE_NAMING_KEY"] == before["TELLERLINE_NAMING_KEY"]
    assert after["TELLERLINE_SECRET_PREVIOUS"] == before["TELLERLINE_SECRET"] != after["TELLERLINE_SECRET"]
    signing.with_name("signing_previous").unlink()
    assert secrets_environment(data_dir) == before | {"TELLERLINE_SECRET": after["TELLERLINE_SECRET"]}


def test_a_data_dir_from_before_there_was_a_naming_key_keeps_its_secret_as_such(data_dir: DataDir) -> None:
    signing = data_dir.secret("signing")
    assert secrets_environment(data_dir) == {"TELLERLINE_NAMING_KEY": signing, "TELLERLINE_SECRET": signing}


def test_ports_stay_the_same_until_somebody_else_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    port = KeptPorts(path).port("postgres")
    assert KeptPorts(path).port("postgres") == port
    assert KeptPorts(path).port("rabbitmq") != port
    with socket.socket() as stranger:
        stranger.bind((LOOPBACK, port))
        stranger.listen()
        assert KeptPorts(path).port("postgres") != port


@pytest.fixture
def servers(data_dir: DataDir, monkeypatch: pytest.MonkeyPatch) -> tuple[PrivatePostgres, PrivateRabbit]:
    postgres, rabbit = PrivatePostgres(data_dir.path / "postgres"), PrivateRabbit(data_dir.path / "rabbitmq")
    for server in (postgres, rabbit):
        (data_dir.path / server.name).mkdir()
    monkeypatch.setattr(postgres, "_ports", {"postgres": 1})
    monkeypatch.setattr(rabbit, "_ports", {"rabbitmq": 2})
    return postgres, rabbit


def test_each_service_is_told_what_it_needs_and_no_secret_more(
    data_dir: DataDir, servers: tuple[PrivatePostgres, PrivateRabbit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLERLINE_LOG_LEVEL", "debug")
    monkeypatch.setenv("TELLERLINE_DATABASE_URL", "postgresql://somebody:else@example.org/db")
    monkeypatch.setenv("TELLERLINE_SECRET_FILE", "somewhere")
    monkeypatch.setenv("SOME_TOKEN", "of the caller")
    options = Options(port=8080, workers=2, gateways=2)
    network = network_plan(data_dir)
    plans = {plan.name: plan for plan in service_plans(options, data_dir, network, *servers)}
    assert sorted(plans) == [
        *("deposit_poller-1", "distributor-1", "gateway-1", "gateway-2", "ledger_worker-1", "ledger_worker-2")
    ]
    assert plans["gateway-1"].port == 8080
    assert len({plan.port for plan in plans.values()}) == len(plans)
    admin_key, signing = data_dir.admin_key(), data_dir.secret("signing")
    owner = servers[0].dsn
    for name, plan in {**plans, network.name: network}.items():
        values = set(plan.environment.values())
        assert admin_key not in values
        assert (str(data_dir.admin_key_file) in values) == name.startswith("gateway")
        assert (signing in values) == (plan is not network)
        assert (data_dir.naming_key() in values) == (plan is not network)
        assert owner not in values
        assert plan.environment["TELLERLINE_LOG_LEVEL"] == "debug"
        assert "SOME_TOKEN" not in plan.environment
        assert "TELLERLINE_SECRET_FILE" not in plan.environment
        role = {
            "gateway": "gateway",
            "ledger_worker": "worker",
            "deposit_poller": "poller",
            "distributor": "distributor",
        }
        if plan is not network:
            assert (
                f"tellerline_{role[plan.module.removeprefix('services.')]}:"
                in plan.environment["TELLERLINE_DATABASE_URL"]
            )


def test_a_fault_for_the_services_never_reaches_the_migration(
    data_dir: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLERLINE_FAULT", "point:1")
    assert base_environment(data_dir)["TELLERLINE_FAULT"] == "point:1"
    environment = migrate_environment(data_dir, "postgresql://owner@host/db", "amqp://user@host/vhost")
    assert "TELLERLINE_FAULT" not in environment
    assert environment["TELLERLINE_ROLE_PASSWORD_WORKER"] == data_dir.secret("role_worker")
    assert environment[MARK] == str(data_dir.path)


def test_how_many_partitions_there_are_is_the_ledger_s_own_matter(
    data_dir: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLERLINE_PARTITIONS", "4")
    assert "TELLERLINE_PARTITIONS" not in base_environment(data_dir)


@pytest.mark.parametrize(
    ("workers", "partitions", "said"),
    [
        (1, 1, None),
        (3, 4, None),
        (3, 1, "3 workers, 1 partition: 2 workers stand by"),
        (3, 2, "3 workers, 2 partitions: 1 worker stands by"),
    ],
)
def test_more_workers_than_partitions_are_told_in_one_line(workers: int, partitions: int, said: str | None) -> None:
    assert standing_by(workers, partitions) == said


def test_options_reach_a_detached_supervisor_unchanged() -> None:
    options = Options(port=0, workers=3, gateways=2, admin_key='odd "key"', partitions=4)
    assert Options(**json.loads(json.dumps(asdict(options)))) == options


def test_a_detached_supervisor_tells_what_it_does_until_it_is_ready(tmp_path: Path) -> None:
    heard: list[str] = []
    lines = ['{"said": "postgres is ready"}\n', '{"ready": {"gateway": "http://x"}}\n', '{"said": "too late"}\n']
    assert first_outcome(lines, heard.append, tmp_path) == {"gateway": "http://x"}
    assert heard == ["postgres is ready"]
    with pytest.raises(StartFailed, match="port 1 is taken") as failed:
        first_outcome(['{"failed": "port 1 is taken", "exit_code": 2}\n'], heard.append, tmp_path)
    assert failed.value.exit_code == 2
    with pytest.raises(StartFailed, match="ended without a word"):
        first_outcome([], heard.append, tmp_path)


def test_what_is_written_already_needs_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "settings"
    write_private(path, "as before")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    write_private(path, "as before")
    with pytest.raises(OSError, match="No space"):
        write_private(path, "another")
    assert path.read_bytes() == b"as before"


def test_an_admin_key_that_no_gateway_would_accept_is_refused(data_dir: DataDir) -> None:
    data_dir.admin_key_file.write_text("hunter2\n", encoding="utf-8")
    with pytest.raises(StartFailed, match="16 to 200 printable"):
        data_dir.admin_key()


def test_a_data_dir_that_was_open_to_others_is_closed(data_dir: DataDir) -> None:
    with data_dir.locked():
        pass
    data_dir.path.chmod(0o755)
    data_dir.prepare()
    assert mode(data_dir.path) == 0o700
