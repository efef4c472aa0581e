"""`tellerline mix`, as far as no gateway is needed."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tellerline.cli import main
from tellerline.commands.mix import Mix, ShownPayout, print_mix
from tellerline.gateway_api import API_KEY, GATEWAY_URL

MIX = {
    "id": "m", "status": "paying", "deposit_address": "d", "received": "10", "fee": "0", "paid": "4", "remaining": "6",
    "next_due_at": None, "links": {"self": "/v1/mixes/m"},
}  # fmt: skip
PAYOUTS = [
    {"destination": "anna", "amount": "4", "due_at": "2026-11-21T12:00:00.000000Z", "status": "paid"},
    {
        "destination": "bert", "amount": "6", "due_at": "2026-11-21T12:00:01.000000Z", "status": "sending",
        "reason": "the house is short",
    },
]  # fmt: skip


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (GATEWAY_URL, API_KEY):
        monkeypatch.delenv(name, raising=False)


def test_without_a_gateway_it_says_where_it_looked(tmp_path: Path) -> None:
    code, _, told = run("mix", "create", "anna", "--data-dir", str(tmp_path))
    assert (code, told) == (2, f"Error: nothing runs in {tmp_path}; give --url and --api-key\n")


def test_a_gateway_that_does_not_answer_is_named_and_no_key_is_shown() -> None:
    code, _, told = run("mix", "create", "anna", "--url", "http://127.0.0.1:1", "--api-key", "hush")
    assert code == 2
    assert "http://127.0.0.1:1" in told
    assert "hush" not in told


def test_an_order_without_a_key_gets_one_and_shows_it_before_anything_is_sent() -> None:
    order = ("mix", "create", "anna", "--url", "http://127.0.0.1:1", "--api-key", "hush")
    keys = [re.findall(r"--key ([0-9a-f-]{36})", run(*order)[2]) for _ in range(2)]
    assert [len(each) for each in keys] == [1, 1]
    assert keys[0] != keys[1]
    assert "--key" not in run(*order, "--key", "mine")[2]


def test_an_id_that_is_none_is_not_asked_about() -> None:
    assert run("mix", "show", "../keys")[0] == 2


def test_a_mix_is_shown_with_its_payouts(capsys: pytest.CaptureFixture[str]) -> None:
    print_mix(Mix.model_validate(MIX), [ShownPayout.model_validate(each) for each in PAYOUTS], as_json=False)
    shown = capsys.readouterr().out
    assert "  status     paying\n" in shown
    assert "  sending    6 JOB  2026-11-21T12:00:01.000000Z  bert  (the house is short)\n" in shown


def test_json_output_is_what_the_api_answered(capsys: pytest.CaptureFixture[str]) -> None:
    print_mix(Mix.model_validate(MIX), [ShownPayout.model_validate(each) for each in PAYOUTS], as_json=True)
    assert json.loads(capsys.readouterr().out) == MIX | {"payouts": PAYOUTS}
