"""Clients follow a list from the position that every answer to a write, and every list, carries."""

from collections.abc import Callable
from typing import cast

from tests.integration.conftest import Served
from tests.integration.gateway import Client

Name = Callable[[str], str]
POSITION = "Tellerline-Position"
POSITION_CHARACTERS_MAX = 200


async def followed(api: Client, path: str, position: str) -> tuple[list[str], str]:
    """The ids of all rows after the position, page by page, and the position from which to go on."""
    found: list[str] = []
    cursor = ""
    while True:
        told = await api.call("GET", f"{path}&limit=2&after_position={position}{cursor}")
        assert told.status == 200, told
        found += [
            str(row.get("id", row.get("operation_id"))) for row in cast("list[dict[str, object]]", told.body["data"])
        ]
        if told.body["next"] is None:
            return found, told.headers[POSITION]
        cursor = f"&cursor={told.body['next']}"


async def test_a_list_is_followed_from_the_position_of_a_write_or_of_a_list(api: Client, name: Name) -> None:
    alice, bob = await api.account(name("alice"), funds="10"), await api.account(name("bob"))
    told = await api.call("GET", f"/v1/transactions?account={alice}")
    position = told.headers[POSITION]
    assert len(position) <= POSITION_CHARACTERS_MAX
    for path in (f"/v1/transactions?account={alice}", f"/v1/accounts/{alice}/entries?kind=transfer"):
        # What a plain list showed may be newer than its position; from here on each row comes once.
        _, here = await followed(api, path, position)
        sent: list[str] = []
        for number in range(5):
            body = {"source": alice, "destination": bob, "amount": "0.01", "asset": "USD"}
            sent.append(str((await api.made("/v1/transfers", body))["id"]))
            if number == 2:
                rows, here = await followed(api, path, here)
                assert rows == sent[::-1]
        rows, here = await followed(api, path, here)
        assert rows == sent[:2:-1]
        assert await followed(api, path, here) == ([], here)


async def test_every_answer_to_a_write_and_every_list_carries_a_position(served: Served, name: Name) -> None:
    api, alice = served.client, name("alice")
    writes = [await api.post("/v1/accounts", {"id": alice, "asset": "USD"}, key=name("key")) for _ in range(2)]
    key = name("key")
    writes += [await api.post("/v1/accounts", {"id": alice, "asset": "USD"}, key=key) for _ in range(2)]
    assert [write.status for write in writes] == [201, 409, 409, 409]
    assert writes[-1].replayed
    body = {"account": alice, "amount": "1", "asset": "USD"}
    writes += [await api.post("/v1/deposits", body, prefer=wait) for wait in ("wait=5", "respond-async")]
    writes += [await api.post("/v1/deposits", {}), await api.call("DELETE", f"/v1/accounts/{alice}")]
    lists = [
        await api.call("GET", path)
        for path in ("/v1/assets", "/v1/accounts", "/v1/transactions", "/v1/mixes", f"/v1/accounts/{alice}/entries")
    ]
    for told in writes + lists:
        assert 0 < len(told.headers[POSITION]) <= POSITION_CHARACTERS_MAX, told
    stranger = await Client(api.url, "not-a-key-of-anybody-here").post("/v1/accounts", {})
    assert POSITION not in stranger.headers


async def test_a_position_is_refused_when_it_is_none_or_ahead_of_the_ledger(api: Client) -> None:
    for position in ("what", "", "7fffffffffffff", "f" * 15, "f" * 201):
        told = await api.call("GET", f"/v1/transactions?after_position={position}")
        assert (told.status, told.code) == (400, "invalid_request"), position
