"""/v1/transactions: what moved money, one by one and in lists."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from services.gateway.context import Assets, not_found
from services.gateway.fields import AccountName, AssetName
from services.gateway.pages import cursor_after, position_of
from services.gateway.routes import Call, Route
from services.gateway.store.accounts import read_account
from services.gateway.store.transaction_lists import (
    END_OF_TIME,
    Listed,
    Place,
    TransactionFilter,
    list_by_commit,
    list_of_account,
    list_of_owner,
)
from services.gateway.store.transactions import TransactionFacts, read_transaction
from services.gateway.web.answers import AWARE_EPOCH, Answer, instant_text, microseconds_of
from services.gateway.web.queries import Instant, ListQuery
from shared.api_keys import Scope
from shared.ids import UUID_TEXT
from shared.money import format_amount

SEQ_MAX: Final = 2**62


class PostingBody(TypedDict):
    """One movement."""

    source: str
    destination: str
    amount: str
    asset: str


class TransactionBody(TypedDict):
    """A transaction. `balances` are those after it, of accounts that the caller may read.

    `reversed_by` is the transaction that gave it back: its credit met an account that had closed meanwhile.
    """

    id: str
    kind: str
    status: Literal["posted"]
    settled: bool
    postings: list[PostingBody]
    balances: dict[str, str]
    reference: str | None
    metadata: dict[str, object] | None
    recorded_at: str
    reverses: NotRequired[str]
    reversed_by: NotRequired[str]
    links: dict[str, str]


TransactionPage = TypedDict("TransactionPage", {"data": list[TransactionBody], "next": str | None})  # noqa: UP013 - the API calls the field `data`
TRANSACTION: TypeAdapter[TransactionBody] = TypeAdapter(TransactionBody)
PAGE: TypeAdapter[TransactionPage] = TypeAdapter(TransactionPage)


class TransactionsQuery(ListQuery):
    """`after` and `before` are exclusive."""

    account: AccountName | None = None
    asset: AssetName | None = None
    kind: Literal["deposit", "withdrawal", "transfer", "hold.capture", "return"] | None = None
    status: Literal["posted"] | None = None
    reference: str | None = None
    after: Instant | None = None
    before: Instant | None = None

    def wanted(self) -> TransactionFilter:
        """The filter as the store understands it."""
        kind = None if self.kind is None else f"{self.kind}.v1"
        return TransactionFilter(self.asset, kind, self.reference, self.after, self.before)


def transaction_body(facts: TransactionFacts, scales: Mapping[str, int]) -> TransactionBody:
    """The transaction as clients see it. `scales` knows every asset of its postings."""
    postings: list[PostingBody] = []
    balances: dict[str, str] = {}
    for posting in facts.postings:
        source, destination, scale = posting.source, posting.destination, scales[posting.asset]
        amount = format_amount(posting.amount, scale)
        postings.append({"source": source, "destination": destination, "amount": amount, "asset": posting.asset})
        for account in (source, destination):
            if account in facts.balances:
                balances[account] = format_amount(facts.balances[account], scale)
    path = f"/v1/transactions/{facts.id}"
    body: TransactionBody = {
        "id": facts.id,
        "kind": facts.kind.removesuffix(".v1"),
        "status": "posted",
        "settled": facts.settled,
        "postings": postings,
        "balances": balances,
        "reference": facts.reference,
        "metadata": None if facts.metadata is None else json.loads(facts.metadata),
        "recorded_at": instant_text(facts.recorded_at_us),
        "links": {"self": path, "operation": f"/v1/operations/{facts.id}"},
    }
    if facts.reverses is not None:
        body["reverses"] = facts.reverses
        body["links"]["reverses"] = f"/v1/transactions/{facts.reverses}"
    if facts.reversed_by is not None:
        body["reversed_by"] = facts.reversed_by
        body["links"]["reversed_by"] = f"/v1/transactions/{facts.reversed_by}"
    return body


async def scales_of(assets: Assets, transactions: Sequence[TransactionFacts]) -> dict[str, int]:
    """Code → scale of every asset that they name."""
    codes = {posting.asset for facts in transactions for posting in facts.postings}
    return {code: await assets.scale(code) for code in codes}


async def read_body_of(call: Call, transaction: str) -> TransactionBody | None:
    """The transaction from the journal, if the caller may see it. Raises DatabaseUnavailable."""
    facts = await read_transaction(call.gateway.database, call.reader, transaction)
    return None if facts is None else transaction_body(facts, await scales_of(call.gateway.assets, [facts]))


async def show(call: Call) -> Answer:
    """One transaction."""
    transaction = call.path["id"]
    body = await read_body_of(call, transaction) if UUID_TEXT.fullmatch(transaction) else None
    if body is None:
        raise not_found("transaction")
    return Answer(200, TRANSACTION.dump_json(body))


async def show_all(call: Call) -> Answer:
    """Transactions, newest first."""
    query = call.query(TransactionsQuery)
    found = await _find(call, query)
    page = found[: query.limit]
    following = cursor_after(call, query, _position(page[-1])) if len(found) > len(page) else None
    facts = [each.transaction for each in page]
    scales = await scales_of(call.gateway.assets, facts)
    return Answer(200, PAGE.dump_json({"data": [transaction_body(each, scales) for each in facts], "next": following}))


async def _find(call: Call, query: TransactionsQuery) -> list[Listed]:
    """One more than the page holds, if there are so many."""
    database, reader, wanted, limit = call.gateway.database, call.reader, query.wanted(), query.limit + 1
    position = position_of(call, query)
    place, seq_max = (Place(), SEQ_MAX) if position is None else _place(*map(int, position))
    if query.account is not None:
        account = await read_account(database, query.account)
        if account is None or not (reader.admin or account.owner == reader.principal):
            return []
        return await list_of_account(
            database,
            reader,
            wanted,
            account=account.id,
            partition=account.partition,
            seq_max=seq_max,
            limit=limit,
        )
    if reader.admin or query.reference is not None:
        return await list_by_commit(database, reader, wanted, place=place, limit=limit)
    return await list_of_owner(database, reader, wanted, place=place, limit=limit)


def _position(listed: Listed) -> list[int]:
    recorded_at = 0 if listed.place.recorded_at == END_OF_TIME else microseconds_of(listed.place.recorded_at)
    return [recorded_at, listed.place.partition, listed.place.line, listed.seq]


def _place(recorded_at_us: int, partition: int, line: int, seq: int) -> tuple[Place, int]:
    recorded_at: datetime = AWARE_EPOCH + timedelta(microseconds=recorded_at_us)
    return Place(recorded_at, partition, line), seq


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/transactions",
        handler=show_all,
        scope=Scope.READ,
        query=TransactionsQuery,
        answers={200: TransactionPage},
        summary="Transactions, newest first",
    ),
    Route(
        method="GET",
        path="/v1/transactions/{id}",
        handler=show,
        scope=Scope.READ,
        answers={200: TransactionBody},
        summary="One transaction",
    ),
)
