"""Killed, stopped or left without an answer anywhere: nothing is paid twice, and every coin is accounted for."""

import asyncio
import itertools
import random
import signal
from pathlib import Path

import pytest

from shared.runtime.fault_points import FaultPoint
from tests.integration.mixer import HOUSE, MixerScene, mixer_scene
from tests.integration.mixer_proxy import between, logged
from tests.integration.mixer_stage import API, Stage

JOB = 10**18
SWEEP_POINTS = [
    point for point in FaultPoint if point.startswith("poller.") and point is not FaultPoint.POLLER_AFTER_ORDER_WRITTEN
]
# A single payout passes the points of both its transfers in this order: to its one-shot address, then on.
DISTRIBUTOR_POINTS = [
    (FaultPoint.DISTRIBUTOR_IN_PLAN, 1),
    (FaultPoint.DISTRIBUTOR_AFTER_HOLD, 1),
    *itertools.product(
        (FaultPoint.DISTRIBUTOR_AFTER_INTENT, FaultPoint.DISTRIBUTOR_AFTER_SEND, FaultPoint.DISTRIBUTOR_AFTER_SEEN),
        (1, 2),
    ),
    (FaultPoint.DISTRIBUTOR_BEFORE_CAPTURE, 1),
    (FaultPoint.DISTRIBUTOR_AFTER_CAPTURE, 1),
]
# Rows at the moment of death: what the point's name says has happened, and what has not.
LANDED = {
    FaultPoint.POLLER_AFTER_DEPOSIT_WRITTEN: ("None", 0),
    FaultPoint.POLLER_AFTER_SWEEP_PLANNED: ("planned", 0),
    FaultPoint.POLLER_AFTER_SWEEP_INTENT: ("sending", 0),
    FaultPoint.POLLER_AFTER_SWEEP_SENT: ("sending", 1),
    FaultPoint.POLLER_AFTER_SWEEP_SEEN: ("sending", 1),
    FaultPoint.POLLER_BEFORE_CREDIT: ("seen", 0),
    (FaultPoint.DISTRIBUTOR_IN_PLAN, 1): ("None", 0),  # nobody sees half a plan
    (FaultPoint.DISTRIBUTOR_AFTER_HOLD, 1): ("planned", 0),
    (FaultPoint.DISTRIBUTOR_AFTER_INTENT, 1): ("funding", 0),
    (FaultPoint.DISTRIBUTOR_AFTER_SEND, 1): ("funding", 1),
    (FaultPoint.DISTRIBUTOR_AFTER_SEEN, 1): ("funding", 1),
    (FaultPoint.DISTRIBUTOR_AFTER_INTENT, 2): ("sending", 0),
    (FaultPoint.DISTRIBUTOR_AFTER_SEND, 2): ("sending", 1),
    (FaultPoint.DISTRIBUTOR_AFTER_SEEN, 2): ("sending", 1),
    (FaultPoint.DISTRIBUTOR_BEFORE_CAPTURE, 1): ("sent", 0),
    (FaultPoint.DISTRIBUTOR_AFTER_CAPTURE, 1): ("sent", 0),
}


def test_every_point_of_the_mixer_is_tried() -> None:
    tried = {FaultPoint.POLLER_AFTER_ORDER_WRITTEN, *SWEEP_POINTS, *(point for point, _ in DISTRIBUTOR_POINTS)}
    assert tried == {point for point in FaultPoint if point.startswith(("poller.", "distributor."))}


async def state_of(here: MixerScene, table: str) -> str:
    return str(await here.owner.fetchval(f"SELECT state FROM {table}"))


async def applied(here: MixerScene, table: str) -> int:
    """How many of the open intents the network shows as applied."""
    rows = {(row.source, row.destination) for row in await here.listed()}
    opened = await here.owner.fetch(f"SELECT source, destination FROM {table} WHERE ended IS NULL")
    return sum((row["source"], row["destination"]) in rows for row in opened)


@pytest.mark.parametrize("point", SWEEP_POINTS)
async def test_a_poller_that_dies_at_any_step_of_a_sweep_leaves_nothing_undone_and_nothing_done_twice(
    mixer: Stage, point: FaultPoint
) -> None:
    poller = mixer.start("deposit_poller", fault=f"{point}:1")
    mixer.start("distributor")
    async with mixer_scene(mixer) as here:
        mix, address = await here.mix("anna", "bert")
        await here.pay(address, "12.5")
        await asyncio.to_thread(poller.wait_killed)
        await here.until_quiet()
        assert (await state_of(here, "mixer.sweeps"), await applied(here, "mixer.sweep_intents")) == LANDED[point]
        await here.prove()
        mixer.start("deposit_poller")
        await here.until_completed(mix)
        assert len([row for row in await here.listed() if row.source == address]) == 1
        await here.prove_completed(mix, ["anna", "bert"])


@pytest.mark.parametrize(("point", "passage"), DISTRIBUTOR_POINTS)
async def test_a_distributor_that_dies_at_any_step_of_a_payout_pays_it_once(
    mixer: Stage, point: FaultPoint, passage: int
) -> None:
    mixer.start("deposit_poller")
    distributor = mixer.start("distributor", fault=f"{point}:{passage}")
    async with mixer_scene(mixer) as here:
        # One minor unit cannot be divided: a single payout, whose steps come in a known order.
        mix, address = await here.mix("anna")
        await here.pay(address, "0.000000000000000001")
        await asyncio.to_thread(distributor.wait_killed)
        await here.until_quiet()
        landed = (await state_of(here, "payouts.payouts"), await applied(here, "payouts.intents"))
        assert landed == LANDED[point, passage]
        await here.prove()
        mixer.start("distributor")
        await here.until_completed(mix)
        await here.prove_completed(mix, ["anna"])
        assert len([row for row in await here.listed() if row.destination == "anna"]) == 1


