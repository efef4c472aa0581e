"""Killed, stopped or left without an answer anywhere: nothing is paid twice, and every coin is accounted for."""

import asyncio
import itertools
import json
import random
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from shared.runtime.fault_points import FaultPoint
from tests.integration.mixer import HOUSE, MixerScene, mixer_scene
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


async def logged(log: Path, words: str) -> bool:
    return words in log.read_text(encoding="utf-8", errors="replace")


@dataclass(slots=True)
class Between:
    """Stands before the network: passes everything on, except that transfers meet the next of `fates`."""

    network: str
    fates: list[str] = field(default_factory=list[str])
    met: list[str] = field(default_factory=list[str])
    url: str = ""
    # The list shows its last row twice, as if it had a twin.
    is_doubling: bool = False
    # What the list shows instead of its rows.
    rewrite: Callable[[list[dict[str, str]]], object] | None = None
    late_s: float = 1.0
    late: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fate = self.fates.pop(0) if request.method == "POST" and self.fates else "pass"
        self.met.append(fate)
        if fate == "lose":
            return web.json_response({"error": "try later"}, status=503)
        if fate == "late":
            self.late.append(asyncio.get_running_loop().create_task(self._later(request, body)))
            return web.Response(text="<html>Bad Gateway</html>", status=200, content_type="text/html")
        answered = await self._ask(request, body)
        if self.rewrite is not None and request.path.endswith("/transactions") and request.method == "GET":
            rows = json.loads(answered.body if isinstance(answered.body, bytes) else b"[]")
            return web.json_response(self.rewrite(rows))
        if self.is_doubling and request.path.endswith("/transactions") and request.method == "GET":
            rows = json.loads(answered.body if isinstance(answered.body, bytes) else b"[]")
            return web.json_response([*rows, *rows[-1:]])
        if fate == "cut":
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return answered

    async def _later(self, request: web.Request, body: bytes) -> None:
        await asyncio.sleep(self.late_s)
        await self._ask(request, body)

    async def _ask(self, request: web.Request, body: bytes) -> web.Response:
        kept = {name: value for name, value in request.headers.items() if name in {"Content-Type", "If-None-Match"}}
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, self.network + request.path_qs, data=body, headers=kept) as answer,
        ):
            headers = {name: value for name, value in answer.headers.items() if name in {"Content-Type", "ETag"}}
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)


@asynccontextmanager
async def between(on: Stage, fates: list[str]) -> AsyncGenerator[Between]:
    proxy = Between(on.network.url, fates)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", proxy.pass_on)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield proxy
    finally:
        await asyncio.gather(*proxy.late)
        await runner.cleanup()


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
