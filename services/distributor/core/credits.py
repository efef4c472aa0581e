"""Credits of mixes and their states."""

from enum import StrEnum
from typing import Final

from shared.domain.lifecycle import Lifecycle
from shared.domain.values import value
from shared.mixer.claimed_rows import ClaimedRow


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