async def test_services_that_are_killed_again_and_again_lose_nothing(mixer: Stage) -> None:
    chance = random.Random(2024)
    running = {service: mixer.start(service) for service in ("deposit_poller", "distributor")}
    async with mixer_scene(mixer) as here:
        mixes = [await here.mix(f"receiver-{number}", delay_ms_max=4_000) for number in range(6)]
        for _, address in mixes:
            await here.pay(address, "2.75")
            await here.pay(address, "1.1")
        for _ in range(6):
            await asyncio.sleep(chance.uniform(0.2, 0.8))
            for process in running.values():
                process.popen.send_signal(signal.SIGSTOP)
            await here.until_quiet()
            await here.prove()
            for process in running.values():
                process.popen.send_signal(signal.SIGCONT)
            service = chance.choice(sorted(running))
            running[service].kill()
            running[service] = await asyncio.to_thread(mixer.start, service)
        for mix, _ in mixes:
            await here.until_received(mix, 385 * JOB // 100)
        await here.until_completed(*(mix for mix, _ in mixes), within_s=60)
        for number, (mix, _) in enumerate(mixes):
            await here.prove_completed(mix, [f"receiver-{number}"])


async def test_a_poller_that_was_stopped_and_wakes_up_late_sends_nothing_more(mixer: Stage) -> None:
    zombie = mixer.start("deposit_poller", fault=f"{FaultPoint.POLLER_AFTER_SWEEP_INTENT}:1:stop")
    async with mixer_scene(mixer) as here:
        mix, address = await here.mix("anna")
        await here.pay(address, "5")
        await here.until(lambda: hit(zombie.log))
        mixer.start("deposit_poller")
        mixer.start("distributor")
        await here.until_completed(mix)
        # More of the same amount lies there when it wakes: a late sweep would take it.
        zombie.popen.send_signal(signal.SIGCONT)
        await here.pay(address, "5")
        await here.until(lambda: logged(zombie.log, "the claim has run out"))
        await here.until_received(mix, 10 * JOB)
        await here.until_completed(mix)
        await here.prove_completed(mix, ["anna"])
        assert await here.owner.fetchval("SELECT count(*) FROM mixer.sweep_intents WHERE ended = 'seen'") == 2


async def hit(log: Path) -> bool:
    return "fault.hit" in log.read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize("fates", [["cut", "cut", "cut"], ["late", "late", "late"], ["lose", "cut", "late", "lose"]])
async def test_transfers_without_an_answer_are_looked_for_and_never_sent_blindly(
    mixer: Stage, fates: list[str]
) -> None:
    asked = list(fates)
    async with mixer_scene(mixer) as here, between(mixer, fates) as proxy:
        settings = {"TELLERLINE_JOBCOIN_URL": proxy.url + API}
        await asyncio.to_thread(mixer.start, "deposit_poller", settings=settings)
        await asyncio.to_thread(mixer.start, "distributor", settings=settings)
        mix, address = await here.mix("anna")
        await here.pay(address, "0.000000000000000001")
        await here.until_completed(mix, within_s=60)
        assert [fate for fate in proxy.met if fate != "pass"] == asked
        assert len([row for row in await here.listed() if row.destination == "anna"]) == 1
        assert len([row for row in await here.listed() if row.source == address]) == 1
        await here.prove_completed(mix, ["anna"])


async def test_a_funding_later_than_the_settle_time_pays_nobody_twice_and_comes_back(mixer: Stage) -> None:
    async with mixer_scene(mixer) as here, between(mixer, ["late"]) as proxy:
        proxy.late_s = 4.0  # the settle time is 1.5 s: the bound is broken
        mixer.start("deposit_poller")
        settings = {"TELLERLINE_JOBCOIN_URL": proxy.url + API}
        await asyncio.to_thread(mixer.start, "distributor", settings=settings)
        mix, address = await here.mix("anna")
        await here.pay(address, "0.000000000000000001")
        # Somebody else's coins at the house, or there would be nothing for the second attempt to take.
        await here.pay(HOUSE, "1")
        await here.until_completed(mix)

        async def returned() -> bool:
            return await here.owner.fetchval("SELECT count(*) FROM payouts.intents WHERE ended = 'returned'") == 1

        await here.until(returned)
        assert await here.paid_to(["anna"]) == 1
        assert await here.balance(HOUSE) == "1"


async def test_a_row_that_the_address_does_not_know_is_no_deposit(mixer: Stage) -> None:
    async with mixer_scene(mixer) as here, between(mixer, []) as proxy:
        settings = {"TELLERLINE_JOBCOIN_URL": proxy.url + API}
        poller = await asyncio.to_thread(mixer.start, "deposit_poller", settings=settings)
        mixer.start("distributor")
        mix, address = await here.mix("anna")
        proxy.is_doubling = True
        await here.pay(address, "5")
        await here.until(lambda: logged(poller.log, "deposit.unconfirmed"))
        await here.until_received(mix, 5 * JOB)
        proxy.is_doubling = False
        await here.pay(address, "2")
        await here.until_received(mix, 7 * JOB)
        await here.until_completed(mix)
        assert (await here.head(mix)).received == 7 * JOB
        await here.prove_completed(mix, ["anna"])
