"""`tellerline mix`, as far as no gateway is needed."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from tellerline.cli import main
from tellerline.commands.mix import ChangeLines, LiveScreen, print_mix, split
from tellerline.gateway_api import API_KEY, GATEWAY_URL
from tellerline.mix_display import BAR_WIDTH, Mix, ShownPayout, increments, progress_line

ID = "32904104-116f-84c0-9c3f-0f4ad667b52c"
MIX = Mix(
    id=ID, status="paying", deposit_address="d", received="10", fee="0.1", paid="3.3", remaining="6.6",
    next_due_at="2026-11-21T12:00:04.000000Z",
)  # fmt: skip
PAYOUTS = [
    ShownPayout(destination="anna", amount="3.3", due_at="2026-11-21T12:00:00.000000Z", status="paid"),
    ShownPayout(
        destination="bert\x1b[2J", amount="6.6", due_at="2026-11-21T12:00:04.000000Z", status="sending",
        reason="the house is short",
    ),
]  # fmt: skip
NOW = datetime(2026, 11, 21, 12, 0, 1, tzinfo=UTC)
WELCOME = "Welcome to the Jobcoin mixer!\n\n"
PROMPT = (
    "Please enter a comma-separated list of new, unused Jobcoin addresses where your mixed Jobcoins will be sent."
    "\n[blank to quit] > "
)
NOWHERE = ("--url", "http://127.0.0.1:1", "--api-key", "hush")


def run(*arguments: str, typed: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["mix", *arguments], input=typed)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (GATEWAY_URL, API_KEY):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("typed", ["", "\n", "  \n"], ids=["the end of the input", "a blank line", "spaces"])
def test_it_welcomes_asks_and_quits_as_the_official_template_does(tmp_path: Path, typed: str) -> None:
    code, said, told = run("--data-dir", str(tmp_path), typed=typed)
    # click shows what was typed where there is no terminal that did.
    assert (code, said.rstrip(), told) == (0, (WELCOME + PROMPT).rstrip(), "")


def test_an_order_that_fails_is_said_once_and_the_next_one_is_asked_for(tmp_path: Path) -> None:
    code, said, told = run("--data-dir", str(tmp_path), typed="anna,bert\ncarl\n")
    assert code == 0
    assert said.count(PROMPT) == 3
    assert told.count(f"Error: nothing runs in {tmp_path}; give --url and --api-key\n") == 2
    assert re.search(r"tellerline mix anna,bert --key [0-9a-f-]{36}\n", told)


def test_without_a_gateway_it_says_where_it_looked(tmp_path: Path) -> None:
    code, _, told = run("anna", "--data-dir", str(tmp_path), "--key", "mine")
    assert (code, told) == (2, f"Error: nothing runs in {tmp_path}; give --url and --api-key\n")


def test_a_gateway_that_does_not_answer_is_named_and_no_key_is_shown() -> None:
    code, _, told = run("anna", *NOWHERE)
    assert code == 2
    assert "http://127.0.0.1:1" in told
    assert "hush" not in told


def test_an_order_without_a_key_gets_one_and_shows_it_before_anything_is_sent() -> None:
    keys = [re.findall(r"--key ([0-9a-f-]{36})", run("anna", *NOWHERE)[2]) for _ in range(2)]
    assert [len(each) for each in keys] == [1, 1]
    assert keys[0] != keys[1]
    assert "--key" not in run("anna", *NOWHERE, "--key", "mine")[2]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--delay", "nan", "inf"), "--delay nan inf: MIN and MAX are seconds, such as 0 and 60"),
        (("--delay", "-1", "5"), "--delay -1 5: MIN and MAX are seconds, such as 0 and 60"),
        (("--delay", "1e400", "5"), "--delay 1e400 5: MIN and MAX are seconds, such as 0 and 60"),
        (("--delay", "5", "1"), "--delay 5 1: MIN is greater than MAX"),
        (("--fee-percent", "-1"), "--fee-percent -1: a fee is not negative"),
        (("--fee-percent", "100"), "--fee-percent 100: a fee is less than 100 percent"),
        (("--fee-percent", "nan"), "--fee-percent nan: a fee is a percentage such as 2.5"),
        (("--watch", "../keys"), "../keys is no id of a mix; to follow the mix that is ordered, put --watch last"),
        (("--show", ID), "order a mix, or look at one: not both at once"),
    ],
)
def test_what_no_mix_can_have_is_one_clear_line_said_once_before_anything_is_ordered(
    arguments: tuple[str, ...], reason: str
) -> None:
    given = arguments if arguments[0] == "--watch" else ("anna", *arguments)
    assert run(*given, *NOWHERE) == (2, "", f"Error: {reason}\n")


def test_a_comma_separates_addresses_and_an_empty_one_stays_to_be_refused() -> None:
    assert split("anna, bert ,,carl,") == ["anna", "bert", "", "carl", ""]


@pytest.mark.parametrize(
    ("paid", "remaining", "filled", "percent"),
    [
        ("0", "0", 0, 0),
        ("0", "5", 0, 0),
        ("3.3", "6.6", 10, 33),
        ("0.999999999999999999", "0.000000000000000001", 29, 99),
    ],
)
def test_a_bar_is_full_only_once_everything_is_paid(paid: str, remaining: str, filled: int, percent: int) -> None:
    line = progress_line(MIX.model_copy(update={"paid": paid, "remaining": remaining}), NOW)
    assert f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {percent:>3} %" in line
    assert "next 2026-11-21 12:00:04 (in 3 s)" in line


def test_of_many_increments_the_last_paid_and_the_next_are_shown() -> None:
    many = [PAYOUTS[0].model_copy(update={"status": "paid" if place < 50 else "planned"}) for place in range(100)]
    lines = increments(many)
    assert [line.split()[0] for line in lines] == ["paid"] * 3 + ["planned"] * 7 + ["…"]
    assert lines[-1] == "  … and 90 more"
    assert len(increments(many[:50])) == 11
    assert increments([]) == []


def test_a_terminal_is_drawn_over_and_a_log_gets_a_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    screen, log = LiveScreen(), ChangeLines()
    screen.show(MIX, PAYOUTS)
    screen.show(MIX, PAYOUTS)
    assert capsys.readouterr().err.split("\n")[3].startswith("\x1b[3F\x1b[J")
    log.show(MIX, PAYOUTS)
    log.show(MIX, [PAYOUTS[0], PAYOUTS[1].model_copy(update={"status": "paid"})])
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["paying:", "paid", "sending", "paid"]


def test_a_mix_is_shown_with_its_payouts_and_no_address_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    print_mix(MIX, PAYOUTS, as_json=False)
    shown = capsys.readouterr().out
    assert "  status     paying\n" in shown
    assert (
        "  sending    6.6 JOB  2026-11-21 12:00:04  bert\N{REPLACEMENT CHARACTER}[2J  (the house is short)\n" in shown
    )


def test_json_output_is_what_the_api_answered(capsys: pytest.CaptureFixture[str]) -> None:
    print_mix(MIX, PAYOUTS[:1], as_json=True)
    shown: dict[str, object] = json.loads(capsys.readouterr().out)
    assert shown == {**MIX.model_dump(), "payouts": [PAYOUTS[0].model_dump(exclude_none=True)]}
