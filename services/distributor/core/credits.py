"""Credits of mixes, their states, and how a credit is divided.

Into the fee, and increments of random amounts at random times whose sum is exact.
"""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, TypeAlias

from shared.domain.lifecycle import Lifecycle
from shared.domain.values import value
from shared.mixer.claimed_rows import ClaimedRow

PPM: Final = 1_000_000
INCREMENTS_PER_DESTINATION_MIN: Final = 2
INCREMENTS_PER_DESTINATION_MAX: Final = 4
# What is above the least increment is shared out by weights, so one share is between a third and three times any other.
WEIGHT_MIN: Final = 50
WEIGHT_MAX: Final = 150
# Where the amount allows, increments are whole multiples of 10^-8 JOB, so that they look like amounts people send.
GRAIN_MINOR: Final = 10**10
GRAINS_PER_INCREMENT_MIN: Final = 1_000


# Draws a whole number between two bounds, both included.
DrawNumber: TypeAlias = Callable[[int, int], int]


class CreditState(StrEnum):
    """Found in the journal; its fee is taken and its payouts are planned; stuck."""

    NEW = "new"
    PLANNED = "planned"
    STUCK = "stuck"


CREDIT_LIFECYCLE: Final = Lifecycle[StrEnum]("credit", {
    CreditState.NEW: frozenset({CreditState.PLANNED, CreditState.STUCK}),
    # A plan is written whole and never changed.
    CreditState.PLANNED: frozenset(),
    # An operator decides.
    CreditState.STUCK: frozenset({CreditState.NEW}),
})  # fmt: skip


@value
class MixCredit(ClaimedRow):
    """A claimed credit. Amounts are minor units of JOB."""

    state: CreditState
    mix: str
    amount: int
    fee_attempt: int
    # All that is random in the credit's plan follows from it.
    seed: str
    fee: int | None = None


@value
class MixTerms:
    """What an order asks for. The fee is in parts per million."""

    destinations: tuple[str, ...]
    fee_ppm: int
    delay_ms_min: int
    delay_ms_max: int


@value
class Increment:
    """A planned payout: `amount` minor units > 0, due `delay_ms` after the plan is written."""

    destination: str
    amount: int
    delay_ms: int


def fee_of(amount: int, fee_ppm: int) -> int:
    """The fee in minor units, rounded down: in the customer's favour."""
    return amount * fee_ppm // PPM


def split(amount: int, weights: Sequence[int]) -> list[int]:
    """Divides `amount` in proportion to the weights, by largest remainder. The parts add up to it exactly."""
    total = sum(weights)
    parts = [amount * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda index: amount * weights[index] % total, reverse=True)
    for index in by_remainder[: amount - sum(parts)]:
        parts[index] += 1
    return parts


def draws_from(seed: str) -> DrawNumber:
    """Random numbers that follow from `seed` alone: the n-th one from SHA-256 over the seed and n."""
    numbers = itertools.count()

    def draw(low: int, high: int) -> int:
        digest = hashlib.sha256(f"{seed}:{next(numbers)}".encode()).digest()
        return low + int.from_bytes(digest) % (high - low + 1)

    return draw


def plan(amount: int, terms: MixTerms, amount_min: int, seed: str) -> tuple[Increment, ...]:
    """Increments of at least `amount_min` minor units that add up to `amount`, all that is random being from `seed`.

    Each destination gets at least one if the amount suffices. Less than `amount_min` is one increment.
    """
    if amount == 0:
        return ()
    draw = draws_from(seed)
    receivers = _receivers(terms.destinations, amount // amount_min, draw)
    weights = [draw(WEIGHT_MIN, WEIGHT_MAX) for _ in receivers]
    grain = GRAIN_MINOR if amount >= GRAIN_MINOR * GRAINS_PER_INCREMENT_MIN * len(receivers) else 1
    least = -(-amount_min // grain) * grain
    if least * len(receivers) > amount:
        grain, least = 1, min(amount_min, amount)
    rest = amount - least * len(receivers)
    parts = [least + part * grain for part in split(rest // grain, weights)]
    parts[-1] += rest % grain
    return tuple(
        Increment(receiver, part, draw(terms.delay_ms_min, terms.delay_ms_max))
        for receiver, part in zip(receivers, parts, strict=True)
    )


def _receivers(destinations: Sequence[str], increments_max: int, draw: DrawNumber) -> list[str]:
    """Who gets each increment: every destination several, as long as there are no more than `increments_max` in all."""
    first, more = list(destinations), list[str]()
    for destination in destinations:
        more.extend([destination] * (draw(INCREMENTS_PER_DESTINATION_MIN, INCREMENTS_PER_DESTINATION_MAX) - 1))
    for receivers in (first, more):  # if not all get one, chance says who does
        for place in range(len(receivers) - 1, 0, -1):
            other = draw(0, place)
            receivers[place], receivers[other] = receivers[other], receivers[place]
    return (first + more)[: max(increments_max, 1)]
