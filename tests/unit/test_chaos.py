"""The plan of a chaos run, and when its report passes."""

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

import pytest

from shared.domain.ids import AccountId, partition_of
from tellerline.chaos.audit import fault_of_mix, judged
from tellerline.chaos.client import Answer, Command, Ended, difference
from tellerline.chaos.plan import KINDS, plan
from tellerline.chaos.recovery import accounts_of_partitions
from tellerline.chaos.report import Report, as_object, as_table


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert plan(7, 5) == plan(7, 5)
    assert plan(7, 5) != plan(8, 5)


@pytest.mark.parametrize("seed", range(20))
def test_five_minutes_hold_sixty_faults_and_each_kind(seed: int) -> None:
    faults = plan(seed, 5)
    assert len(faults) >= 60
    times = Counter(fault.kind.name for fault in faults)
    assert set(times) == {kind.name for kind in KINDS}
    assert max(times.values()) - min(times.values()) <= 1
    assert all(fault.kind.for_s[0] <= fault.for_s <= fault.kind.for_s[1] for fault in faults)


def test_probes_reach_every_partition() -> None:
    accounts = accounts_of_partitions("probe", 5)
    assert [partition_of(AccountId(account), 5) for account in accounts] == list(range(5))


def passed() -> Report:
    report = Report(seed=1, minutes=1, kinds_planned=("kill gateway",), acknowledged=10_000)
    for _ in range(12):
        report.struck(KINDS[0], 1.5)
    report.unknowns[Ended.ASKED, "posted"] = 3
    return report


def test_a_run_passes_when_enough_happened_and_nothing_is_wrong() -> None:
    report = passed()
    assert report.failures() == []
    assert as_object(report)["ok"] is True
    assert "Nothing was lost" in as_table(report)


def breakage() -> dict[str, Report]:
    broken = {name: passed() for name in ("lost", "doubled", "wrong", "no outcome", "not recover")}
    broken["lost"].lost = ["a transfer"]
    broken["doubled"].doubled = ["a transfer"]
    broken["wrong"].wrong = ["verify"]
    broken["no outcome"].undecided = ["a transfer"]
    broken["not recover"].struck(KINDS[0], None)
    few = {name: passed() for name in ("faults, wanted", "no kill gateway", "acknowledged, wanted", "ever unknown")}
    few["faults, wanted"].recoveries["kill gateway"] = [1.0]
    few["no kill gateway"].recoveries = {"stop gateway": [1.0] * 12}
    few["acknowledged, wanted"].acknowledged = 10
    few["ever unknown"].unknowns.clear()
    return broken | few


@pytest.mark.parametrize("why", breakage())
def test_a_run_fails_for_each_reason_and_names_it(why: str) -> None:
    report = breakage()[why]
    [failure] = report.failures()
    assert why in failure
    assert failure in as_table(report)
    assert as_object(report)["ok"] is False


@pytest.mark.parametrize(("code", "findings"), [(0, 0), (3, 2)])
def test_open_findings_of_verify_are_told_and_fail_no_run(code: int, findings: int) -> None:
    assert judged(code, {"ok": True, "first_violation": None, "open_findings": findings}) == (findings, "")
    report = passed()
    report.open_findings = findings
    assert report.failures() == []
    assert as_object(report)["open_findings"] == findings
    assert f"open: {findings}\n" in as_table(report)


@pytest.mark.parametrize("code", [1, 2, -9, None])
def test_a_verify_that_failed_or_could_not_run_is_wrong(code: int | None) -> None:
    assert (
        f"verify ended with {code}"
        in judged(code, {} if code != 1 else {"ok": False, "first_violation": "entries 7"})[1]
    )


MIX = {"status": "completed", "received": "2.5", "fee": "0.5", "paid": "2", "remaining": "0"}


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "waiting"},
        {"status": "stuck"},
        {"paid": "1.9"},
        {"received": "5"},
        {"remaining": "0.1", "fee": "0.4"},
    ],
)
def test_a_mix_that_is_not_completed_or_not_what_the_network_shows_fails_a_run(changed: dict[str, str]) -> None:
    assert fault_of_mix(MIX, Decimal("2.5"), Decimal(2)) == ""
    assert fault_of_mix(MIX | changed, Decimal("2.5"), Decimal(2))
    assert fault_of_mix(MIX, Decimal(5), Decimal(2))
    assert fault_of_mix(MIX, Decimal("2.5"), Decimal(4))


FIRST: Mapping[str, object] = {"id": "t", "settled": False, "balances": {"a": "1"}, "links": {"self": "/t"}}


def answered(status: int, body: Mapping[str, object], *, tells_write: bool = True) -> Command:
    answer = Answer(status, body, "op", tells_write=tells_write)
    return Command("transfer", "POST", "/v1/transfers", {}, "key", "op", "", answer=answer if tells_write else None)


@pytest.mark.parametrize(
    ("second", "differs"),
    [
        (answered(201, FIRST), ""),
        (answered(201, FIRST | {"settled": True, "links": {}, "balances": {"a": "1", "b": "2"}}), ""),
        (answered(201, FIRST, tells_write=False), ""),
        (answered(200, FIRST), "201, then 200"),
        (answered(201, FIRST | {"balances": {"a": "2"}}), "balances is"),
        (answered(201, FIRST | {"reference": "r"}), "reference is None"),
        (answered(201, {"id": "t"}), "balances is"),
    ],
)
def test_a_repeat_has_the_status_and_the_body_of_the_first_answer(second: Command, differs: str) -> None:
    found = difference(answered(201, FIRST), second)
    assert found.startswith(differs)
    assert bool(found) == bool(differs)
