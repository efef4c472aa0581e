"""Mixes over HTTP, as a customer orders them, while the services behind them die."""

import asyncio
from collections.abc import Mapping
from typing import cast

from tests.system.client import Client, fresh_key
from tests.system.stack import Stack

# A claim of a killed service runs out, then what it may have sent has to settle.
PAID_MAX_S = 150


async def test_what_a_customer_sends_is_paid_on_to_the_last_unit_though_every_service_is_killed(
    stack: Stack, client: Client
) -> None:
    orders = [(fresh_key("mix"), [fresh_key("one"), fresh_key("two")]) for _ in range(4)]
    mixes = await asyncio.gather(*(order(client, key, receivers) for key, receivers in orders))
    for mix in mixes:
        await pay(client, stack, str(mix["deposit_address"]), "12.5")
    for name in ("deposit_poller-1", "distributor-1", "ledger_worker-1"):
        await asyncio.sleep(1)
        await stack.killed(name)

    async def all_completed() -> bool:
        shown = [await client.get(f"/v1/mixes/{mix['id']}") for mix in mixes]
        return all(answer.body.get("status") == "completed" for answer in shown)

    await stack.wait_until(all_completed, within_s=PAID_MAX_S)
    for mix, (key, receivers) in zip(mixes, orders, strict=True):
        body = (await client.get(f"/v1/mixes/{mix['id']}")).body
        assert (body["received"], body["fee"], body["paid"], body["remaining"]) == ("12.5", "0.25", "12.25", "0")
        arrived = [await received(client, stack, receiver) for receiver in receivers]
        assert sum(arrived) == 12_250_000_000_000_000_000
        assert min(arrived) > 0
        again = await order(client, key, receivers)
        assert (again["id"], again["deposit_address"]) == (mix["id"], mix["deposit_address"])

    # The gauge is read from the rows every few seconds.
    async def nothing_is_unknown() -> bool:
        return await stack.metric("distributor", "mixer_unknown_open") == 0

    await stack.wait_until(nothing_is_unknown, within_s=PAID_MAX_S)


async def test_an_address_that_was_used_is_refused_by_name(client: Client) -> None:
    refused = await client.post("/v1/mixes", {"destinations": [fresh_key("unused"), "Alice"]}, key=fresh_key())
    assert (refused.status, refused.code) == (422, "address_refused")
    errors = cast("list[Mapping[str, str]]", refused.body["errors"])
    assert [error["message"] for error in errors] == ["the address was used before"]
    assert "1" in errors[0]["field"]


async def order(client: Client, key: str, receivers: list[str]) -> Mapping[str, object]:
    body = {"destinations": receivers, "fee_percent": "2", "delay_s": {"min": 0, "max": 4}}
    ordered = await client.post_until_decided("/v1/mixes", body, key=key)
    assert ordered.status == 201, ordered
    return ordered.body


async def pay(client: Client, stack: Stack, address: str, coins: str) -> None:
    """From a customer whose coins were made just now."""
    customer = fresh_key("customer")
    async with client.session.post(f"{stack.facts.jobcoin}/create", data={"address": customer}) as made:
        assert made.status == 200
    fields = {"fromAddress": customer, "toAddress": address, "amount": coins}
    async with client.session.post(f"{stack.facts.jobcoin}/transactions", data=fields) as sent:
        assert sent.status == 200


async def received(client: Client, stack: Stack, address: str) -> int:
    """10^-18 of a coin that lie at the address."""
    async with client.session.get(f"{stack.facts.jobcoin}/addresses/{address}") as answer:
        whole, _, fraction = str((await answer.json())["balance"]).partition(".")
        return int(whole + fraction.ljust(18, "0"))
