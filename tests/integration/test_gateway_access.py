"""Nobody reaches another's money, keys end when they are revoked, and nothing waits for a gateway for ever."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import cast

import pytest

from services.gateway.app import ROUTES
from services.gateway.http.routing import Route
from shared.domain.api_keys import Scope
from tests.integration.conftest import Served
from tests.integration.gateway import ADMIN_KEY, Client

Name = Callable[[str], str]
OPEN_ROUTES = {"/", "/livez", "/readyz", "/openapi.json", "/docs", "/docs/{name}", "/problems/{code}"}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_every_route_but_the_open_ones_asks_for_a_key_and_its_scope(served: Served, route: Route) -> None:
    path = route.path.replace("{id}", "x").replace("{code}", "USD").replace("{name}", "docs.js")
    if route.path in OPEN_ROUTES:
        assert not route.scopes
        return
    assert route.scopes
    for key in ("", "wrong-wrong-wrong-wrong", ADMIN_KEY[:-1], "é" * 20, "x" * 7_000):
        told = await Client(served.client.url, key).call(route.method, path)
        assert (told.status, told.code) == (401, "unauthenticated")
        assert told.headers["WWW-Authenticate"].startswith("Bearer")
    others = [scope.value for scope in Scope if scope not in {*route.scopes, Scope.ADMIN}]
    poor = Client(served.client.url, await served.stack.key("poor", *others))
    told = await poor.call(route.method, path)
    assert (told.status, told.code) == (403, "forbidden")


async def test_a_foreign_account_is_as_good_as_none(served: Served, name: Name) -> None:
    api, alice, eve = served.client, name("alice"), name("eve")
    account = await api.account(name("acc"), owner=alice, funds="10")
    hers = Client(api.url, await served.stack.key(eve, "read", "write", "payout"))
    own = await hers.account(name("own"))
    moved = await api.made("/v1/transfers", {"source": account, "destination": own, "amount": "1", "asset": "USD"})
    other = await api.made("/v1/deposits", {"account": account, "amount": "1", "asset": "USD"})
    for path in (f"/v1/accounts/{account}", f"/v1/accounts/{account}/entries", f"/v1/accounts/{account}/balance"):
        assert (await hers.call("GET", path)).code == "not_found"
    for identity in (other["id"],):
        assert (await hers.call("GET", f"/v1/transactions/{identity}")).code == "not_found"
        assert (await hers.call("GET", f"/v1/operations/{identity}")).code == "not_found"
    assert (await hers.call("DELETE", f"/v1/accounts/{account}")).code == "not_found"
    assert await hers.rows(f"/v1/transactions?account={account}") == []
    assert [row["id"] for row in await hers.rows("/v1/accounts")] == [own]
    assert await hers.rows(f"/v1/accounts?owner={alice}") == []
    seen = await hers.get(f"/v1/transactions/{moved['id']}")
    assert seen["balances"] == {own: "1"}
    taken = {"source": account, "destination": own, "amount": "1", "asset": "USD"}
    assert (await hers.post("/v1/transfers", taken)).code == "account_not_found"
    drawn = {"account": account, "amount": "1", "asset": "USD"}
    assert (await hers.post("/v1/withdrawals", drawn)).code == "account_not_found"
    given = await hers.made("/v1/transfers", {**taken, "source": own, "destination": account})
    assert given["balances"] == {own: "0"}


async def test_what_belongs_to_the_ledger_needs_admin(served: Served, name: Name) -> None:
    api, bob = served.client, name("bob")
    client = Client(api.url, await served.stack.key(bob, "read", "write", "payout"))
    own = await client.account(name("own"))
    for source, destination in (("world:USD:0", own), (own, "fees:USD:1"), ("mix:1", own)):
        told = await client.post(
            "/v1/transfers", {"source": source, "destination": destination, "amount": "1", "asset": "USD"}
        )
        assert (told.status, told.code) == (403, "forbidden")
    for body in (
        {"asset": "USD", "id": "world:x"},
        {"asset": "USD", "id": "mix:x"},
        {"asset": "USD", "owner": "another"},
        {"asset": "USD", "overdraft_limit": "1"},
    ):
        assert (await client.post("/v1/accounts", body)).code == "forbidden"
    assert (await api.post("/v1/accounts", {"asset": "USD", "id": "world:x"})).code == "forbidden"
    assert (await client.call("GET", "/v1/accounts/world:USD:0")).code == "not_found"
    moved = {"source": "world:USD:2", "destination": own, "amount": "1", "asset": "USD"}
    assert (await api.made("/v1/transfers", moved))["kind"] == "transfer"


async def test_an_account_of_the_ledger_itself_is_neither_frozen_nor_closed(served: Served, name: Name) -> None:
    api = served.client
    account = await api.account(name("acc"), funds="5")
    hers = Client(api.url, await served.stack.key(name("p"), "read", "write"))
    for role in ("world", "house", "fees", "fx", "suspense"):
        path = f"/v1/accounts/{role}:USD:0"
        moved = {"source": account, "destination": f"{role}:USD:0", "amount": "1", "asset": "USD"}
        await api.made("/v1/transfers", moved)
        for method, body in (("PATCH", {"status": "frozen"}), ("DELETE", None)):
            told = await api.call(method, path, body)
            assert (told.status, told.code) == (403, "forbidden"), told
        assert (await hers.call("DELETE", path)).code == "not_found"
        assert (await api.call("PATCH", path, {"metadata": {"seen": "yes"}})).status == 200
        assert (await api.call("PATCH", path, {"status": "open"})).status == 200
        assert (await api.get(path))["status"] == "open"


async def test_the_same_key_text_of_two_principals_is_two_commands(served: Served, name: Name) -> None:
    key, clients = (
        name("key"),
        [Client(served.client.url, await served.stack.key(name("p"), "write")) for _ in range(2)],
    )
    first, second = [await client.post("/v1/accounts", {"asset": "USD"}, key=key) for client in clients]
    assert first.headers["Operation-Id"] != second.headers["Operation-Id"]
    assert not second.replayed


async def test_another_key_of_the_same_principal_gets_the_first_outcome(served: Served, name: Name) -> None:
    principal, key = name("p"), name("key")
    clients = [Client(served.client.url, await served.stack.key(principal, "write")) for _ in range(2)]
    first, second = [await client.post("/v1/accounts", {"asset": "USD"}, key=key) for client in clients]
    assert (first.text, second.replayed) == (second.text, True)


async def test_a_revoked_key_is_refused_within_a_second_while_it_is_used(served: Served, name: Name) -> None:
    client = Client(served.client.url, await served.stack.key(name("p"), "read"))
    await client.get("/v1/accounts")
    identity = client.key.split("_")[1]
    await served.stack.execute("UPDATE access.keys SET revoked_at = clock_timestamp() WHERE id = $1", identity)
    revoked = time.monotonic()
    while (await client.call("GET", "/v1/accounts")).status == 200:
        assert time.monotonic() - revoked < 1.5
        await asyncio.sleep(0.02)
    while await served.stack.execute("SELECT last_used_at FROM access.keys WHERE id = $1", identity) is None:
        assert time.monotonic() - revoked < 5


def keys(served: Served, *arguments: str) -> tuple[int, str]:
    environment = os.environ | {"TELLERLINE_DATABASE_URL": served.stack.database.owner}
    command = [sys.executable, "-m", "tellerline", "keys", *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout


async def test_the_command_line_makes_lists_and_revokes_keys(served: Served, name: Name) -> None:
    principal = name("p")
    code, printed = keys(served, "create", "--principal", principal, "--scope", "read", "--label", "it's", "--json")
    made = cast("dict[str, str]", json.loads(printed))
    assert code == 0
    client = Client(served.client.url, made["key"])
    await client.get("/v1/accounts")
    listed = json.loads(keys(served, "list", "--principal", principal, "--json")[1])
    assert [(each["id"], each["scopes"], each["revoked_at"]) for each in listed] == [(made["id"], ["read"], None)]
    assert made["key"] not in keys(served, "list")[1]
    assert keys(served, "revoke", made["id"])[0] == 0
    assert keys(served, "revoke", "nothing")[0] == 1
    assert keys(served, "create", "--principal", "tellerline:ledger")[0] == 2
    deadline = time.monotonic() + 3
    while (await client.call("GET", "/v1/accounts")).status == 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_key_that_asks_too_often_is_told_when_to_come_back_and_others_are_not(
    served: Served, name: Name
) -> None:
    url = served.stack.gateway(rate_per_s_max="1", rate_burst_max="3").url
    greedy, other = [Client(url, await served.stack.key(name("p"), "read")) for _ in range(2)]
    answers = [await greedy.call("GET", "/v1/assets") for _ in range(5)]
    assert [told.status for told in answers[:3]] == [200, 200, 200]
    assert answers[4].code == "rate_limited"
    assert int(answers[4].headers["Retry-After"]) >= 1
    assert (await other.call("GET", "/v1/assets")).status == 200
