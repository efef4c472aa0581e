"""What `deploy/make_secrets.py` gives the services of a composed stack."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.domain.api_keys import KEY_TEXT
from tests.tree import ROOT

READERS = ("state", "gateway", "worker", "poller", "distributor", "migrate", "operator", "postgres", "rabbitmq")


def made(folder: Path, *wishes: str, **environment: str) -> dict[str, dict[str, str]]:
    """Reader → file → content after a run."""
    script = ROOT / "deploy" / "make_secrets.py"
    command = [sys.executable, "-I", script, folder, *wishes]
    subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    return {
        reader: {path.name: path.read_text(encoding="utf-8") for path in (folder / reader).iterdir()}
        for reader in READERS
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for reader in READERS:
        (tmp_path / reader).mkdir()
    return tmp_path


def test_secrets_are_made_once(folder: Path) -> None:
    assert made(folder) == made(folder)


def test_a_missing_file_comes_back_with_the_same_content(folder: Path) -> None:
    before = made(folder)
    (folder / "worker" / "secret").unlink()
    assert made(folder) == before


def test_each_reader_has_what_it_needs_and_no_other_role_s_password(folder: Path) -> None:
    files = made(folder)
    ledger_service = {"database_url", "amqp_url", "naming_key", "secret", "secret_previous"}
    assert set(files["gateway"]) == ledger_service | {"admin_key"}
    for reader in ("worker", "poller", "distributor"):
        assert set(files[reader]) == ledger_service
        assert files[reader]["secret"] == files["gateway"]["secret"]
    state = json.loads(files["state"]["state.json"])
    passwords = {name: state[name] for name in state if name.startswith(("role_", "owner"))}
    for reader in ("gateway", "worker", "poller", "distributor", "operator", "rabbitmq"):
        found = {
            name for name, password in passwords.items() if any(password in text for text in files[reader].values())
        }
        own = {"operator": {"role_verify"}, "rabbitmq": set[str]()}.get(reader, {f"role_{reader}"})
        assert found == own
    assert files["migrate"]["database_url"].endswith("@postgres:5432/tellerline")
    assert state["owner"] == files["postgres"]["password"]


def test_a_given_admin_key_replaces_the_kept_one_and_nothing_else(folder: Path) -> None:
    before = made(folder)
    after = made(folder, TELLERLINE_ADMIN_KEY="a-key-of-the-operator's-own")
    assert after["gateway"]["admin_key"] == "a-key-of-the-operator's-own"
    assert after["worker"] == before["worker"]
    assert made(folder) == after


def test_secrets_are_readable_by_their_reader_alone(folder: Path) -> None:
    made(folder)
    for reader in READERS:
        for path in (folder / reader).iterdir():
            # Images of others run as users whose number is not ours; their volumes hold one password each.
            others = reader in {"postgres", "rabbitmq"}
            assert bool(path.stat().st_mode & 0o044) == others
            assert not path.stat().st_mode & 0o033


def test_a_rotation_gives_every_service_a_new_secret_beside_the_previous_one_and_never_another_naming_key(
    folder: Path,
) -> None:
    before = made(folder)
    rotated = made(folder, "rotate")
    assert made(folder) == rotated
    for reader in ("gateway", "worker", "poller", "distributor", "migrate"):
        assert rotated[reader]["secret_previous"] == before[reader]["secret"] != rotated[reader]["secret"]
        assert rotated[reader]["naming_key"] == before[reader]["naming_key"]
    ended = made(folder, "forget-previous")
    assert ended["gateway"] == rotated["gateway"] | {"secret_previous": ""}


def test_a_second_rotation_is_refused_in_one_line_until_the_previous_secret_is_forgotten(folder: Path) -> None:
    made(folder)
    rotated = made(folder, "rotate")
    (folder / "worker" / "secret").unlink()  # as if it had been interrupted
    with pytest.raises(subprocess.CalledProcessError) as refused:
        made(folder, "rotate")
    assert "previous secret" in refused.value.stderr
    assert refused.value.stderr.count("\n") == 1
    assert made(folder) == rotated
    made(folder, "forget-previous")
    assert made(folder, "rotate")["worker"]["secret_previous"] == rotated["worker"]["secret"]


def test_secrets_made_before_there_was_a_naming_key_keep_the_secret_as_such(folder: Path) -> None:
    state = json.loads(made(folder)["state"]["state.json"])
    del state["naming_key"], state["secret_previous"]
    (folder / "state" / "state.json").write_text(json.dumps(state), encoding="utf-8")
    assert made(folder, "rotate")["gateway"]["naming_key"] == state["secret"]


def test_an_admin_key_that_no_gateway_would_accept_is_refused_and_nothing_is_written(folder: Path) -> None:
    before = made(folder)
    with pytest.raises(subprocess.CalledProcessError):
        made(folder, TELLERLINE_ADMIN_KEY="hunter2")
    assert made(folder) == before


def test_the_rule_for_keys_is_that_of_the_gateways() -> None:
    script = (ROOT / "deploy" / "make_secrets.py").read_text(encoding="utf-8")
    assert f'KEY_TEXT = re.compile(r"{KEY_TEXT.pattern}", re.ASCII)' in script
