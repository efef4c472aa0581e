"""A deposit's life, as a table."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from shared.jobcoin_rows import Address, Row, Transfer
from shared.values import value


class InvariantBroken(Exception):
    """The poller was about to do what a deposit's life does not allow."""


class DepositState(StrEnum):
    """Seen twice in the list; a sweep is under way; the sweep was seen in the list; the ledger has it."""

    SEEN = "seen"
    SWEEPING = "sweeping"
    SWEPT = "swept"
    CREDITED = "credited"
    STUCK = "stuck"


NEXT: Mapping[DepositState, frozenset[DepositState]] = MappingProxyType({
    DepositState.SEEN: frozenset({DepositState.SWEEPING, DepositState.STUCK}),
    # Back only once the list proves that the sweep was not applied.
    DepositState.SWEEPING: frozenset({DepositState.SWEPT, DepositState.SEEN, DepositState.STUCK}),
    DepositState.SWEPT: frozenset({DepositState.CREDITED, DepositState.STUCK}),
    DepositState.CREDITED: frozenset(),
    # An operator decided; coins that were swept are never swept again.
    DepositState.STUCK: frozenset({DepositState.SEEN, DepositState.SWEEPING, DepositState.SWEPT}),
})  # fmt: skip


def check_step(before: DepositState, after: DepositState) -> None:
    """Raises InvariantBroken unless the table allows it."""
    if after not in NEXT[before]:
        raise InvariantBroken(f"a deposit does not go from {before} to {after}")


@value
class Deposit:
    """A deposit that this process has claimed. Units are 10^-40 of a coin, `minor` the ledger's minor units of JOB.

    `rounds` counts how often the present step was tried in vain.
    """

    id: str
    mix: str
    row: Row
    occurrence: int
    minor: int
    state: DepositState
    rounds: int
    credit_attempt: int
    claim: int

    def sweep_to(self, house: Address) -> Transfer:
        """Exactly the listed amount: never the address's balance, which may hold another deposit too."""
        return Transfer(self.row.destination, house, self.row.units)
