"""Whose payout comes next: no mix keeps another waiting."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from services.distributor.core.payouts import Payout, PayoutState
from services.distributor.store.payouts import ENQUEUED_MAX, PayoutStore
from shared.database import postgres
from tests.backends.databases import Database
from tests.integration.mixer_rows import MixerRows

CLAIM_S = 60.0
MANY = 2_000


@pytest.fixture
async def rows(database: Database) -> AsyncIterator[MixerRows]:
    connection = await postgres.connect(database.owner, application="tests")
    yield MixerRows(connection)
    await connection.close()


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PayoutStore]:
    async with await postgres.open_pool(database.distributor, application="tests") as pool:
        yield PayoutStore(pool)


async def finish(store: PayoutStore, payouts: Sequence[Payout]) -> None:
    """Lets them leave the queue, in the shortest way that there is."""
    for payout in payouts:
        await store.move(payout, replace(payout, state=PayoutState.STUCK), "as the test wants it")


async def test_a_payout_waits_for_a_bounded_number_of_another_mix_s(rows: MixerRows, store: PayoutStore) -> None:
    assert MANY > ENQUEUED_MAX
    many, one = await rows.mix(), await rows.mix()
    await rows.payouts(many, MANY, due_s=60)
    await finish(store, await store.claim(16, CLAIM_S))
    await rows.payouts(one, 1, due_s=1)
    claimed = await store.claim(2, CLAIM_S)
    assert [payout.mix for payout in claimed].count(one) == 1


async def test_mixes_take_turns_and_each_is_paid_in_the_order_in_which_its_payouts_are_due(
    rows: MixerRows, store: PayoutStore
) -> None:
    mixes = [await rows.mix() for _ in range(3)]
    due = {mix: await rows.payouts(mix, 20, due_s=60 - number) for number, mix in enumerate(mixes)}
    served = dict.fromkeys(mixes, 0)
    for _ in range(20):
        claimed = await store.claim(3, CLAIM_S)
        assert {payout.mix for payout in claimed} == set(mixes)
        for payout in claimed:
            assert payout.id == due[payout.mix][served[payout.mix]]
            served[payout.mix] += 1
        await finish(store, claimed)
    assert await store.claim(3, CLAIM_S) == []


async def test_a_mix_whose_payouts_are_tried_again_and_again_keeps_no_other_waiting(
    rows: MixerRows, store: PayoutStore
) -> None:
    troubled, other = await rows.mix(), await rows.mix()
    await rows.payouts(troubled, 100, due_s=60)
    await rows.payouts(other, 10, due_s=1)
    of_other = 0
    for _ in range(10):
        claimed = await store.claim(2, CLAIM_S)
        of_other += [payout.mix for payout in claimed].count(other)
        for payout in claimed:
            if payout.mix == troubled:
                await store.release(payout, 0.0, "no luck")
            else:
                await finish(store, [payout])
    assert of_other == 10


async def test_a_payout_that_is_not_due_is_not_claimed_and_a_claimed_one_not_again(
    rows: MixerRows, store: PayoutStore
) -> None:
    mix = await rows.mix()
    await rows.payouts(mix, 1, due_s=-60)
    assert await store.claim(16, CLAIM_S) == []
    await rows.payouts(mix, 1, due_s=1)
    [claimed] = await store.claim(16, CLAIM_S)
    assert await store.claim(16, CLAIM_S) == []
    await store.release(claimed, 60.0, "no luck")
    assert await store.claim(16, CLAIM_S) == []


async def test_a_claim_that_has_run_out_is_taken_over(rows: MixerRows, store: PayoutStore) -> None:
    await rows.payouts(await rows.mix(), 1)
    [first] = await store.claim(16, 0.0)
    [second] = await store.claim(16, CLAIM_S)
    assert (second.id, second.claim) == (first.id, first.claim + 1)
