"""What docs/API.md says of every route and every write, tried on a running gateway."""

from collections.abc import Callable
from typing import cast

import pytest

from services.gateway.app import ROUTES
from services.gateway.http.routing import Route
from tests.integration.conftest import Served
from tests.integration.gateway import Client
from tests.integration.test_gateway_bad_input import exchange, problem_in, request

Name = Callable[[str], str]
NAMES = ["%00", "a%00", "%ff", "%ed%a0%80", "\xff", "..", "%2F", "%0a", "'", "%F0%9F%92%B8", "a" * 65, "a" * 5_000, "0"]
WITH_NAMES = [route for route in ROUTES if "{" in route.path]


@pytest.mark.parametrize("route", WITH_NAMES, ids=lambda route: f"{route.method} {route.path}")
async def test_no_name_in_a_path_breaks_a_route(served: Served, route: Route) -> None:
    before, _, after = route.path.partition("{")
    for name in NAMES:
        path = f"{before}{name}{after.partition('}')[2]}"
        received = await exchange(served.client, request(route.method, path, b"{}"))
        problem = problem_in(received)
        assert problem["status"] in {400, 404}, (name, problem)
        if name in {"%00", "a%00", "%ff"}:
            assert (problem["status"], problem["code"]) == (404, "not_found")


async def test_no_bytes_in_a_query_break_a_list(served: Served) -> None:
    for value in ("%00", "%ff", "\xff", "%ed%a0%80"):
        received = await exchange(served.client, request("GET", f"/v1/accounts?id_prefix={value}"))
        assert problem_in(received)["status"] == 400


@pytest.mark.parametrize("has_key", [True, False])
async def test_every_refusal_of_a_command_names_its_operation(served: Served, name: Name, *, has_key: bool) -> None:
    api = served.client
    missing = f"/v1/accounts/{name('missing')}"
    transfer = {"source": "a", "destination": "b", "amount": "1", "asset": "NONE"}
    refused = (
        ("POST", "/v1/transfers", transfer, 422, "unknown_asset"),
        ("POST", "/v1/transfers", transfer | {"asset": "USD", "source": name("none")}, 422, "account_not_found"),
        ("POST", "/v1/deposits", {"account": "a", "amount": "9" * 30, "asset": "USD"}, 422, "limit_exceeded"),
        ("POST", "/v1/accounts", {"asset": "NONE"}, 422, "unknown_asset"),
        ("PATCH", missing, {"status": "frozen"}, 404, "not_found"),
        ("DELETE", missing, None, 404, "not_found"),
    )
    for method, path, body, status, code in refused:
        headers = {"Idempotency-Key": name("key")} if has_key else {}
        told = await api.call(method, path, body, headers=headers)
        assert (told.status, told.code) == (status, code)
        operation = await api.get(f"/v1/operations/{told.headers['Operation-Id']}")
        assert operation["status"] == "rejected"
        assert operation["code"] in {code, "account_not_found"}


async def test_a_refused_write_that_turns_out_posted_is_answered_with_its_outcome(served: Served, name: Name) -> None:
    principal, key = name("p"), name("key")
    client = Client(served.client.url, await served.stack.key(principal, "write", "read"))
    account = await client.account(name("own"))
    path, headers = f"/v1/accounts/{account}", {"Idempotency-Key": key}
    assert (await client.call("DELETE", path, headers=headers)).status == 204
    # What the gateway reads of the account no longer lets it build the command.
    await served.stack.execute("UPDATE ledger.accounts SET owner = 'another' WHERE id = $1", account)
    assert (await client.call("GET", path)).status == 404
    again = await client.call("DELETE", path, headers=headers)
    assert (again.status, again.replayed) == (204, True)


async def test_a_cancel_shows_the_details_of_an_outcome_to_keys_that_may_read(served: Served, name: Name) -> None:
    principal = name("p")
    account = await served.client.account(name("own"), owner=principal, funds="10")
    other = await served.client.account(name("other"), owner=principal)
    moved = {"source": account, "destination": other, "amount": "4", "asset": "USD"}
    blind = Client(served.client.url, await served.stack.key(principal, "write"))
    payer = Client(served.client.url, await served.stack.key(principal, "payout"))
    reader = Client(served.client.url, await served.stack.key(principal, "write", "read"))
    posted = (await blind.post("/v1/transfers", moved)).headers["Operation-Id"]
    refused = (await blind.post("/v1/transfers", moved | {"amount": "400"})).headers["Operation-Id"]
    for client in (blind, payer):
        for identity, code in ((posted, None), (refused, "insufficient_funds")):
            shown = (await client.call("POST", f"/v1/operations/{identity}/cancel")).body
            assert shown.pop("code", None) == code
            assert shown.keys() == {"id", "kind", "status", "recorded_at", "links"}
            assert cast("dict[str, str]", shown["links"]).keys() == {"self"}
    assert "transaction" in (await reader.call("POST", f"/v1/operations/{posted}/cancel")).body
    assert (await reader.call("POST", f"/v1/operations/{refused}/cancel")).body["available"] == "6"


@pytest.mark.parametrize("instant", ["2026-01-31t00:00:00z", "2026-01-31T00:00:00.123456789Z"])
async def test_an_instant_may_be_written_as_other_languages_do(served: Served, instant: str) -> None:
    await served.client.get(f"/v1/transactions?after={instant}")


async def test_metadata_comes_back_as_it_was_sent_or_is_refused_with_a_hint(served: Served, name: Name) -> None:
    body = b'{"id":"%s","asset":"USD","metadata":{"a":1.12345678901234567890}}' % name("m").encode()
    problem = problem_in(await exchange(served.client, request("POST", "/v1/accounts", body)))
    assert problem["status"] == 400
    assert problem["errors"] == [
        {
            "field": "metadata",
            "message": "a number in it is one that a double does not hold: send it as a string",
        }
    ]
    sent = {"a": [0.1, 1e300, -0.5, 2**53, "1.12345678901234567890", {"b": None, "c": True}]}
    made = await served.client.made("/v1/accounts", {"asset": "USD", "metadata": sent})
    assert made["metadata"] == sent
