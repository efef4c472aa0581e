"""/v1/transfers, /v1/deposits, /v1/withdrawals: one posting each. This is the path that must be short."""

from typing import Final, Literal

from services.gateway.auth import Caller
from services.gateway.commands import Posted, identify, refuse, submit
from services.gateway.context import not_found
from services.gateway.fields import (
    AccountName,
    AmountText,
    AssetName,
    Metadata,
    ReferenceText,
    canonical_amount,
    fingerprint,
    metadata_text,
    minor_units,
)
from services.gateway.problems import Fault, Refusal
from services.gateway.routes import Call, Route
from services.gateway.store.transactions import PostingFacts, TransactionFacts
from services.gateway.transactions import TRANSACTION, TransactionBody, read_body_of, transaction_body
from services.gateway.web.answers import Answer
from services.gateway.web.bodies import Body
from shared.api_keys import Scope
from shared.ids import SYSTEM_PREFIXES, AccountId, partition_of, system_account
from shared.messages import Move

MoveKind = Literal["deposit.v1", "withdrawal.v1", "transfer.v1"]


class _MoneyNew(Body):
    amount: AmountText
    asset: AssetName
    reference: ReferenceText | None = None
    metadata: Metadata | None = None


class TransferNew(_MoneyNew):
    """From one account to another of the same asset."""

    source: AccountName
    destination: AccountName


class DepositNew(_MoneyNew):
    """From the world to an account."""

    account: AccountName


class WithdrawalNew(_MoneyNew):
    """From an account to the world."""

    account: AccountName


async def transfer(call: Call) -> Answer:
    """Moves an amount between two accounts."""
    body = await call.body(TransferNew)
    refuse_system_names(call.caller, body.source, body.destination)
    return await _move(call, "transfer.v1", body, body.source, body.destination, "POST /v1/transfers")


async def deposit(call: Call) -> Answer:
    """Brings an amount in from the world. The world's account lies in the partition of the credited one."""
    body = await call.body(DepositNew)
    world = system_account("world", body.asset, partition_of(body.account, call.gateway.partitions))
    return await _move(call, "deposit.v1", body, world, body.account, "POST /v1/deposits")


async def withdraw(call: Call) -> Answer:
    """Takes an amount out to the world."""
    body = await call.body(WithdrawalNew)
    refuse_system_names(call.caller, body.account)
    world = system_account("world", body.asset, partition_of(body.account, call.gateway.partitions))
    return await _move(call, "withdrawal.v1", body, body.account, world, "POST /v1/withdrawals")


def refuse_system_names(caller: Caller, *accounts: AccountId) -> None:
    """Raises Refusal when a caller without `admin` names an account of the ledger itself."""
    for account in accounts:
        if account.startswith(SYSTEM_PREFIXES) and not caller.admin:
            raise Refusal(Fault.FORBIDDEN, f"{account} belongs to the ledger itself: this needs the scope `admin`")


async def _move(
    call: Call, kind: MoveKind, body: _MoneyNew, source: AccountId, destination: AccountId, route: str
) -> Answer:
    gateway, caller = call.gateway, call.caller
    metadata, identity = metadata_text(body.metadata), identify(call)
    amount_text = canonical_amount(body.amount)
    content = fingerprint(route, source, destination, amount_text, body.asset, body.reference, metadata)
    try:
        scale = await gateway.assets.scale(body.asset)
        amount = minor_units("amount", body.amount, scale)
    except Refusal as refusal:
        return await refuse(call, identity, kind, content, refusal)
    command = Move(
        kind=kind,
        id=identity.id,
        repeat=identity.repeat,
        principal=caller.principal,
        admin=caller.admin,
        fingerprint=content,
        source=source,
        destination=destination,
        amount=amount,
        asset=body.asset,
        reference=body.reference,
        metadata=metadata,
    )
    posted = await submit(call, command, partition_of(source, gateway.partitions), scale=scale)
    if isinstance(posted, Answer):
        return posted
    shown = _told(command, posted, scale) or await read_body_of(call, command.id)
    if shown is None:
        raise not_found("transaction")
    return posted.answer(201, TRANSACTION.dump_json(shown))


def _told(command: Move, posted: Posted, scale: int) -> TransactionBody | None:
    """The transaction as the reply told it; None when the journal must be asked, as of a credit that came back."""
    outcome = posted.outcome
    if outcome is None or any(settled.returned for settled in posted.settled):
        return None
    balances = dict(outcome.balances)
    for settled in posted.settled:
        if settled.balance is not None:
            balances[settled.account] = settled.balance
    posting = PostingFacts(command.source, command.destination, command.amount, command.asset)
    facts = TransactionFacts(
        command.id,
        command.kind,
        (posting,),
        balances,
        settled=True,
        reference=command.reference,
        metadata=command.metadata,
        recorded_at_us=outcome.recorded_at_us,
    )
    return transaction_body(facts, {command.asset: scale})


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/transfers",
        handler=transfer,
        scope=Scope.WRITE,
        body=TransferNew,
        answers={201: TransactionBody},
        summary="Move an amount between two accounts",
        writes=True,
    ),
    Route(
        method="POST",
        path="/v1/deposits",
        handler=deposit,
        scope=Scope.ADMIN,
        body=DepositNew,
        answers={201: TransactionBody},
        summary="Bring an amount in from the world",
        writes=True,
    ),
    Route(
        method="POST",
        path="/v1/withdrawals",
        handler=withdraw,
        scope=Scope.PAYOUT,
        body=WithdrawalNew,
        answers={201: TransactionBody},
        summary="Take an amount out to the world",
        writes=True,
    ),
)
