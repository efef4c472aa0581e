"""/v1/transactions: what moved money, one by one and in lists."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, NotRequired

from typing_extensions import TypedDict

from services.gateway.api.fields import AccountName, AssetName, ReferenceText
from services.gateway.http.instants import instant_of, instant_text, microseconds_of
from services.gateway.http.paging import page, position_of
from services.gateway.http.queries import TimedListQuery
from services.gateway.http.request import RequestContext
from services.gateway.http.response import HttpResponse, json_response, list_response
from services.gateway.http.routing import RouteTable
from services.gateway.store.transaction_lists import END_OF_TIME, ListedTransaction, ListPlace, TransactionFilter
from services.gateway.store.transactions import TransactionFacts
from services.gateway.usecases.transactions import scales_of, transaction, transactions
from shared.domain.api_keys import Scope
from shared.domain.money import format_amount

ROUTES: Final = RouteTable()


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
# A position newer than every transaction, see ListPlace; and no bound for what may be shown.
START: Final = (microseconds_of(END_OF_TIME), 0, 0, 0)


class TransactionsQuery(TimedListQuery):
    """All filters together."""

    account: AccountName | None = None
    asset: AssetName | None = None
    kind: Literal["deposit", "withdrawal", "transfer", "hold.capture", "return"] | None = None
    status: Literal["posted"] | None = None
    reference: ReferenceText | None = None

    def wanted(self, after: datetime | None, until: datetime | None) -> TransactionFilter:
        """The filter in terms of the journal, whose kinds have a version."""
        kind = None if self.kind is None else f"{self.kind}.v1"
        return TransactionFilter(self.account, self.asset, kind, self.reference, after, until)


def transaction_body(facts: TransactionFacts, scales: Mapping[str, int]) -> TransactionBody:
    """The transaction as clients see it. `scales`: asset → fraction digits, for every asset of its postings."""
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


@ROUTES.add("GET", "/v1/transactions/{id}", scopes=(Scope.READ,), answers={200: TransactionBody})
async def show(context: RequestContext) -> HttpResponse:
    """One transaction."""
    facts = await transaction(context.state, context.caller, context.path["id"])
    return json_response(200, transaction_body(facts, await scales_of(context.state, [facts])))


@ROUTES.add("GET", "/v1/transactions", scopes=(Scope.READ,), query=TransactionsQuery, answers={200: TransactionPage})
async def show_all(context: RequestContext) -> HttpResponse:
    """Transactions, newest first."""
    query = context.query(TransactionsQuery)
    recorded_at_us, partition, line, until_us = map(int, position_of(context, query, START))
    place = ListPlace(instant_of(recorded_at_us), partition, line)
    followed = await context.state.instants.follow(query.after_position, until_us)
    wanted = query.wanted(*query.times(followed.after_us, followed.until_us))
    found = await transactions(context.state, context.caller, wanted, place, query.limit + 1)
    rows, following = page(context, query, found, lambda row: [*_position(row), followed.until_us or 0])
    scales = await scales_of(context.state, [row.transaction for row in rows])
    shown = [transaction_body(row.transaction, scales) for row in rows]
    return list_response(shown, following, followed.position)


def _position(listed: ListedTransaction) -> tuple[int, int, int]:
    place = listed.place
    return microseconds_of(place.recorded_at), place.partition, place.line
