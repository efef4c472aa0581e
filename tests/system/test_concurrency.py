"""Many clients at once: one effect for each key, exact balances on a hot account."""

import asyncio
from decimal import Decimal

from tests.system.client import Client, fresh_key
from tests.system.stack import Stack


async def test_a_hundred_concurrent_repeats_of_one_key_have_one_effect_and_one_answer(client: Client) -> None:
    source, destination, key = await client.account(funds="10"), await client.account(), fresh_key()
    answers = await asyncio.gather(*(client.transfer(source, destination, "1", key=key) for _ in range(100)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.operation_id for answer in answers}) == 1
    assert len({str(answer.body) for answer in answers}) == 1
    assert await client.balance(source) == "9"


async def test_a_repeat_with_other_content_is_refused_and_changes_nothing(client: Client) -> None:
    source, destination, key = await client.account(funds="10"), await client.account(), fresh_key()
    assert (await client.transfer(source, destination, "1", key=key)).status == 201
    refused = await client.transfer(source, destination, "2", key=key)
    assert (refused.status, refused.code) == (422, "idempotency_key_reused")
    assert await client.balance(source) == "9"


async def test_sixty_four_clients_hammering_one_account_never_overdraw_it(client: Client) -> None:
    hot = await client.account(funds="100")
    others = await client.accounts(64)

    async def spend(other: str) -> list[int]:
        return [(await client.transfer(hot, other, "1")).status for _ in range(4)]

    statuses = [status for each in await asyncio.gather(*map(spend, others)) for status in each]
    assert (statuses.count(201), statuses.count(422)) == (100, 156)
    assert await client.balance(hot) == "0"
    assert sum([Decimal(await client.balance(other)) for other in others]) == 100


async def test_credits_to_other_partitions_go_through_transit(stack: Stack, client: Client) -> None:
    before = await stack.metric("ledger_worker", "ledger_transit_legs_total")
    source = await client.account(funds="16")
    others = await client.accounts(16)
    for other in others:
        moved = await client.transfer(source, other, "1")
        assert (moved.status, moved.body["settled"]) == (201, True), moved
    assert [await client.balance(other) for other in others] == ["1"] * 16
    taken_in = await stack.metric("ledger_worker", "ledger_transit_legs_total") - before
    assert (taken_in > 0) == (stack.partitions > 1)
