"""Payouts, their states, and the two transfers of which each consists.

The network has no idempotency, so a payout goes through an address that is used once: house → `pay-<intent id>` →
destination. That address receives the amount once, so the network's check of the balance lets it be paid on only once.
"""

from enum import StrEnum
from typing import Final

from shared.domain.lifecycle import InvariantBroken, Lifecycle
from shared.domain.values import value
from shared.mixer.claimed_rows import ClaimedRow, Leg
from shared.mixer.jobcoin_rows import UNITS_PER_MINOR, Address, Transfer


class PayoutState(StrEnum):
    """Planned; held in the ledger; on the way to the one-shot address; there; on the way on; seen; captured; stuck.

    Resolving, cancelling: an operator decided that it ends so, and the ledger is to follow.
    """

    PLANNED = "planned"
    HELD = "held"
    FUNDING = "funding"
    FUNDED = "funded"
    SENDING = "sending"
    SENT = "sent"
    PAID = "paid"
    STUCK = "stuck"
    RESOLVING = "resolving"
    RESOLVED = "resolved"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({PayoutState.PAID, PayoutState.RESOLVED, PayoutState.CANCELLED})
# Before coins leave the house, an operator may end it either way.
ENDING: Final = frozenset({PayoutState.RESOLVING, PayoutState.CANCELLING})
PAYOUT_LIFECYCLE: Final = Lifecycle[StrEnum]("payout", {
    PayoutState.PLANNED: frozenset({PayoutState.HELD, PayoutState.STUCK, *ENDING}),
    PayoutState.HELD: frozenset({PayoutState.FUNDING, PayoutState.STUCK, *ENDING}),
    # Back only once the list proves that the transfer was not applied.
    PayoutState.FUNDING: frozenset({PayoutState.FUNDED, PayoutState.HELD, PayoutState.STUCK}),
    PayoutState.FUNDED: frozenset({PayoutState.SENDING, PayoutState.STUCK, PayoutState.RESOLVING}),
    PayoutState.SENDING: frozenset({PayoutState.SENT, PayoutState.FUNDED, PayoutState.STUCK}),
    # What the list showed is never sent again: only the capture is left.
    PayoutState.SENT: frozenset({PayoutState.PAID, PayoutState.STUCK}),
    PayoutState.PAID: frozenset(),
    # An operator decides: what is stuck is tried again from where it was, or ends otherwise.
    PayoutState.STUCK: frozenset(set(PayoutState) - {PayoutState.STUCK, *ENDED}),
    PayoutState.RESOLVING: frozenset({PayoutState.RESOLVED, PayoutState.STUCK}),
    PayoutState.RESOLVED: frozenset(),
    # Nothing was sent, so nothing is sent from here on either.
    PayoutState.CANCELLING: frozenset({PayoutState.CANCELLED, PayoutState.STUCK}),
    PayoutState.CANCELLED: frozenset(),
})  # fmt: skip
# Both transfers are looked for at the one-shot address, which has no others.
FUND: Final = Leg("fund", PayoutState.HELD, PayoutState.FUNDING, PayoutState.FUNDED, is_read_at_source=False)
PAY: Final = Leg("pay", PayoutState.FUNDED, PayoutState.SENDING, PayoutState.SENT, is_read_at_source=True)


def one_shot_address(intent_id: str) -> Address:
    """The address that one funding goes through: a new one for each attempt, so that late coins meet no others."""
    return Address(f"pay-{intent_id}")


@value
class Payout(ClaimedRow):
    """A claimed payout. `amount` is minor units of JOB, `address` the one-shot address of the last funding."""

    state: PayoutState
    mix: str
    destination: Address
    amount: int
    hold: str | None
    address: Address | None
    hold_attempt: int
    capture_attempt: int

    def transfer(self, leg: Leg, house: Address) -> Transfer:
        """What this leg moves. Raises InvariantBroken while there is no one-shot address."""
        if self.address is None:
            raise InvariantBroken(f"payout {self.id} has no address to go through")
        source, destination = (house, self.address) if leg is FUND else (self.address, self.destination)
        return Transfer(source, destination, self.amount * UNITS_PER_MINOR)
