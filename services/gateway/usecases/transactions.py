"""Transactions: posted, read one by one, and listed."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from services.gateway.store.transaction_lists import (
    ListedTransaction,
    ListPlace,
    TransactionFilter,
    list_transactions,
)
from services.gateway.store.transactions import PostingFacts, Reader, TransactionFacts, read_transaction
from services.gateway.usecases.caller import Caller
from services.gateway.usecases.faults import NotAllowed, NotFound
from services.gateway.usecases.refuse import refuse_amount
from services.gateway.usecases.state import AppState, UnknownAsset
from services.gateway.usecases.submit import Submission, Write, submit
from shared.domain.ids import SYSTEM_PREFIXES, UUID_TEXT, AccountId, AssetCode, partition_of, system_account
from shared.domain.money import AmountError, parse_amount
from shared.domain.values import value
from shared.messages import Posting, PostTransaction

TransactionKind: TypeAlias = Literal["deposit.v1", "withdrawal.v1", "transfer.v1"]


@value
class TransactionOrder:
    """A transaction of one posting that a client asks for. `amount` in units of the asset, `metadata` as JSON text."""

    kind: TransactionKind
    source: AccountId
    destination: AccountId
    amount: str
    asset: AssetCode
    reference: str | None
    metadata: str | None


def world_account(state: AppState, asset: AssetCode, account: AccountId) -> AccountId:
    """The system account that deposits to this account debit and its withdrawals credit, in the same partition."""
    return system_account("world", asset, partition_of(account, state.ledger.partitions))


def check_names(caller: Caller, *accounts: AccountId) -> None:
    """Raises NotAllowed when a caller without `admin` names an account of the ledger itself."""
    for account in accounts:
        if account.startswith(SYSTEM_PREFIXES) and not caller.admin:
            raise NotAllowed(f"{account} belongs to the ledger itself: this needs the scope `admin`")


async def post_transaction(write: Write, order: TransactionOrder) -> Submission:
    """Posts one posting. Raises InvalidField, CommandNotSent, TooManyCommands, DatabaseUnavailable."""
    state = write.state
    try:
        scale = await state.assets.scale(order.asset)
        amount = parse_amount(order.amount, scale)
    except (UnknownAsset, AmountError) as fault:
        return await refuse_amount(write, order.kind, fault, "amount")
    command = PostTransaction(
        kind=order.kind,
        **write.header(),
        postings=(Posting(source=order.source, destination=order.destination, amount=amount, asset=order.asset),),
        reference=order.reference,
        metadata=order.metadata,
    )
    return await submit(write, command, partition_of(order.source, state.ledger.partitions), scale=scale)


async def posted_transaction(write: Write, submission: Submission) -> TransactionFacts:
    """The transaction that was posted, from the reply if that says everything, else from the journal.

    Raises DatabaseUnavailable.
    """
    if submission.transaction is not None:
        return submission.transaction
    command, outcome = submission.command, submission.outcome
    # The reply does not name the transaction that returned a credit: only the journal does.
    if (
        outcome is None
        or not isinstance(command, PostTransaction)
        or any(settled.returned for settled in submission.settled)
    ):
        return await transaction(write.state, write.caller, command.id)
    balances = dict(outcome.balances)
    for settled in submission.settled:
        if settled.balance is not None:
            balances[settled.account] = settled.balance
    return TransactionFacts(
        command.id,
        command.kind,
        [PostingFacts(each.source, each.destination, each.amount, each.asset) for each in command.postings],
        balances,
        settled=True,
        reference=command.reference,
        metadata=command.metadata,
        recorded_at_us=outcome.recorded_at_us,
    )


async def transaction(state: AppState, caller: Caller, identity: str) -> TransactionFacts:
    """The transaction, if the caller may see it. Raises NotFound or DatabaseUnavailable."""
    reader = _reader(caller)
    found = await read_transaction(state.database, reader, identity) if UUID_TEXT.fullmatch(identity) else None
    if found is None:
        raise NotFound("transaction")
    return found


async def transactions(
    state: AppState, caller: Caller, wanted: TransactionFilter, place: ListPlace, limit: int
) -> list[ListedTransaction]:
    """Transactions that the caller may see, newest first, older than `place`. Raises DatabaseUnavailable."""
    return await list_transactions(state.database, _reader(caller), wanted, place, limit)


async def scales_of(state: AppState, found: Sequence[TransactionFacts]) -> dict[str, int]:
    """Asset → scale, for every asset that these transactions name."""
    codes = {posting.asset for facts in found for posting in facts.postings}
    return {code: await state.assets.scale(code) for code in codes}


def _reader(caller: Caller) -> Reader:
    return Reader(caller.principal, caller.admin)
