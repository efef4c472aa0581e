"""Deposits and their states."""

from enum import StrEnum
from typing import Final

from shared.domain.lifecycle import Lifecycle
from shared.domain.values import value
from shared.mixer.claimed_rows import ClaimedRow, Leg
from shared.mixer.jobcoin_rows import ListedRow


class DepositState(StrEnum):
    """Seen twice in the list; a sweep is under way; the sweep was seen in the list; the ledger has it; stuck."""

    SEEN = "seen"
    SWEEPING = "sweeping"
    SWEPT = "swept"
    CREDITED = "credited"
    STUCK = "stuck"


DEPOSIT_LIFECYCLE: Final = Lifecycle[StrEnum]("deposit", {
    DepositState.SEEN: frozenset({DepositState.SWEEPING, DepositState.STUCK}),
    # Back only once the list proves that the sweep was not applied.
    DepositState.SWEEPING: frozenset({DepositState.SWEPT, DepositState.SEEN, DepositState.STUCK}),
    DepositState.SWEPT: frozenset({DepositState.CREDITED, DepositState.STUCK}),
    DepositState.CREDITED: frozenset(),
    # An operator decides; coins that were swept are never swept again.
    DepositState.STUCK: frozenset({DepositState.SEEN, DepositState.SWEEPING, DepositState.SWEPT}),
})  # fmt: skip
SWEEP: Final = Leg("sweep", DepositState.SEEN, DepositState.SWEEPING, DepositState.SWEPT, is_read_at_source=True)


@value
class Deposit(ClaimedRow):
    """A claimed deposit. `minor` is its amount in minor units of JOB, rounded down.

    `credit_operation` is the operation that credited it.
    """

    state: DepositState
    mix: str
    listed: ListedRow
    minor: int
    credit_attempt: int
    credit_operation: str | None = None
