"""Whatever became a command has one outcome for good, whoever asks, by whatever route."""

from collections.abc import Callable
from typing import cast

import pytest

from services.gateway.usecases.caller import ADMIN
from shared.domain.ids import MIXER, CommandIds, Principal
from tests.builders import SECRET
from tests.integration.conftest import Served
from tests.integration.gateway import Client

Name = Callable[[str], str]
IDS = CommandIds(SECRET)


async def test_an_unknown_can_be_seen_and_cancelled_by_its_owner_and_by_admin_only(served: Served, name: Name) -> None:
    api = served.client
    alice, eve = name("alice"), name("eve")
    hers = Client(api.url, await served.stack.key(alice, "write"))
    foreign = Client(api.url, await served.stack.key(eve, "read", "write", "payout"))
    for canceller in (hers, api):
        key = name("key")
        unknown = IDS.of_key(Principal(alice), key)  # as a gateway that died made it
        path = f"/v1/operations/{unknown}"
        assert (await foreign.call("GET", path)).code == "not_found"
        assert (await foreign.call("POST", f"{path}/cancel")).code == "not_found"
        assert (await api.get(path))["status"] == "pending"
        told = await canceller.call("POST", f"{path}/cancel")
        assert (told.status, told.body["status"], told.body["code"]) == (200, "rejected", "cancelled")
        assert (await foreign.call("GET", path)).code == "not_found"
        late = await hers.post("/v1/accounts", {"asset": "USD"}, key=key)
        assert (late.status, late.code, late.replayed) == (409, "cancelled", True)
    another = Client(api.url, await served.stack.key(name("ops"), "admin"))
    for principal in (ADMIN, MIXER):
        unknown = IDS.of_key(principal, name("theirs"))
        assert (await foreign.call("POST", f"/v1/operations/{unknown}/cancel")).code == "not_found"
        assert (await another.get(f"/v1/operations/{unknown}"))["status"] == "pending"


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/transfers", {"source": "a", "destination": "b", "amount": "1.50"}, "unknown_asset"),
        ("/v1/deposits", {"account": "a", "amount": "0.1"}, "unknown_asset"),
        ("/v1/withdrawals", {"account": "a", "amount": "7"}, "unknown_asset"),
        ("/v1/accounts", {}, "unknown_asset"),
    ],
)
async def test_an_asset_that_was_unknown_stays_so_for_its_key(
    served: Served, name: Name, path: str, body: dict[str, str], code: str
) -> None:
    api, asset, key = served.client, name("z").replace("-", "").upper()[:16], name("key")
    first = await api.post(path, body | {"asset": asset}, key=key)
    assert (first.status, first.code, first.replayed) == (422, code, False)
    await api.made("/v1/assets", {"code": asset, "scale": 2, "name": "A new one"})
    again = await api.post(path, body | {"asset": asset}, key=key)
    assert (again.status, again.code, again.replayed) == (422, code, True)
    assert again.headers["Operation-Id"] == first.headers["Operation-Id"]
    kept = await api.get(f"/v1/operations/{first.headers['Operation-Id']}")
    assert (kept["status"], kept["code"]) == ("rejected", code)
    other = await api.post(path, body | {"asset": "USD"}, key=key)
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    too_much = await api.post(path, body | {"asset": "USD", "amount": "9" * 30}, key=key) if "amount" in body else other
    assert (too_much.code, too_much.body.get("errors")) == ("idempotency_key_reused", None)


async def test_a_refusal_stays_when_the_request_is_no_longer_valid(served: Served, name: Name) -> None:
    api, asset, key = served.client, name("y").replace("-", "").upper()[:16], name("key")
    body = {"source": "a", "destination": "b", "amount": "1.234", "asset": asset}
    first = await api.post("/v1/transfers", body, key=key)
    await api.made("/v1/assets", {"code": asset, "scale": 2, "name": "A new one"})
    again = await api.post("/v1/transfers", body, key=key)
    assert (again.status, again.code, again.replayed) == (first.status, "unknown_asset", True)
    assert (await api.post("/v1/transfers", body, key=name("another"))).code == "amount_scale"


async def test_an_operation_shows_its_amounts_in_units_of_the_asset(served: Served, name: Name) -> None:
    api = served.client
    account = await api.account(name("limited"))
    path = f"/v1/accounts/{account}"
    assert (await api.call("PATCH", path, {"overdraft_limit": "50"})).status == 200
    destination = await api.account(name("other"))
    moved = {"source": account, "destination": destination, "amount": "40", "asset": "USD"}
    await api.made("/v1/transfers", moved)
    told = await api.call("PATCH", path, {"overdraft_limit": "5"})
    assert (told.code, told.body["available"], told.body["required"]) == ("insufficient_funds", "10", "45")
    kept = await api.get(f"/v1/operations/{told.headers['Operation-Id']}")
    assert (kept["available"], kept["required"]) == ("10", "45")


