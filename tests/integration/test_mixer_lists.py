"""Whatever the network's list says, nothing is credited that the house did not gain, and nothing is credited twice."""

import asyncio

import pytest

from tests.integration.mixer import mixer_scene
from tests.integration.mixer_proxy import between, logged
from tests.integration.mixer_stage import API, Stage

JOB = 10**18


def rewritten(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The same rows at other times, the newest first."""
    return [row | {"timestamp": "2020-01-01T00:00:00.000Z"} for row in reversed(rows)]


async def test_a_list_whose_times_and_order_were_rewritten_is_not_credited_again(mixer: Stage) -> None:
    async with mixer_scene(mixer) as here, between(mixer, []) as proxy:
        settings = {"TELLERLINE_JOBCOIN_URL": proxy.url + API}
        poller = await asyncio.to_thread(mixer.start, "deposit_poller", settings=settings)
        mixer.start("distributor")
        mix, address = await here.mix("anna")
        for _ in range(2):
            await here.pay(address, "5")
        await here.until_received(mix, 10 * JOB)
        await here.until_completed(mix)
        proxy.rewrite = rewritten
        await here.until(lambda: logged(poller.log, "list.changed"))
        await here.pay(address, "5")
        await here.until_received(mix, 15 * JOB)
        await here.until_completed(mix)
        await here.prove_completed(mix, ["anna"])
        assert "deposits.disputed" not in poller.text()
        # Another way to the network changes nothing either.
        assert poller.stop() == 0
        await asyncio.to_thread(mixer.start, "deposit_poller")
        await here.pay(address, "1")
        await here.until_received(mix, 16 * JOB)
        await here.until_completed(mix)
        await here.prove_completed(mix, ["anna"])


async def test_an_address_of_which_the_list_lost_a_row_gets_nothing_until_it_is_back(mixer: Stage) -> None:
    async with mixer_scene(mixer) as here, between(mixer, []) as proxy:
        settings = {"TELLERLINE_JOBCOIN_URL": proxy.url + API}
        poller = await asyncio.to_thread(mixer.start, "deposit_poller", settings=settings)
        mixer.start("distributor")
        mix, address = await here.mix("anna")
        other, another = await here.mix("bert")
        await here.pay(address, "5")
        await here.until_received(mix, 5 * JOB)
        await here.until_completed(mix)
        proxy.rewrite = lambda rows: [row for row in rows if (row["toAddress"], row["amount"]) != (address, "5")]
        await here.until(lambda: logged(poller.log, "deposits.disputed"))
        assert (await here.head(mix)).status == "stuck"
        await here.pay(address, "2")
        await here.pay(another, "3")
        await here.until_completed(other)
        assert await here.balance(address) == "2"
        proxy.rewrite = None
        await here.until(lambda: logged(poller.log, "deposits.settled"))
        await here.until_received(mix, 7 * JOB)
        await here.until_completed(mix)
        await here.prove_completed(mix, ["anna"])
        assert poller.text().count('"deposits.disputed"') == 1


async def test_a_poller_does_not_start_with_another_name_of_the_network_than_its_deposits_have(mixer: Stage) -> None:
    """It would find every deposit once more."""
    async with mixer_scene(mixer) as here:
        poller = await asyncio.to_thread(mixer.start, "deposit_poller")
        mix, address = await here.mix("anna")
        await here.pay(address, "5")
        await here.until_received(mix, 5 * JOB)
        assert poller.stop() == 0
        other = {"TELLERLINE_JOBCOIN_NETWORK": "other"}
        with pytest.raises(AssertionError, match="NETWORK is other, but the deposits of this ledger are of jobcoin"):
            await asyncio.to_thread(mixer.start, "deposit_poller", settings=other)
        assert mixer.processes[-1].popen.wait() == 2
        await asyncio.to_thread(mixer.start, "deposit_poller")


async def test_a_row_that_is_gone_from_the_end_of_the_list_and_comes_back_there_is_no_other_deposit(
    mixer: Stage,
) -> None:
    async with mixer_scene(mixer) as here, between(mixer, []) as proxy:
        settings = {"TELLERLINE_JOBCOIN_URL": proxy.url + API}
        poller = await asyncio.to_thread(mixer.start, "deposit_poller", settings=settings)
        mix, address = await here.mix("anna")
        await here.pay(address, "5")
        await here.until_received(mix, 5 * JOB)
        await here.until(lambda: logged(poller.log, "sweep.credited"))
        proxy.rewrite = lambda rows: rows[:-2]  # the deposit and its sweep
        await here.until(lambda: logged(poller.log, "deposits.disputed"))
        proxy.rewrite = None
        await here.until(lambda: logged(poller.log, "deposits.settled"))
        await here.pay(address, "5")
        await here.until_received(mix, 10 * JOB)
        mixer.start("distributor")
        await here.until_completed(mix)
        await here.prove_completed(mix, ["anna"])


async def test_a_list_that_cannot_be_read_raises_one_alert_and_stops_neither_sweeps_nor_orders(mixer: Stage) -> None:
    async with mixer_scene(mixer) as here, between(mixer, []) as proxy:
        settings = {"TELLERLINE_JOBCOIN_URL": proxy.url + API, "TELLERLINE_NETWORK_TIMEOUT_S": "0.5"}
        poller = await asyncio.to_thread(mixer.start, "deposit_poller", settings=settings)
        mixer.start("distributor")
        mix, address = await here.mix("anna")
        proxy.rewrite = lambda _: {"error": "no list today"}
        await here.until(lambda: logged(poller.log, "deposits.unseen"))
        assert (await here.send(here.order("bert"))).status == "posted"
        await here.pay(address, "5")
        proxy.rewrite = None
        await here.until(lambda: logged(poller.log, "deposits.seen_again"))
        await here.until_received(mix, 5 * JOB)
        await here.until_completed(mix)
        await here.prove_completed(mix, ["anna"])
        assert poller.text().count('"deposits.unseen"') == 1


async def test_an_address_that_stays_unreadable_counts_as_used_and_blocks_no_other_order(mixer: Stage) -> None:
    async with mixer_scene(mixer) as here, between(mixer, []) as proxy:
        proxy.unreadable = "odd"
        settings = {"TELLERLINE_JOBCOIN_URL": proxy.url + API}
        await asyncio.to_thread(mixer.start, "deposit_poller", settings=settings)
        orders = [here.order("odd", f"even-{number}") for number in range(3)]
        *odd, other = await asyncio.gather(*(here.send(order) for order in [*orders, here.order("anna")]))
        assert other.status == "posted"
        for outcome in odd:
            (error,) = outcome.errors
            assert (error.field, "counts as used" in error.message) == ("destinations[0]", True)
