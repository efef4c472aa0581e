"""What an operator may decide about a payout, by the state of its row. Pure.

The gateway refuses what is not allowed. The distributor asks again when it carries a decision out, since the payout may
have gone on meanwhile.
"""

from typing import Final, Literal, TypeAlias

from shared.domain.values import value

PayoutVerb: TypeAlias = Literal["retry", "resolve", "cancel"]
PayoutDecisionKind: TypeAlias = Literal["payout.retry.v1", "payout.resolve.v1", "payout.cancel.v1"]
KIND_OF: Final[dict[PayoutVerb, PayoutDecisionKind]] = {
    "retry": "payout.retry.v1",
    "resolve": "payout.resolve.v1",
    "cancel": "payout.cancel.v1",
}
VERB_OF: Final[dict[str, PayoutVerb]] = {kind: verb for verb, kind in KIND_OF.items()}
REFERENCE_PREFIX: Final = "payout:"

ENDED: Final = frozenset({"paid", "resolved", "cancelled"})
# A transfer was sent whose end is not known yet: until it is, nobody can say what the destination gets.
UNKNOWN: Final = frozenset({"funding", "sending"})
ENDING: Final = frozenset({"resolving", "cancelling"})


@value
class PayoutStanding:
    """Where a payout stands. `done`: the last step that is done, also of one that is stuck; `waits`: it says why."""

    done: str
    is_stuck: bool
    waits: bool


def standing_of(state: str, stuck_in: str | None, reason: str | None) -> PayoutStanding:
    """By the columns of its row."""
    return PayoutStanding(stuck_in or state, is_stuck=stuck_in is not None, waits=reason is not None)


def refusal_of(verb: PayoutVerb, payout: PayoutStanding) -> str | None:
    """Why this cannot be decided about the payout now; None if it can."""
    done = payout.done
    if done in ENDED:
        return f"the payout is {done}"
    if verb == "retry":
        return None if payout.is_stuck or payout.waits else "the payout does not wait for another try"
    if done in ENDING:
        return f"the payout is {done} already"
    if done in UNKNOWN:
        return "a transfer of the payout is under way, and its end is not known yet"
    if verb == "cancel":
        return None if done in {"planned", "held"} else "coins have left the house for the payout"
    return None if done != "sent" or payout.is_stuck else "the destination has its coins: only the ledger follows"
