"""What may leave the ledger's own accounts."""

from services.ledger_worker.core.decide import decide
from services.ledger_worker.core.outcomes import CommandContext
from services.ledger_worker.core.state import LedgerState, PartitionState
from shared.domain.ids import Partition, system_account
from tests.builders import USD, Commands, account_in

MAKE = Commands()


def test_no_more_leaves_suspense_than_lies_there_while_the_other_accounts_of_the_ledger_may_owe() -> None:
    partition = PartitionState(LedgerState(4, {USD: 2}), Partition(2), 0, {})
    account, suspense = account_in(2), system_account("suspense", USD, Partition(2))

    def codes(*amounts: int) -> list[str | None]:
        commands = [MAKE.transfer(suspense, account, amount) for amount in amounts]
        return [decide(partition, command, CommandContext(None, 0)).code for command in commands]

    for command in (MAKE.open(account), MAKE.transfer(MAKE.world(account), suspense, 40)):
        assert decide(partition, command, CommandContext(None, 0)).code is None
    assert codes(41, 40, 1) == ["insufficient_funds", None, "insufficient_funds"]
