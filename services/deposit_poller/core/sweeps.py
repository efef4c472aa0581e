"""Sweeps: one transfer of everything that lies unswept at a deposit address, and one credit for it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from shared.domain.lifecycle import Lifecycle
from shared.domain.money import AMOUNT_MINOR_MAX
from shared.domain.values import value
from shared.mixer.claimed_rows import ClaimedRow, Leg
from shared.mixer.jobcoin_rows import COIN_DIGITS_MAX, COIN_SCALE, UNITS_PER_MINOR, Address

# The ledger credits no more at once. A single deposit that is greater is swept by itself, and is stuck after that.
SWEEP_UNITS_MAX: Final = AMOUNT_MINOR_MAX * UNITS_PER_MINOR


class SweepState(StrEnum):
    """Planned; its transfer is under way; it was seen in the list; credited; stuck; given up by an operator."""

    PLANNED = "planned"
    SENDING = "sending"
    SEEN = "seen"
    CREDITED = "credited"
    STUCK = "stuck"
    CANCELLED = "cancelled"


SWEEP_LIFECYCLE: Final = Lifecycle[StrEnum]("sweep", {
    # An operator may give up what was never sent.
    SweepState.PLANNED: frozenset({SweepState.SENDING, SweepState.STUCK, SweepState.CANCELLED}),
    # Back only once the list proves that the transfer was not applied.
    SweepState.SENDING: frozenset({SweepState.SEEN, SweepState.PLANNED, SweepState.STUCK}),
    # Coins that were swept are never swept again.
    SweepState.SEEN: frozenset({SweepState.CREDITED, SweepState.STUCK}),
    SweepState.CREDITED: frozenset(),
    # An operator decides.
    SweepState.STUCK: frozenset({SweepState.PLANNED, SweepState.SENDING, SweepState.SEEN, SweepState.CANCELLED}),
    SweepState.CANCELLED: frozenset(),
})  # fmt: skip
SWEEP: Final = Leg("sweep", SweepState.PLANNED, SweepState.SENDING, SweepState.SEEN, is_read_at_source=True)


@value
class Sweep(ClaimedRow):
    """A claimed sweep of `units`, the exact sum of its deposits.

    `credit` is what it is worth in minor units, once it was seen; `credit_operation` is the operation that credited it.
    """

    state: SweepState
    mix: str
    address: Address
    units: int
    credit_attempt: int
    credit: int | None = None
    credit_operation: str | None = None


@value
class UnsweptDeposit:
    """A confirmed deposit that no sweep collects yet."""

    id: str
    units: int


def collected(deposits: Sequence[UnsweptDeposit]) -> Sequence[UnsweptDeposit]:
    """Those that one sweep takes, the greatest first: as many as the ledger credits at once and the network moves.

    An amount has so many digits at most, so dust of the last digit must not join what is large.
    """
    taken, total = list[UnsweptDeposit](), 0
    for deposit in sorted(deposits, key=lambda each: each.units, reverse=True):
        together = total + deposit.units
        if not taken or (together <= SWEEP_UNITS_MAX and _digits(together) <= COIN_DIGITS_MAX):
            taken.append(deposit)
            total = together
    return taken


def _digits(units: int) -> int:
    whole, fraction = divmod(units, 10**COIN_SCALE)
    return len(str(whole)) + len(f"{fraction:0{COIN_SCALE}d}".rstrip("0"))


def credit_of(rest: int, units: int) -> tuple[int, int]:
    """Minor units to credit for a sweep of `units` after an uncredited `rest`, and the rest after it."""
    return divmod(rest + units, UNITS_PER_MINOR)
