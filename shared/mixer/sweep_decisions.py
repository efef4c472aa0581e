"""What an operator may decide about the sweep of deposits, by the state of its row. Pure.

The gateway refuses what is not allowed. The poller asks again when it carries a decision out.
"""

from typing import Final, Literal, TypeAlias

from shared.domain.values import value

SweepVerb: TypeAlias = Literal["retry", "resolve"]
SweepDecisionKind: TypeAlias = Literal["deposit.retry.v1", "deposit.resolve.v1"]
SWEEP_KIND_OF: Final[dict[SweepVerb, SweepDecisionKind]] = {
    "retry": "deposit.retry.v1",
    "resolve": "deposit.resolve.v1",
}
SWEEP_VERB_OF: Final[dict[str, SweepVerb]] = {kind: verb for verb, kind in SWEEP_KIND_OF.items()}
SWEEP_REFERENCE_PREFIX: Final = "sweep:"


@value
class SweepStanding:
    """Where a sweep stands. `done`: the last step that is done, also of one that is stuck; `waits`: it says why."""

    done: str
    is_stuck: bool
    waits: bool


def sweep_standing(state: str, stuck_in: str | None, reason: str | None) -> SweepStanding:
    """By the columns of its row."""
    return SweepStanding(stuck_in or state, is_stuck=stuck_in is not None, waits=reason is not None)


def sweep_refusal(verb: SweepVerb, sweep: SweepStanding) -> str | None:
    """Why this cannot be decided about the sweep now; None if it can."""
    if sweep.done == "credited":
        return "the deposits are credited"
    if sweep.done == "cancelled":
        return "the deposits are written off already"
    if not (sweep.is_stuck or sweep.waits):
        return "nothing is wrong with the deposits: they are being swept"
    if verb == "retry":
        return None
    if sweep.done == "sending":
        return "their transfer is under way, and its end is not known yet"
    return None if sweep.is_stuck or sweep.done == "planned" else "the coins are at the house: only the credit is left"
