"""The API as docs/API.md says it, over HTTP, on a real ledger."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from tests.integration.conftest import Served
from tests.integration.gateway import Client

Name = Callable[[str], str]
NEVER_ISSUED = "00000000-0000-8000-8000-000000000000"


def transfer(source: str, destination: str, amount: str, **more: object) -> dict[str, object]:
    return {"source": source, "destination": destination, "amount": amount, "asset": "USD", **more}


async def test_money_comes_in_moves_and_goes_out(api: Client, name: Name) -> None:
    alice, bob = await api.account(name("alice"), funds="100.50"), await api.account(name("bob"))
    moved = await api.made(
        "/v1/transfers", transfer(alice, bob, "37.00", reference=name("rent"), metadata={"b": 1, "a": [2.5]})
    )
    assert moved["settled"] is True
    assert moved["balances"] == {alice: "63.5", bob: "37"}
    assert moved["postings"] == [{"source": alice, "destination": bob, "amount": "37", "asset": "USD"}]
    assert moved["metadata"] == {"a": [2.5], "b": 1}
    out = await api.made("/v1/withdrawals", {"account": bob, "amount": "0.01", "asset": "USD"})
    assert out["kind"] == "withdrawal"
    account = await api.get(f"/v1/accounts/{bob}")
    assert (account["balance"], account["available"], account["version"]) == ("36.99", "36.99", 2)
    assert await api.get(f"/v1/transactions/{moved['id']}") == moved
    operation = await api.get(f"/v1/operations/{moved['id']}")
    assert (operation["status"], operation["transaction"]) == ("posted", moved)


@pytest.mark.parametrize("destination", range(8))
async def test_a_replay_has_the_status_and_bytes_of_the_first_answer(api: Client, name: Name, destination: int) -> None:
    alice, bob = await api.account(name("alice"), funds="5"), await api.account(name(f"bob{destination}"))
    key = name("key")
    first = await api.post("/v1/transfers", transfer(alice, bob, "1.50"), key=key)
    await api.made("/v1/transfers", transfer(alice, bob, "1"))
    again = await api.post("/v1/transfers", transfer(alice, bob, "1.5"), key=key)
    assert (first.status, first.text) == (again.status, again.text)
    assert (first.replayed, again.replayed) == (False, True)
    assert first.headers["Operation-Id"] == again.headers["Operation-Id"] == first.body["id"]


async def test_a_repeated_key_gets_the_first_outcome_even_when_it_was_a_rejection(api: Client, name: Name) -> None:
    alice, bob, key = await api.account(name("alice"), funds="5"), await api.account(name("bob")), name("key")
    first = await api.post("/v1/transfers", transfer(alice, bob, "5.01"), key=key)
    assert (first.status, first.code) == (422, "insufficient_funds")
    assert (first.body["available"], first.body["required"]) == ("5", "5.01")
    await api.made("/v1/deposits", {"account": alice, "amount": "100", "asset": "USD"})
    again = await api.post("/v1/transfers", transfer(alice, bob, "5.01"), key=key)
    assert (again.status, again.code, again.replayed) == (422, "insufficient_funds", True)
    assert (again.body["available"], again.body["required"]) == ("5", "5.01")
    operation = await api.get(f"/v1/operations/{first.headers['Operation-Id']}")
    assert (operation["status"], operation["code"], operation["required"]) == ("rejected", "insufficient_funds", "5.01")


async def test_a_key_with_other_content_is_refused_and_has_no_effect(api: Client, name: Name) -> None:
    alice, bob, key = await api.account(name("alice"), funds="5"), await api.account(name("bob")), name("key")
    await api.made("/v1/transfers", transfer(alice, bob, "1"), key=key)
    for path, body in (
        ("/v1/transfers", transfer(alice, bob, "2")),
        ("/v1/transfers", transfer(alice, bob, "1", reference="other")),
        ("/v1/withdrawals", {"account": alice, "amount": "1", "asset": "USD"}),
        ("/v1/mixes", {"destinations": ["somewhere"]}),
    ):
        told = await api.post(path, body, key=key)
        assert (told.status, told.code, told.replayed) == (422, "idempotency_key_reused", False)
    assert (await api.get(f"/v1/accounts/{alice}"))["balance"] == "4"


async def test_a_hundred_at_once_with_one_key_are_one_transfer(api: Client, name: Name) -> None:
    alice, bob, key = await api.account(name("alice"), funds="5"), await api.account(name("bob")), name("key")
    answers = await asyncio.gather(*(api.post("/v1/transfers", transfer(alice, bob, "1"), key=key) for _ in range(100)))
    assert {(told.status, told.text) for told in answers} == {(201, answers[0].text)}
    assert [told.replayed for told in answers].count(False) == 1
    assert (await api.get(f"/v1/accounts/{bob}"))["balance"] == "1"


async def test_a_second_gateway_gives_the_same_answers(served: Served, name: Name) -> None:
    api, other = served.client, served.stack.gateway()
    alice, bob, key = await api.account(name("alice"), funds="5"), await api.account(name("bob")), name("key")
    first = await api.post("/v1/transfers", transfer(alice, bob, "1"), key=key)
    again = await other.post("/v1/transfers", transfer(alice, bob, "1"), key=key)
    assert (first.text, again.replayed) == (again.text, True)
    page = await api.get(f"/v1/accounts/{alice}/entries?limit=1")
    following = await other.get(f"/v1/accounts/{alice}/entries?limit=1&cursor={page['next']}")
    assert following["next"] is None


async def test_an_account_is_made_changed_and_closed_and_each_replay_shows_what_was(api: Client, name: Name) -> None:
    alice, keys = name("alice"), [name("key") for _ in range(3)]
    new = {"id": alice, "asset": "USD", "metadata": {"team": "blue"}}
    made = await api.post("/v1/accounts", new, key=keys[0])
    taken = await api.post("/v1/accounts", new)
    assert (taken.status, taken.code) == (409, "already_exists")
    path = f"/v1/accounts/{alice}"
    change = {"overdraft_limit": "5.00"}
    changed = await api.call("PATCH", path, change, headers={"Idempotency-Key": keys[1]})
    assert (changed.status, changed.body["available"], changed.body["metadata"]) == (200, "5", {"team": "blue"})
    frozen = await api.call("PATCH", path, {"status": "frozen", "metadata": {"team": None}})
    assert (frozen.body["status"], frozen.body["overdraft_limit"], frozen.body["metadata"]) == ("frozen", "5", {})
    closed = await api.call("DELETE", path, headers={"Idempotency-Key": keys[2]})
    assert (closed.status, closed.text) == (204, "")
    assert (await api.post("/v1/accounts", new, key=keys[0])).text == made.text
    assert (await api.call("PATCH", path, change, headers={"Idempotency-Key": keys[1]})).text == changed.text
    assert (await api.call("DELETE", path, headers={"Idempotency-Key": keys[2]})).replayed
    assert (await api.get(path))["status"] == "closed"
    assert (await api.call("PATCH", path, {"status": "open"})).code == "account_closed"


async def test_an_account_with_money_is_not_closed_and_a_frozen_one_not_debited(api: Client, name: Name) -> None:
    alice, bob = await api.account(name("alice"), funds="1"), await api.account(name("bob"), funds="1")
    assert (await api.call("DELETE", f"/v1/accounts/{alice}")).code == "account_not_empty"
    await api.call("PATCH", f"/v1/accounts/{alice}", {"status": "frozen"})
    assert (await api.post("/v1/transfers", transfer(alice, bob, "1"))).code == "account_frozen"
    await api.made("/v1/transfers", transfer(bob, alice, "1"))


async def test_an_id_is_made_where_none_is_given_and_a_repeat_gets_the_same(api: Client, name: Name) -> None:
    key = name("key")
    first = await api.made("/v1/accounts", {"asset": "EUR"}, key=key)
    assert str(first["id"]).startswith("acc_")
    assert (await api.made("/v1/accounts", {"asset": "EUR"}, key=key))["id"] == first["id"]
    assert (await api.made("/v1/accounts", {"asset": "EUR"}))["id"] != first["id"]


async def test_an_asset_is_made_once_and_used_at_once(api: Client, name: Name) -> None:
    code = name("GOLD").upper()
    new = {"code": code, "scale": 3, "name": "Gold"}
    await api.made("/v1/assets", new)
    assert (await api.post("/v1/assets", new)).code == "already_exists"
    alice = await api.account(name("alice"), asset=code, funds="0.001")
    assert (await api.get(f"/v1/accounts/{alice}"))["balance"] == "0.001"
    finer = await api.post("/v1/deposits", {"account": alice, "amount": "0.0001", "asset": code})
    assert (finer.status, finer.code) == (400, "amount_scale")
    assert (await api.post("/v1/deposits", {"account": alice, "amount": "1", "asset": "NONE"})).code == "unknown_asset"


async def test_entries_run_newest_first_in_pages_and_tell_the_whole_story(api: Client, name: Name) -> None:
    alice, bob = await api.account(name("alice"), funds="10"), await api.account(name("bob"))
    for _ in range(4):
        await api.made("/v1/transfers", transfer(alice, bob, "1"))
    path, seen = f"/v1/accounts/{alice}/entries?limit=2", list[tuple[object, ...]]()
    page = await api.get(path)
    while True:
        rows = cast("list[dict[str, object]]", page["data"])
        seen += [(row["seq"], row["kind"], row["delta"], row["balance_after"], row["counterparty"]) for row in rows]
        if page["next"] is None:
            break
        page = await api.get(f"{path}&cursor={page['next']}")
    assert seen[:4] == [(seq, "transfer", "-1", f"{11 - seq}", bob) for seq in (5, 4, 3, 2)]
    assert seen[4][:4] == (1, "deposit", "10", "10")
    assert len(await api.rows(f"/v1/accounts/{alice}/entries?kind=deposit")) == 1
    assert await api.rows(f"/v1/accounts/{alice}/entries?kind=return") == []
    for kind in ("zz", "", "deposit.v1", "Deposit"):
        told = await api.call("GET", f"/v1/accounts/{alice}/entries?kind={kind}")
        assert (told.status, told.code) == (400, "invalid_request"), kind
        assert cast("list[dict[str, str]]", told.body["errors"])[0]["field"] == "kind"


async def test_the_balance_at_an_instant_is_what_the_entries_say(api: Client, name: Name) -> None:
    alice, bob = await api.account(name("alice"), funds="10"), await api.account(name("bob"))
    for _ in range(9):
        await api.made("/v1/transfers", transfer(alice, bob, "1"))
    history = await api.rows(f"/v1/accounts/{alice}/entries")
    for row in history:
        then = await api.get(f"/v1/accounts/{alice}/balance?at={row['recorded_at']}")
        assert (then["balance"], then["version"]) == (row["balance_after"], row["seq"])
    middle = history[4]["recorded_at"]
    later = await api.rows(f"/v1/accounts/{alice}/entries?after={middle}")
    earlier = await api.rows(f"/v1/accounts/{alice}/entries?before={middle}")
    assert (later, earlier) == (history[:4], history[5:])
    for instant, status in (("2000-01-01T00:00:00Z", 404), ("2999-01-01T00:00:00Z", 400)):
        told = await api.call("GET", f"/v1/accounts/{alice}/balance?at={instant}")
        assert (told.status, told.code) == (status, "not_found" if status == 404 else "invalid_request")


async def pages(client: Client, path: str) -> list[str]:
    """The ids of a list, page by page."""
    found, cursor = list[str](), ""
    while True:
        page = await client.get(f"{path}{cursor}")
        rows = cast("list[dict[str, object]]", page["data"])
        found += [str(row["id"]) for row in rows]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


async def test_every_list_of_transactions_shows_each_once_newest_first(served: Served, name: Name) -> None:
    api, owner, reference = served.client, name("owner"), name("rent")
    mine = Client(api.url, await served.stack.key(owner, "read", "write"))
    accounts = [await api.account(name("acc"), owner=owner, funds="100") for _ in range(3)]
    stranger = await api.account(name("stranger"), funds="100")
    made = list[str]()
    for number in range(12):
        pairs = (accounts[number % 3], accounts[(number + 1) % 3]), (stranger, accounts[0]), (accounts[1], stranger)
        source, destination = pairs[number % 3]
        moved = await api.made("/v1/transfers", transfer(source, destination, "1", reference=reference))
        made.append(str(moved["id"]))
    made.reverse()
    assert await pages(api, f"/v1/transactions?limit=5&reference={reference}") == made
    assert await pages(mine, f"/v1/transactions?limit=5&reference={reference}") == made
    assert (await pages(mine, "/v1/transactions?limit=5&kind=transfer")) == made
    assert (await pages(mine, "/v1/transactions?limit=4"))[:12] == made
    everything = await pages(api, "/v1/transactions?limit=100&asset=USD&kind=transfer")
    assert [each for each in everything if each in made] == made
    of_one = await pages(mine, f"/v1/transactions?limit=2&account={accounts[0]}&kind=transfer")
    assert of_one
    assert of_one == [each for each in made if each in of_one]


async def test_a_cursor_works_for_its_query_and_its_caller_alone(served: Served, name: Name) -> None:
    api, alice = served.client, await served.client.account(name("alice"), funds="10")
    bob = await api.account(name("bob"))
    for _ in range(3):
        await api.made("/v1/transfers", transfer(alice, bob, "1"))
    cursor = (await api.get(f"/v1/transactions?account={alice}&limit=1"))["next"]
    assert isinstance(cursor, str)
    reader = Client(api.url, await served.stack.key(name("reader"), "read"))
    for client, path in (
        (api, f"/v1/transactions?account={bob}&limit=1&cursor={cursor}"),
        (api, f"/v1/accounts/{alice}/entries?cursor={cursor}"),
        (reader, f"/v1/transactions?account={alice}&limit=1&cursor={cursor}"),
        (api, f"/v1/transactions?account={alice}&cursor={cursor[:-2]}AA"),
        (api, f"/v1/transactions?account={alice}&limit=1&cursor={cursor}="),
        (api, f"/v1/transactions?account={alice}&cursor=%F0%9F%92%A9"),
    ):
        told = await client.call("GET", path)
        assert (told.status, told.code) == (400, "invalid_request"), path


async def test_who_will_not_wait_gets_202_and_finds_the_outcome_where_it_says(api: Client, name: Name) -> None:
    alice, bob = await api.account(name("alice"), funds="10"), await api.account(name("bob"))
    told = await api.post("/v1/transfers", transfer(alice, bob, "1"), prefer="respond-async")
    assert (told.status, told.body["status"]) == (202, "pending")
    operation = await api.get(told.headers["Location"] + "&wait=10")
    assert (operation["status"], operation["id"]) == ("posted", told.headers["Operation-Id"])
    other = f"/v1/operations/{operation['id']}?of={'1' * 32}"
    assert (await api.call("GET", other)).code == "idempotency_key_reused"


async def test_an_id_that_was_never_issued_is_not_found(api: Client) -> None:
    for path in (
        f"/v1/operations/{NEVER_ISSUED}",
        f"/v1/transactions/{NEVER_ISSUED}",
        "/v1/operations/x",
        "/v1/mixes/x",
    ):
        assert (await api.call("GET", path)).code == "not_found"
    assert (await api.call("POST", f"/v1/operations/{NEVER_ISSUED}/cancel")).code == "not_found"


async def test_head_is_answered_like_get_without_a_body(api: Client, name: Name) -> None:
    alice = await api.account(name("alice"))
    told = await api.call("HEAD", f"/v1/accounts/{alice}")
    assert (told.status, told.text) == (200, "")
    assert int(told.headers["Content-Length"]) > 100


async def test_the_root_links_to_what_there_is_and_the_page_runs_no_inline_script(api: Client) -> None:
    links = cast("dict[str, str]", (await api.get("/"))["links"])
    for path in links.values():
        # A template is filled by who has an id; collections that are only posted to say so.
        if "{id}" not in path:
            assert (await api.call("GET", path)).status in {200, 405}, path
    assert links["operations"] == "/v1/operations/{id}"
    page = await api.call("GET", "/docs")
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert page.text.count("<script") == page.text.count("<script src=") == 2
    for file in ("swagger-ui.css", "swagger-ui-bundle.js", "docs.js"):
        assert (await api.call("GET", f"/docs/{file}")).status == 200
    assert (await api.get("/openapi.json"))["openapi"] == "3.1.0"
    assert (await api.get("/problems/insufficient_funds"))["status"] == 422


async def test_metrics_count_requests_by_route_and_outcomes(api: Client, name: Name) -> None:
    await api.account(name("alice"), funds="1")
    text = await api.metrics()
    assert 'tellerline_gateway_requests_total{method="POST",route="/v1/accounts",status="201"}' in text
    assert 'tellerline_gateway_outcomes_total{kind="deposit",status="posted"}' in text
