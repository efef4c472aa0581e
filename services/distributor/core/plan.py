"""How a credit is divided: the fee, then increments of random amounts at random times whose sum is exact."""

from collections.abc import Sequence
from typing import Final, Protocol

from shared.domain.values import value

PPM: Final = 1_000_000
INCREMENTS_PER_DESTINATION_MIN: Final = 2
INCREMENTS_PER_DESTINATION_MAX: Final = 4
# So an increment is between a third and three times any other of its plan.
WEIGHT_MIN: Final = 50
WEIGHT_MAX: Final = 150
# Where the amount allows, increments are whole multiples of 10^-8 JOB, so that they look like amounts people send.
GRAIN_MINOR: Final = 10**10
GRAINS_PER_INCREMENT_MIN: Final = 1_000


class RandomSource(Protocol):
    """A source of random numbers, such as random.SystemRandom."""

    def randint(self, a: int, b: int, /) -> int:
        """A whole number from `a` to `b`, both included."""
        ...


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

    number: int
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


def plan(amount: int, terms: MixTerms, random_source: RandomSource) -> tuple[Increment, ...]:
    """Increments that add up to `amount` minor units. Each destination gets at least one if the amount suffices."""
    receivers = list(terms.destinations)
    for destination in terms.destinations:
        more = random_source.randint(INCREMENTS_PER_DESTINATION_MIN, INCREMENTS_PER_DESTINATION_MAX) - 1
        receivers.extend([destination] * more)
    weights = [random_source.randint(WEIGHT_MIN, WEIGHT_MAX) for _ in receivers]
    grain = GRAIN_MINOR if amount >= GRAIN_MINOR * GRAINS_PER_INCREMENT_MIN * len(receivers) else 1
    parts = [part * grain for part in split(amount // grain, weights)]
    parts[-1] += amount % grain
    paid = [(receiver, part) for receiver, part in zip(receivers, parts, strict=True) if part > 0]
    return tuple(
        Increment(number, receiver, part, random_source.randint(terms.delay_ms_min, terms.delay_ms_max))
        for number, (receiver, part) in enumerate(paid, start=1)
    )
