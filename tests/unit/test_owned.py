"""What a worker decides itself, and what it leaves to a partition's next owner."""

from services.ledger_worker.core.line import World
from services.ledger_worker.owned import Owned
from services.ledger_worker.ports import Head
from shared.ids import Partition

HERE, THERE, AWAY = Partition(0), Partition(1), Partition(2)


def test_a_command_is_decided_by_the_line_of_its_partition_whichever_queue_of_the_worker_brought_it() -> None:
    owned = Owned(World(4))
    for partition in (HERE, THERE):
        owned.begin(partition, Head(0, {}))
    assert owned.line_of(THERE, HERE) is owned.lines[THERE]
    assert owned.line_of(THERE, THERE) is owned.lines[THERE]
    assert owned.line_of(AWAY, HERE) is None


def test_a_line_being_given_back_finishes_what_its_own_queue_brought_and_takes_nothing_from_others() -> None:
    owned = Owned(World(4))
    for partition in (HERE, THERE):
        owned.begin(partition, Head(0, {}))
    owned.lines[THERE].is_draining = True
    assert owned.line_of(THERE, THERE) is owned.lines[THERE]
    assert owned.line_of(THERE, HERE) is None
    assert owned.line_of(HERE, HERE) is owned.lines[HERE]


def test_a_line_that_begins_again_is_still_being_given_back_and_one_that_is_taken_again_is_not() -> None:
    owned = Owned(World(4))
    owned.begin(THERE, Head(0, {}))
    owned.lines[THERE].is_draining = True
    owned.begin_again({THERE: Head(7, {})}, dict(owned.lines))
    assert (owned.lines[THERE].batch, owned.takeable()) == (7, [])
    owned.end(THERE)
    owned.begin(THERE, Head(7, {}))
    assert owned.takeable() == [THERE]
