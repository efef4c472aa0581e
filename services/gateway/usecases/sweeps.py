"""Deposits: an operator sees the sweeps that wait or are stuck, and decides how each goes on or ends."""

from services.gateway.store.operations import read_operation
from services.gateway.store.sweeps import OperatedSweep, read_operated_sweep, read_sweep_decision
from services.gateway.usecases.decisions import record_decision, taken_up
from services.gateway.usecases.faults import NotFound, WrongState
from services.gateway.usecases.state import AppState
from services.gateway.usecases.submit import Submission, SubmissionStatus, Write
from shared.domain.ids import UUID_TEXT
from shared.mixer.sweep_decisions import SWEEP_KIND_OF, SWEEP_REFERENCE_PREFIX, SweepVerb, sweep_refusal


async def operated_sweep(state: AppState, identity: str) -> OperatedSweep:
    """The sweep. Raises NotFound or DatabaseUnavailable."""
    found = await read_operated_sweep(state.database, identity) if UUID_TEXT.fullmatch(identity) else None
    if found is None:
        raise NotFound("sweep of deposits")
    return found


async def decide_sweep(write: Write, verb: SweepVerb, identity: str, why: str) -> tuple[Submission, bool | None]:
    """Writes the decision to the journal, and waits until the poller has taken it up; see `decide_payout`."""
    database = write.state.database
    sweep = await operated_sweep(write.state, identity)
    is_decided = write.has_key and await read_operation(database, write.id) is not None
    if not is_decided and (refusal := sweep_refusal(verb, sweep.standing)) is not None:
        raise WrongState(refusal)
    submission = await record_decision(write, SWEEP_KIND_OF[verb], f"{SWEEP_REFERENCE_PREFIX}{sweep.id}", {"why": why})
    if submission.status is not SubmissionStatus.POSTED:
        return submission, None
    return submission, await taken_up(write, read_sweep_decision)
