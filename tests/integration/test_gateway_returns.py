"""A closed account takes no credit; one that was on its way when it closed comes back, and both sides say so."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared.domain.ids import Partition
from tests.backends.databases import Database
from tests.builders import account_in
from tests.contract.conditions import eventually_async
from tests.integration.conftest import Served
from tests.integration.gateway import Client, Stack, stack

Name = Callable[[str], str]
PARTITIONS = 4
EVENLY_SHARED = """
SELECT array_agg(owned) = '{2,2}' FROM (
       SELECT count(*) AS owned FROM ledger.partitions WHERE owner IS NOT NULL GROUP BY owner) AS shares
"""
NOT_OF_THE_FIRST = """
SELECT min(partition) FROM ledger.partitions
 WHERE owner <> (SELECT owner FROM ledger.partitions WHERE partition = 0)
"""


def transfer(source: str, destination: str, amount: str) -> dict[str, object]:
    return {"source": source, "destination": destination, "amount": amount, "asset": "USD"}


async def test_a_transfer_to_a_closed_account_is_refused_wherever_it_lives(served: Served, name: Name) -> None:
    api = served.client
    alice = await api.account(name("alice"), funds="10")
    for partition in range(PARTITIONS):
        closed = await api.account(account_in(partition, prefix=name("closed")))
        assert (await api.call("DELETE", f"/v1/accounts/{closed}")).status == 204
        told = await api.post("/v1/transfers", transfer(alice, closed, "1"))
        assert (told.status, told.code) == (422, "account_closed"), partition
    assert (await api.get(f"/v1/accounts/{alice}"))["balance"] == "10"


@pytest.fixture
def two_workers(database: Database, vhost: str, tmp_path: Path) -> Iterator[Stack]:
    """What one of them has read of the other's accounts may be out of date."""
    with stack(database, vhost, tmp_path) as running:
        running.worker()
        running.worker()
        yield running


async def closed_unheard_of(running: Stack, api: Client, owner: str = "bob") -> tuple[str, str]:
    """An account with 10 of alice's, and one of another worker that has been closed since the first knows of it."""
    await eventually_async(lambda: running.execute(EVENLY_SHARED))
    away = await running.execute(NOT_OF_THE_FIRST)
    assert isinstance(away, int)
    alice = await api.account(account_in(0), owner="alice", funds="11")
    bob = await api.account(account_in(Partition(away)), owner=owner)
    await api.made("/v1/transfers", transfer(alice, bob, "1"))
    await api.made("/v1/withdrawals", {"account": bob, "amount": "1", "asset": "USD"})
    assert (await api.call("DELETE", f"/v1/accounts/{bob}")).status == 204
    return alice, bob


async def settled(api: Client, transaction: object) -> dict[str, object]:
    """The transaction, once it is settled."""

    async def read() -> dict[str, object] | None:
        body = await api.get(f"/v1/transactions/{transaction}")
        return body if body["settled"] else None

    found = await eventually_async(read)
    assert found is not None
    return found


async def test_a_credit_that_comes_back_is_linked_with_the_transfer_that_sent_it(two_workers: Stack) -> None:
    api = two_workers.gateway()
    alice, bob = await closed_unheard_of(two_workers, api)
    first = await api.post("/v1/transfers", transfer(alice, bob, "2"), key="race")
    assert (first.status, first.body["settled"]) == (201, True)
    sent = await settled(api, first.body["id"])
    assert first.body == sent
    back = await settled(api, sent["reversed_by"])
    assert (back["kind"], back["reverses"], back["links"]) == (
        "return",
        sent["id"],
        {
            "self": f"/v1/transactions/{back['id']}",
            "operation": f"/v1/operations/{back['id']}",
            "reverses": f"/v1/transactions/{sent['id']}",
        },
    )
    assert sent["links"] == {
        "self": f"/v1/transactions/{sent['id']}",
        "operation": f"/v1/operations/{sent['id']}",
        "reversed_by": f"/v1/transactions/{back['id']}",
    }
    assert back["postings"] == [{"source": bob, "destination": alice, "amount": "2", "asset": "USD"}]
    assert (sent["balances"], back["balances"]) == ({alice: "8"}, {alice: "10"})
    again = await api.post("/v1/transfers", transfer(alice, bob, "2"), key="race")
    assert (again.status, again.replayed, again.body) == (201, True, sent)
    assert (await api.rows(f"/v1/transactions?account={alice}"))[:2] == [back, sent]
    assert [each for each in await api.rows("/v1/transactions") if each["id"] == sent["id"]] == [sent]
    refused = await api.post("/v1/transfers", transfer(alice, bob, "2"))
    assert (refused.status, refused.code) == (422, "account_closed")


async def test_a_return_between_own_accounts_stands_in_the_list_of_their_owner(two_workers: Stack) -> None:
    api = two_workers.gateway()
    one, other = await closed_unheard_of(two_workers, api, owner="alice")
    mine = replace(api, key=await two_workers.key("alice", "read", "write"))
    sent = await mine.made("/v1/transfers", transfer(one, other, "2"))
    back = await settled(mine, sent["reversed_by"])
    assert (await mine.rows("/v1/transactions"))[:2] == [back, sent]
    assert await mine.rows("/v1/transactions?kind=return") == [back]


async def test_who_may_read_a_transfer_may_read_its_return_and_nobody_else(two_workers: Stack) -> None:
    api = two_workers.gateway()
    alice, bob = await closed_unheard_of(two_workers, api)
    mine = replace(api, key=await two_workers.key("alice", "read", "write"))
    sent = await mine.made("/v1/transfers", transfer(alice, bob, "2"))
    back = (await mine.get(f"/v1/transactions/{sent['id']}"))["reversed_by"]
    theirs = replace(api, key=await two_workers.key("bob", "read"))
    stranger = replace(api, key=await two_workers.key("eve", "read", "write"))
    for transaction in (sent["id"], back):
        for reader, status in ((mine, 200), (theirs, 200), (stranger, 404)):
            await reader.get(f"/v1/transactions/{transaction}", status=status)
    await settled(mine, back)
    assert [each["id"] for each in await mine.rows("/v1/transactions?kind=return")] == [back]
