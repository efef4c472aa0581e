"""Which coins count as deposits, what they are worth, and when they are swept, on real parts."""

import asyncio

import pytest

from tests.integration.mixer import HOUSE, mixer_scene
from tests.integration.mixer_stage import Stage

JOB = 10**18


async def test_what_is_finer_than_the_ledger_adds_up_until_it_is_worth_a_minor_unit(mixer: Stage) -> None:
    mixer.start("deposit_poller")
    mixer.start("distributor")
    async with mixer_scene(mixer) as here:
        mix, address = await here.mix("anna")
        await here.pay(address, "1.0000000000000000019")
        await here.until_received(mix, JOB + 1)
        await here.until_completed(mix)
        assert (await here.head(mix)).paid == JOB + 1
        await here.pay(address, "1.0000000000000000004")
        await here.until_received(mix, 2 * JOB + 2)
        await here.until_completed(mix)
        await here.prove_completed(mix, ["anna"])
        rest = await here.owner.fetchval("SELECT rest_units FROM mixer.mixes WHERE id = $1", mix)
        assert int(rest) == 3 * 10**21
        assert await here.balance(HOUSE) == "0.0000000000000000003"


async def test_dust_waits_at_its_address_until_it_is_worth_one_sweep_and_delays_nobody(mixer: Stage) -> None:
    mixer.start("deposit_poller", settings={"TELLERLINE_MIX_CREDIT_MIN": "0.001", "TELLERLINE_MIX_SWEEP_MIN": "0.01"})
    mixer.start("distributor")
    async with mixer_scene(mixer) as here:
        dusty, dust = await here.mix("anna")
        mix, address = await here.mix("bert")
        for _ in range(30):
            await here.pay(dust, "0.0003")
        await here.pay(address, "1")
        await here.until_completed(mix)
        await here.until_received(dusty, 9 * JOB // 1000)
        head = await here.head(dusty)
        assert (head.status, head.received) == ("waiting", 9 * JOB // 1000)
        assert await here.balance(dust) == "0.009"
        await here.pay(dust, "0.001")
        await here.until_completed(dusty)
        assert len([row for row in await here.listed() if row.source == dust]) == 1
        assert await here.owner.fetchval("SELECT count(*) FROM payouts.credits WHERE mix_id = $1", dusty) == 1
        await here.prove_completed(dusty, ["anna"])
        await here.prove_completed(mix, ["bert"])


async def test_a_transfer_of_a_deposit_address_to_itself_is_neither_a_deposit_nor_a_loss(mixer: Stage) -> None:
    poller = mixer.start("deposit_poller")
    mixer.start("distributor")
    async with mixer_scene(mixer) as here:
        mix, address = await here.mix("anna")
        assert poller.stop() == 0
        await here.pay(address, "5")
        await here.pay(address, "2", sender=address)
        await asyncio.to_thread(mixer.start, "deposit_poller")
        await here.until_completed(mix)
        assert (await here.head(mix)).received == 5 * JOB
        await here.prove_completed(mix, ["anna"])


async def test_coins_that_a_third_party_took_are_not_credited_and_the_mix_says_why(mixer: Stage) -> None:
    poller = mixer.start("deposit_poller")
    mixer.start("distributor")
    async with mixer_scene(mixer) as here:
        mix, address = await here.mix("anna")
        assert poller.stop() == 0
        await here.pay(address, "5")
        await here.pay("thief", "3", sender=address)
        await asyncio.to_thread(mixer.start, "deposit_poller")

        async def is_stuck() -> bool:
            return (await here.head(mix)).status == "stuck"

        await here.until(is_stuck)
        reason = await here.owner.fetchval("SELECT reason FROM mixer.mix_heads WHERE id = $1", mix)
        assert "went elsewhere" in reason
        assert await here.owner.fetchval("SELECT count(*) FROM payouts.credits") == 0
        assert await here.balance(address) == "2"
        # What comes later is swept by itself.
        await here.pay(address, "4")

        async def is_paid() -> bool:
            return (await here.head(mix)).paid == 4 * JOB

        await here.until(is_paid)


@pytest.mark.parametrize("address", ["a/b", "x" * 464, "\U0001f600", "p%2Fq?r=1#s \\", "..", "."])
async def test_any_text_is_an_address_and_is_paid(mixer: Stage, address: str) -> None:
    mixer.start("deposit_poller")
    mixer.start("distributor")
    async with mixer_scene(mixer) as here:
        mix, deposit = await here.mix(address)
        await here.pay(deposit, "5")
        await here.until_completed(mix)
        await here.prove_completed(mix, [address])
