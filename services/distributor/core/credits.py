"""Credits of mixes, their states, and how a credit is divided.

Into the fee, and increments of random amounts at random times whose sum is exact.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, TypeAlias

from shared.domain.lifecycle import Lifecycle
from shared.domain.values import value
from shared.mixer.claimed_rows import ClaimedRow

PPM: Final = 1_000_000
INCREMENTS_PER_DESTINATION_MIN: Final = 2
INCREMENTS_PER_DESTINATION_MAX: Final = 4
# So an increment is between a third and three times any other of its plan.
WEIGHT_MIN: Final = 50
WEIGHT_MAX: Final = 150
# Where the amount allows, increments are whole multiples of 10^-8 JOB, so that they look like amounts people send.
GRAIN_MINOR: Final = 10**10
GRAINS_PER_INCREMENT_MIN: Final = 1_000


# Draws a whole number between two bounds, both included, as random.SystemRandom().randint does.
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


def plan(amount: int, terms: MixTerms, draw: DrawNumber) -> tuple[Increment, ...]:
    """Increments that add up to `amount` minor units. Each destination gets at least one if the amount suffices."""
    receivers = list(terms.destinations)
    for destination in terms.destinations:
        more = draw(INCREMENTS_PER_DESTINATION_MIN, INCREMENTS_PER_DESTINATION_MAX) - 1
        receivers.extend([destination] * more)
    weights = [draw(WEIGHT_MIN, WEIGHT_MAX) for _ in receivers]
    grain = GRAIN_MINOR if amount >= GRAIN_MINOR * GRAINS_PER_INCREMENT_MIN * len(receivers) else 1
    parts = [part * grain for part in split(amount // grain, weights)]
    parts[-1] += amount % grain
    return tuple(
        Increment(receiver, part, draw(terms.delay_ms_min, terms.delay_ms_max))
        for receiver, part in zip(receivers, parts, strict=True)
        if part > 0
    )
