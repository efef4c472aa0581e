"""What the long run of the bench concludes from its minutes."""

import pytest

from benchmarks.load import Counted
from benchmarks.long_run import TRANSIT_ROWS_MIN, LongRun, Minute


def minute(requests: int, rows: int = TRANSIT_ROWS_MIN) -> Minute:
    return Minute(Counted(requests, 60.0, 0, 0, 1.0, 2.0, 3.0, 0.5), rows, {"postgres": 1.5, "gateway-1": 0.5})


@pytest.mark.parametrize(
    ("run", "is_level"),
    [
        ([minute(9_000), minute(1_000), minute(860)], True),
        ([minute(9_000), minute(1_000), minute(840)], False),
        ([minute(9_000), minute(1_000), minute(1_000, TRANSIT_ROWS_MIN - 1)], False),
    ],
)
def test_the_last_minute_must_keep_up_with_the_second_on_enough_rows(run: list[Minute], *, is_level: bool) -> None:
    found = LongRun(run, {"ok": True})
    assert found.is_level is is_level
    assert ("NOT MET" in found.as_table()) is not is_level


def test_cpu_is_counted_for_a_thousand_transfers() -> None:
    assert minute(500).cpu_s_per_1000 == pytest.approx(4.0)
