"""Amounts in suspense: an operator decides who gets each."""

import json
import re
from dataclasses import replace
from typing import Final

from services.gateway.store.operations import read_operation
from services.gateway.store.operator import SuspenseItem, read_suspense_item
from services.gateway.usecases.decisions import record_decision
from services.gateway.usecases.faults import NotFound
from services.gateway.usecases.state import AppState
from services.gateway.usecases.submit import Submission, SubmissionStatus, Write, submit
from shared.domain.ids import OPERATOR, SYSTEM_ACCOUNT_ID, AccountId, AssetCode, CommandId, partition_of
from shared.messages import Posting, PostTransaction

SEQ: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


async def suspense_item(state: AppState, name: str) -> SuspenseItem:
    """The item of this name, resolved or not. Raises NotFound or DatabaseUnavailable."""
    account, _, seq = name.rpartition(":")
    if not SYSTEM_ACCOUNT_ID.fullmatch(account) or not SEQ.fullmatch(seq):
        raise NotFound("amount in suspense")
    found = await read_suspense_item(state.database, account, int(seq))
    if found is None:
        raise NotFound("amount in suspense")
    return found


async def resolve_suspense(write: Write, name: str, destination: AccountId, metadata: str | None) -> Submission:
    """Moves the whole amount to `destination`, by a transaction that names the item as its reference.

    However often and by whomever it is asked for, the amount moves once: its command's id derives from the item. After
    a rejection it may be tried again, but not with the same idempotency key, whose use is recorded before. An item that
    another transaction has resolved is asked for under that one's id, so nothing moves. Raises NotFound,
    CommandNotSent, TooManyCommands, DatabaseUnavailable.
    """
    state = write.state
    item = await suspense_item(state, name)
    identity = await _resolution(state, item, name)
    if write.has_key:
        decision = await record_decision(write, "suspense.resolve.v1", name, {"transaction": identity})
        if decision.status is not SubmissionStatus.POSTED:
            return decision
        if decision.is_replayed:
            identity = await _decided_before(state, write.id)
    source = AccountId(item.account_id)
    posting = Posting(source=source, destination=destination, amount=item.amount, asset=AssetCode(item.asset))
    write = replace(write, id=identity, has_key=False, is_repeat=True)
    command = PostTransaction(
        kind="transfer.v1", **write.header(), postings=(posting,), reference=name, metadata=metadata
    )
    scale = await state.assets.scale(item.asset)
    return await submit(write, command, partition_of(source, state.ledger.partitions), scale=scale)


async def _resolution(state: AppState, item: SuspenseItem, name: str) -> CommandId:
    """The id of the command that moves the item: of the one that did, else the first that was not rejected."""
    if item.resolved_by is not None:
        return CommandId(item.resolved_by)
    attempt = 0
    while True:
        identity = state.ids.of_key(OPERATOR, f"{name}:{attempt}")
        recorded = await read_operation(state.database, identity)
        if recorded is None or recorded.outcome != "rejected":
            return identity
        attempt += 1


async def _decided_before(state: AppState, decision: CommandId) -> CommandId:
    """The id of the command that this decision asked for. Raises NotFound or DatabaseUnavailable."""
    recorded = await read_operation(state.database, decision)
    if recorded is None or recorded.metadata is None:
        raise NotFound("decision")
    return CommandId(json.loads(recorded.metadata)["transaction"])
