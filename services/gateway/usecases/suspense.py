"""Amounts in suspense: an operator decides who gets each."""

import re
from dataclasses import replace
from typing import Final

from services.gateway.store.operations import read_operation
from services.gateway.store.operator import SuspenseItem, list_suspense
from services.gateway.usecases.faults import NotFound
from services.gateway.usecases.state import AppState
from services.gateway.usecases.submit import Submission, Write, submit
from shared.domain.ids import SYSTEM_ACCOUNT_ID, AccountId, AssetCode, CommandId, partition_of
from shared.journal.suspense import item_key, resolution_id
from shared.messages import Posting, PostTransaction

SEQ: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


async def suspense_item(state: AppState, name: str) -> SuspenseItem:
    """The item of this name, resolved or not. Raises NotFound or DatabaseUnavailable."""
    account, _, seq = name.rpartition(":")
    if not SYSTEM_ACCOUNT_ID.fullmatch(account) or not SEQ.fullmatch(seq):
        raise NotFound("amount in suspense")
    found = await list_suspense(state.database, (account, int(seq) - 1), 1, resolved=True)
    if not found or item_key(found[0].account_id, found[0].seq) != name:
        raise NotFound("amount in suspense")
    return found[0]


async def resolve_suspense(write: Write, name: str, destination: AccountId, metadata: str | None) -> Submission:
    """Moves the whole amount to `destination`, by a transaction that names the item as its reference.

    However often and by whomever it is asked for, the amount moves once: its command's id derives from the item. After
    a rejection it may be tried again. An item that another transaction has resolved is asked for under that one's id,
    so nothing moves. Raises NotFound, CommandNotSent, TooManyCommands, DatabaseUnavailable.
    """
    state = write.state
    item = await suspense_item(state, name)
    attempt = 0
    while True:
        identity = resolution_id(name, attempt) if item.resolved_by is None else CommandId(item.resolved_by)
        recorded = await read_operation(state.database, identity)
        if recorded is None or recorded.outcome != "rejected":
            break
        attempt += 1
    source = AccountId(item.account_id)
    posting = Posting(source=source, destination=destination, amount=item.amount, asset=AssetCode(item.asset))
    write = replace(write, id=identity, has_key=False, is_repeat=True)
    command = PostTransaction(
        kind="transfer.v1", **write.header(), postings=(posting,), reference=name, metadata=metadata
    )
    scale = await state.assets.scale(item.asset)
    return await submit(write, command, partition_of(source, state.ledger.partitions), scale=scale)
