"""What is accused of having made a commit fail."""

from services.ledger_worker.core.state import LedgerState, PartitionState
from services.ledger_worker.engine.poison import PoisonIsolation
from shared.domain.ids import Partition
from tests.builders import Commands, account_in

MAKE = Commands()


def test_what_is_accused_is_rejected_until_that_is_committed() -> None:
    poison, partition = PoisonIsolation(), PartitionState(LedgerState(4), Partition(0), 0, {})
    guilty, other = (MAKE.transfer(account_in(0), account_in(1), 1) for _ in range(2))
    poison.accuse(guilty, "a NUL")
    assert (poison.is_active, poison.reason(other)) == (True, None)
    assert "a NUL" in str(poison.reason(guilty))
    rejected = poison.reject(partition, guilty)
    assert rejected is not None
    assert rejected.code == "internal_error"
    poison.clear([other.id])
    assert poison.is_active
    poison.clear([guilty.id])
    assert (poison.is_active, poison.reason(guilty)) == (False, None)


def test_what_is_accused_twice_is_given_no_outcome() -> None:
    poison, partition = PoisonIsolation(), PartitionState(LedgerState(4), Partition(0), 0, {})
    guilty = MAKE.transfer(account_in(0), account_in(1), 1)
    poison.accuse(guilty, "a NUL")
    poison.accuse(guilty, "another")
    assert "has no outcome" in str(poison.reason(guilty))
    assert poison.reject(partition, guilty) is None
    poison.clear([guilty.id])
    assert (poison.is_active, poison.reason(guilty)) == (False, None)
