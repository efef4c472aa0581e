"""How many accounts a worker keeps in memory does not depend on how many partitions it owns."""

import pytest

from services.ledger_worker.core.accounts import LEDGER, Account
from services.ledger_worker.core.state import LedgerState
from services.ledger_worker.engine.ownership import OwnedPartitions
from services.ledger_worker.ports import JournalHead
from shared.domain.ids import Partition
from tests.builders import USD, account_in

ACCOUNTS_MAX = 160


@pytest.mark.parametrize("partitions", [1, 4, 64])
def test_the_bound_on_accounts_in_memory_is_one_for_all_partitions_of_a_worker(partitions: int) -> None:
    owned = OwnedPartitions(LedgerState(partitions))
    for partition in map(Partition, range(partitions)):
        owned.begin(partition, JournalHead(0, {}))
    for number in range(3_000):
        state = owned.states[Partition(number % partitions)]
        name = account_in(0)
        state.accounts[name] = Account(name, USD, LEDGER)
        owned.trim(ACCOUNTS_MAX)
        assert owned.accounts_cached() <= ACCOUNTS_MAX + ACCOUNTS_MAX // 16
    assert owned.accounts_cached() >= ACCOUNTS_MAX - partitions


def test_a_partition_keeps_its_share_of_what_is_in_memory_and_what_is_not_committed() -> None:
    owned = OwnedPartitions(LedgerState(2))
    for partition, count in ((Partition(0), 300), (Partition(1), 100)):
        owned.begin(partition, JournalHead(0, {}))
        for number in range(count):
            name = account_in(partition)
            batch = 1 if number < 5 else 0
            owned.states[partition].accounts[name] = Account(name, USD, LEDGER, batch=batch)
    owned.trim(40)
    assert [len(state.accounts) for state in owned.states.values()] == [30, 10]
    assert all(sum(known.batch == 1 for known in state.accounts.values()) == 5 for state in owned.states.values())
