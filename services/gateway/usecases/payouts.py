"""Payouts: an operator sees those that wait or are stuck, and decides how each goes on or ends.

The journal is the only road to the distributor, which finds the decision there and carries it out.
"""

from services.gateway.store.operations import read_operation
from services.gateway.store.payouts import OperatedPayout, read_operated_payout, read_payout_decision
from services.gateway.usecases.decisions import record_decision, taken_up
from services.gateway.usecases.faults import NotFound, WrongState
from services.gateway.usecases.state import AppState
from services.gateway.usecases.submit import Submission, SubmissionStatus, Write
from shared.domain.ids import UUID_TEXT
from shared.mixer.payout_decisions import KIND_OF, REFERENCE_PREFIX, PayoutVerb, refusal_of


async def operated_payout(state: AppState, identity: str) -> OperatedPayout:
    """The payout. Raises NotFound or DatabaseUnavailable."""
    found = await read_operated_payout(state.database, identity) if UUID_TEXT.fullmatch(identity) else None
    if found is None:
        raise NotFound("payout")
    return found


async def decide_payout(write: Write, verb: PayoutVerb, identity: str, why: str) -> tuple[Submission, bool | None]:
    """Writes the decision to the journal, and waits until the distributor has taken it up.

    The second value is True once it is applied, False if it came too late, None if nobody has taken it up in time.
    Raises NotFound, WrongState for what cannot be decided about the payout now, CommandNotSent, TooManyCommands,
    DatabaseUnavailable.
    """
    database = write.state.database
    payout = await operated_payout(write.state, identity)
    is_decided = write.has_key and await read_operation(database, write.id) is not None
    if not is_decided and (refusal := refusal_of(verb, payout.standing)) is not None:
        raise WrongState(refusal)
    submission = await record_decision(write, KIND_OF[verb], f"{REFERENCE_PREFIX}{payout.id}", {"why": why})
    if submission.status is not SubmissionStatus.POSTED:
        return submission, None
    return submission, await taken_up(write, read_payout_decision)
