"""The partitions that a worker owns."""

from services.ledger_worker.core.state import LedgerState
from services.ledger_worker.engine.ownership import OwnedPartitions
from services.ledger_worker.ports import JournalHead
from shared.domain.ids import Partition

HERE, THERE = Partition(0), Partition(1)


def test_a_partition_that_begins_again_is_still_being_given_back_and_one_that_is_taken_again_is_not() -> None:
    owned = OwnedPartitions(LedgerState(4))
    owned.begin(THERE, JournalHead(0, {}))
    owned.states[THERE].is_draining = True
    owned.restart({THERE: JournalHead(7, {})}, dict(owned.states))
    assert (owned.states[THERE].batch, owned.states[THERE].is_draining) == (7, True)
    owned.end(THERE)
    owned.begin(THERE, JournalHead(7, {}))
    assert not owned.states[THERE].is_draining


def test_a_partition_that_was_taken_again_meanwhile_keeps_its_newer_head() -> None:
    owned = OwnedPartitions(LedgerState(4))
    for partition in (HERE, THERE):
        owned.begin(partition, JournalHead(1, {}))
    seen = dict(owned.states)
    owned.begin(THERE, JournalHead(5, {HERE: 3}))
    owned.restart({HERE: JournalHead(2, {}), THERE: JournalHead(4, {})}, seen)
    assert [owned.states[partition].batch for partition in (HERE, THERE)] == [2, 5]
    assert owned.states[THERE].cursors == {HERE: 3}
