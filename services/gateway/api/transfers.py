"""/v1/transfers, /v1/deposits, /v1/withdrawals: one posting each."""

from typing import Final

from services.gateway.api.fields import AccountName, AmountText, AssetName, Metadata, ReferenceText
from services.gateway.api.transactions import TransactionBody, transaction_body
from services.gateway.api.writes import answer_write, begin_write
from services.gateway.http.request import Body, RequestContext
from services.gateway.http.response import HttpResponse
from services.gateway.http.routing import RouteTable
from services.gateway.usecases.submit import canonical_amount
from services.gateway.usecases.transactions import (
    TransactionKind,
    TransactionOrder,
    check_names,
    post_transaction,
    posted_transaction,
    world_account,
)
from shared.domain.api_keys import Scope
from shared.domain.ids import AccountId
from shared.domain.metadata import canonical_json

ROUTES: Final = RouteTable()


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


@ROUTES.add("POST", "/v1/transfers", scopes=(Scope.WRITE,), body=TransferNew, answers={201: TransactionBody})
async def transfer(context: RequestContext) -> HttpResponse:
    """Move an amount between two accounts."""
    body = await context.body(TransferNew)
    check_names(context.caller, body.source, body.destination)
    return await _post(context, "transfer.v1", body, body.source, body.destination)


@ROUTES.add("POST", "/v1/deposits", scopes=(Scope.ADMIN,), body=DepositNew, answers={201: TransactionBody})
async def deposit(context: RequestContext) -> HttpResponse:
    """Bring an amount in from the world."""
    body = await context.body(DepositNew)
    world = world_account(context.state, body.asset, body.account)
    return await _post(context, "deposit.v1", body, world, body.account)


@ROUTES.add("POST", "/v1/withdrawals", scopes=(Scope.PAYOUT,), body=WithdrawalNew, answers={201: TransactionBody})
async def withdraw(context: RequestContext) -> HttpResponse:
    """Take an amount out to the world."""
    body = await context.body(WithdrawalNew)
    check_names(context.caller, body.account)
    world = world_account(context.state, body.asset, body.account)
    return await _post(context, "withdrawal.v1", body, body.account, world)


async def _post(
    context: RequestContext, kind: TransactionKind, body: _MoneyNew, source: AccountId, destination: AccountId
) -> HttpResponse:
    metadata = None if body.metadata is None else canonical_json(body.metadata)
    amount = canonical_amount(body.amount)
    write = begin_write(context, source, destination, amount, body.asset, body.reference, metadata)
    order = TransactionOrder(kind, source, destination, body.amount, body.asset, body.reference, metadata)
    submission = await post_transaction(write, order)

    async def show() -> TransactionBody:
        facts = await posted_transaction(write, submission)
        return transaction_body(facts, {body.asset: submission.scale})

    return await answer_write(submission, 201, show)
