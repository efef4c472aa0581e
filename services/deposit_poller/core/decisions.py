"""Operators' decisions about deposits: what each makes of the sweep that it meets. Pure."""

from services.deposit_poller.core.sweeps import SweepState
from shared.domain.values import value
from shared.mixer.sweep_decisions import SweepStanding, SweepVerb, sweep_refusal


@value
class SweepDecision:
    """A decision in the journal. `operation` is its id."""

    operation: str
    sweep: str
    verb: SweepVerb


def sweep_state_after(verb: SweepVerb, sweep: SweepStanding) -> SweepState | None:
    """The state that the sweep is in once the decision is applied; None: it came too late, and nothing changes."""
    if sweep_refusal(verb, sweep) is not None:
        return None
    return SweepState(sweep.done) if verb == "retry" else SweepState.CANCELLED
