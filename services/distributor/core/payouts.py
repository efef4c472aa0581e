"""A payout's life, as a table, and the two transfers of which it consists.

The network has no ids, so a payout goes through an address that is used once: house → `pay-<intent>` → destination.
From an address that holds its amount once, the network's own check of the balance lets it be paid once.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from shared.jobcoin_rows import UNITS_PER_MINOR, Address, Transfer
from shared.values import value


class InvariantBroken(Exception):
    """The distributor was about to do what a payout's life does not allow."""


class PayoutState(StrEnum):
    """Planned; its funds are held; on its way to the one-shot address; there; on its way on; seen; captured."""

    PLANNED = "planned"
    HELD = "held"
    FUNDING = "funding"
    FUNDED = "funded"
    SENDING = "sending"
    SENT = "sent"
    PAID = "paid"
    STUCK = "stuck"


NEXT: Mapping[PayoutState, frozenset[PayoutState]] = MappingProxyType({
    PayoutState.PLANNED: frozenset({PayoutState.HELD, PayoutState.STUCK}),
    PayoutState.HELD: frozenset({PayoutState.FUNDING, PayoutState.STUCK}),
    # Back only once the list proves absence.
    PayoutState.FUNDING: frozenset({PayoutState.FUNDED, PayoutState.HELD, PayoutState.STUCK}),
    PayoutState.FUNDED: frozenset({PayoutState.SENDING, PayoutState.STUCK}),
    PayoutState.SENDING: frozenset({PayoutState.SENT, PayoutState.FUNDED, PayoutState.STUCK}),
    # What the list shows is never taken back: only the ledger is left to say so.
    PayoutState.SENT: frozenset({PayoutState.PAID, PayoutState.STUCK}),
    PayoutState.PAID: frozenset(),
    # An operator decided.
    PayoutState.STUCK: frozenset(set(PayoutState) - {PayoutState.STUCK, PayoutState.PLANNED}),
})  # fmt: skip


def check_step(before: PayoutState, after: PayoutState) -> None:
    """Raises InvariantBroken unless the table allows it."""
    if after not in NEXT[before]:
        raise InvariantBroken(f"a payout does not go from {before} to {after}")


@value
class Leg:
    """One of the two transfers: the states before it, while it is under way, and once it was seen."""

    name: str
    before: PayoutState
    under_way: PayoutState
    after: PayoutState


FUND: Final = Leg("fund", PayoutState.HELD, PayoutState.FUNDING, PayoutState.FUNDED)
PAY: Final = Leg("pay", PayoutState.FUNDED, PayoutState.SENDING, PayoutState.SENT)


def one_shot_address(intent: str) -> Address:
    """The address that one funding goes through: a new one for each attempt, so that a late one mixes with nothing."""
    return Address(f"pay-{intent}")


@value
class Payout:
    """A payout that this process has claimed. `amount` in minor units; `address` is the one-shot address, once chosen.

    `rounds` counts how often the present step was tried in vain.
    """

    id: str
    mix: str
    destination: Address
    amount: int
    state: PayoutState
    hold: str | None
    address: Address | None
    rounds: int
    hold_attempt: int
    capture_attempt: int
    claim: int

    def transfer(self, leg: Leg, house: Address) -> Transfer:
        """What this leg moves. Raises InvariantBroken before the one-shot address is chosen."""
        if self.address is None:
            raise InvariantBroken(f"payout {self.id} has no address to go through")
        source, destination = (house, self.address) if leg is FUND else (self.address, self.destination)
        return Transfer(source, destination, self.amount * UNITS_PER_MINOR)
