"""An environment that does not describe a service is one line that names what is wrong, and never a value."""

from pathlib import Path

import pytest

from shared.runtime.ledger_secrets import LedgerSecrets
from shared.runtime.settings import LedgerSettings, SettingsError

GOOD = {
    "TELLERLINE_DATABASE_URL": "postgresql://u:canary-password@h/d",
    "TELLERLINE_AMQP_URL": "amqp://u:canary-password@h/v",
    "TELLERLINE_SECRET": "canary-secret-of-thirty-two-characters",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "METRICS_PORT", "LOG_LEVEL", "LOG_FORMAT", "HOST", "SECRET_FILE"):
        monkeypatch.delenv(f"TELLERLINE_{name}", raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_what_is_missing_or_wrong_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELLERLINE_DATABASE_URL")
    monkeypatch.setenv("TELLERLINE_PORT", "70000")
    monkeypatch.setenv("TELLERLINE_SECRET", "canary-short")
    with pytest.raises(SettingsError) as caught:
        LedgerSettings.load()
    told = str(caught.value)
    assert "\n" not in told
    assert "TELLERLINE_DATABASE_URL: field required" in told
    assert "TELLERLINE_PORT: " in told
    assert "TELLERLINE_SECRET: " in told
    assert "canary" not in told
    assert "70000" not in told


def test_a_service_that_cannot_start_says_so_and_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TELLERLINE_AMQP_URL")
    with pytest.raises(SystemExit) as caught:
        LedgerSettings.load_or_exit()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "settings: TELLERLINE_AMQP_URL: field required\n"


def test_an_empty_previous_secret_or_naming_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLERLINE_SECRET_PREVIOUS", "")
    monkeypatch.setenv("TELLERLINE_NAMING_KEY", "")
    secret = GOOD["TELLERLINE_SECRET"]
    assert LedgerSettings.load().ledger_secrets() == LedgerSecrets(naming_key=secret, secret=secret)
    monkeypatch.setenv("TELLERLINE_SECRET_PREVIOUS", "canary-short")
    with pytest.raises(SettingsError, match="TELLERLINE_SECRET_PREVIOUS: "):
        LedgerSettings.load()


def test_a_setting_may_be_read_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a-secret-from-a-file-of-32-characters\n", encoding="utf-8")
    monkeypatch.delenv("TELLERLINE_SECRET")
    monkeypatch.setenv("TELLERLINE_SECRET_FILE", str(secret))
    assert LedgerSettings.load().secret.get_secret_value() == "a-secret-from-a-file-of-32-characters"
    monkeypatch.delenv("TELLERLINE_SECRET")
    monkeypatch.setenv("TELLERLINE_SECRET_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="TELLERLINE_SECRET_FILE: No such file"):
        LedgerSettings.load()
