"""Which leases of other workers have ended, judged without the database's clock."""

from services.ledger_worker.engine.lease_watch import ABSENT_S_MAX, GAP_S_MAX, LOOK_S, LeaseWatch
from services.ledger_worker.ports import ForeignLease, Lease
from shared.domain.ids import Partition

TTL_S = 10.0
LEASE = Lease(Partition(3), 7)


class HandClock:
    """Monotonic time that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic_s(self) -> float:
        return self.seconds

    def now_ns(self) -> int:
        return 0

    async def sleep(self, seconds: float, /) -> None:
        self.seconds += seconds


class Watching:
    """A watch that looks every LOOK_S."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.watch = LeaseWatch(self.clock, TTL_S)

    def look(self, renewal: str = "never", *, lease: Lease = LEASE, is_absent: bool = False) -> list[Lease]:
        self.clock.seconds += LOOK_S
        return self.watch.ended([ForeignLease(lease, renewal, is_absent)])

    def looks_until_ended(self, *, is_absent: bool) -> float:
        began_s = self.clock.seconds
        while not self.look(is_absent=is_absent):
            assert self.clock.seconds - began_s < 10 * TTL_S
        return self.clock.seconds - began_s


def test_a_lease_whose_worker_is_gone_ends_long_before_it_runs_out() -> None:
    assert ABSENT_S_MAX <= Watching().looks_until_ended(is_absent=True) < ABSENT_S_MAX + 2 * LOOK_S + 0.01


def test_a_lease_that_is_not_renewed_ends_after_its_time_whatever_instant_the_database_shows() -> None:
    assert TTL_S < Watching().looks_until_ended(is_absent=False) < TTL_S + 2 * LOOK_S + 0.01


def test_a_worker_that_is_connected_again_in_time_keeps_its_lease() -> None:
    it = Watching()
    assert it.look(is_absent=True) == it.look(is_absent=True) == []
    assert it.look(is_absent=False) == []
    assert it.look(is_absent=True) == it.look(is_absent=True) == []


def test_a_lease_that_is_renewed_does_not_end() -> None:
    it = Watching()
    for number in range(200):
        assert it.look(str(number // 8)) == []


def test_an_absence_is_counted_anew_for_each_epoch() -> None:
    it = Watching()
    for epoch in range(50):
        assert it.look(lease=Lease(Partition(3), epoch), is_absent=True) == []


def test_what_was_seen_before_the_watch_itself_was_stopped_does_not_count() -> None:
    it = Watching()
    it.look(is_absent=True)
    it.clock.seconds += GAP_S_MAX + 5 * TTL_S
    assert it.look(is_absent=True) == []