async def test_an_amount_past_the_limit_is_an_outcome_and_one_text_for_one_amount(served: Served, name: Name) -> None:
    api, key = served.client, name("key")
    body = {"account": "a", "amount": "9" * 30, "asset": "USD"}
    first = await api.post("/v1/deposits", body, key=key)
    again = await api.post("/v1/deposits", body | {"amount": "9" * 30 + ".00"}, key=key)
    assert (first.status, first.code, first.body["errors"]) == (again.status, again.code, again.body["errors"])
    assert (first.code, again.replayed) == ("limit_exceeded", True)


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"status": "frozen"}), ("DELETE", None)])
async def test_an_account_that_was_not_there_stays_so_for_its_key(
    served: Served, name: Name, method: str, body: dict[str, str] | None
) -> None:
    api, account, headers = served.client, name("late"), {"Idempotency-Key": name("key")}
    first = await api.call(method, f"/v1/accounts/{account}", body, headers=headers)
    assert (first.status, first.code, first.replayed) == (404, "not_found", False)
    await api.account(account)
    again = await api.call(method, f"/v1/accounts/{account}", body, headers=headers)
    assert (again.status, again.code, again.replayed) == (404, "not_found", True)
    assert (await api.get(f"/v1/accounts/{account}"))["status"] == "open"


async def test_null_takes_an_accounts_metadata_away(served: Served, name: Name) -> None:
    api = served.client
    account = await api.account(name("noted"))
    path = f"/v1/accounts/{account}"
    assert (await api.call("PATCH", path, {"metadata": {"a": 1}})).body["metadata"] == {"a": 1}
    assert (await api.call("PATCH", path, {"metadata": None})).body["metadata"] is None
    assert (await api.get(path))["metadata"] is None
    assert (await api.call("PATCH", path, {})).code == "invalid_request"


async def test_a_patch_of_metadata_merges_and_null_deletes(served: Served, name: Name) -> None:
    api = served.client
    made = await api.made("/v1/accounts", {"id": name("noted"), "asset": "USD", "metadata": {"a": 1, "b": {"c": 2}}})
    path = f"/v1/accounts/{made['id']}"
    patch, headers = {"metadata": {"a": None, "b": {"d": "x"}, "e": [1]}}, {"Idempotency-Key": name("key")}
    first = await api.call("PATCH", path, patch, headers=headers)
    assert first.body["metadata"] == {"b": {"c": 2, "d": "x"}, "e": [1]}
    assert (await api.call("PATCH", path, {"metadata": {"e": None}})).body["metadata"] == {"b": {"c": 2, "d": "x"}}
    again = await api.call("PATCH", path, patch, headers=headers)
    assert (again.text, again.replayed) == (first.text, True)
    assert (await api.get(path))["metadata"] == {"b": {"c": 2, "d": "x"}}


async def test_the_key_of_a_cancel_is_used_up_like_any_other(served: Served, name: Name) -> None:
    api, key, used = served.client, name("key"), name("used")
    unknown = IDS.of_key(ADMIN, name("lost"))
    path, headers = f"/v1/operations/{unknown}/cancel", {"Idempotency-Key": key}
    await api.made("/v1/accounts", {"asset": "USD"}, key=used)
    for reused in (used, name("theirs")):
        other = IDS.of_key(ADMIN, reused)
        told = await api.call("POST", f"/v1/operations/{other}/cancel", headers={"Idempotency-Key": reused})
        assert (told.status, told.code) == (422, "idempotency_key_reused")
    assert (await api.call("POST", path, headers={"Idempotency-Key": used})).code == "idempotency_key_reused"
    assert (await api.call("POST", path, headers={"Idempotency-Key": "x" * 256})).status == 400
    assert (await api.get(f"/v1/operations/{unknown}"))["status"] == "pending"
    first = await api.call("POST", path, headers=headers)
    assert (first.status, first.body["code"], first.replayed) == (200, "cancelled", False)
    again = await api.call("POST", path, headers=headers)
    assert (again.status, again.text, again.replayed) == (200, first.text, True)
    assert (await api.post("/v1/accounts", {"asset": "USD"}, key=key)).code == "idempotency_key_reused"
    another = f"/v1/operations/{IDS.of_key(ADMIN, name('lost too'))}/cancel"
    assert (await api.call("POST", another, headers=headers)).code == "idempotency_key_reused"


async def test_an_operation_leads_to_what_it_was_about(served: Served, name: Name) -> None:
    """Also to an account whose name begins as a mix's."""
    api, account = served.client, f"mix:{name('own')}"
    told = await api.post("/v1/accounts", {"id": account, "asset": "USD"})
    assert told.status == 201
    operation = await api.get(f"/v1/operations/{told.headers['Operation-Id']}")
    links = cast("dict[str, str]", operation["links"])
    assert (await api.get(links["account"]))["id"] == account
