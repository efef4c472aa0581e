"""Operators' decisions about payouts: what each makes of the payout that it meets. Pure."""

from services.distributor.core.payouts import PayoutState
from shared.domain.values import value
from shared.mixer.payout_decisions import PayoutStanding, PayoutVerb, refusal_of


@value
class PayoutDecision:
    """A decision in the journal. `operation` is its id."""

    operation: str
    payout: str
    verb: PayoutVerb


def state_after(verb: PayoutVerb, payout: PayoutStanding) -> PayoutState | None:
    """The state that the payout is in once the decision is applied; None: it came too late, and nothing changes."""
    if refusal_of(verb, payout) is not None:
        return None
    match verb:
        case "retry":
            return PayoutState(payout.done)
        case "resolve":
            return PayoutState.RESOLVING
        case "cancel":
            return PayoutState.CANCELLING
