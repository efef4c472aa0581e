"""Fundings that were taken for absent: each is looked for until its coins are back, however late they came."""

import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import pytest

from services.distributor.payouts import Reclaimer
from services.distributor.store.payouts import PayoutStore
from shared.database import postgres
from shared.mixer.jobcoin import JobcoinNetwork, NetworkUnavailable
from shared.mixer.jobcoin_rows import Address, AddressView, ListedRow, Transfer
from tests.backends.databases import Database
from tests.integration.mixer_rows import MixerRows

HOUSE = Address("tellerline-house")
NOON = "2026-11-21T12:00:00.000Z"
ABSENT = """
INSERT INTO payouts.intents (id, payout_id, leg, attempt, source, destination, amount_units, ended, settles_at,
                             opened_at)
SELECT $1, $2, 'fund', $3, 'tellerline-house', 'pay-' || $1::uuid, 5, 'absent', sent_at, sent_at
  FROM (SELECT clock_timestamp() - $4::float8 * interval '1 hour' AS sent_at) s
"""


@dataclass
class MemoryNetwork:
    """Addresses with their rows; some cannot be read. Transfers are applied."""

    rows: list[ListedRow] = field(default_factory=list[ListedRow])
    unreadable: set[str] = field(default_factory=set[str])
    looks: list[str] = field(default_factory=list[str])

    async def address(self, address: Address) -> AddressView:
        self.looks.append(address)
        if address in self.unreadable:
            raise NetworkUnavailable(address)
        rows = [row for row in self.rows if address in {row.source, row.destination}]
        units = sum(row.units if row.destination == address else -row.units for row in rows)
        return AddressView(address, units, Counter(row.transfer for row in rows))

    async def send(self, transfer: Transfer) -> None:
        self.rows.append(ListedRow(NOON, transfer.source, transfer.destination, transfer.units))


@dataclass
class Scene:
    """One payout; its fundings; who looks for them."""

    owner: postgres.Connection
    network: MemoryNetwork
    reclaimer: Reclaimer
    payout: str = ""
    fundings: int = 0

    async def absent(self, hours_ago: float) -> Address:
        """A funding that was sent so long ago and taken for absent; its one-shot address."""
        self.fundings += 1
        intent = str(uuid.uuid4())
        await self.owner.execute(ABSENT, intent, self.payout, self.fundings, hours_ago)
        return Address(f"pay-{intent}")

    def apply(self, address: Address) -> None:
        """The network applies the funding after all."""
        self.network.rows.append(ListedRow(NOON, HOUSE, address, 5))

    async def returned(self) -> set[str]:
        rows = await self.owner.fetch("SELECT destination FROM payouts.intents WHERE ended = 'returned'")
        return {row["destination"] for row in rows}

    async def hours_pass(self, hours: int) -> None:
        await self.owner.execute("UPDATE payouts.intents SET look_at = look_at - $1 * interval '1 hour'", hours)


@pytest.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    owner = await postgres.connect(database.owner, application="tests")
    rows, network = MixerRows(owner), MemoryNetwork()
    async with await postgres.open_pool(database.distributor, application="tests") as pool:
        opened = Scene(owner, network, Reclaimer(cast("JobcoinNetwork", network), PayoutStore(pool), 60.0))
        [opened.payout] = await rows.payouts(await rows.mix(), 1)
        yield opened
    await owner.close()


async def test_a_funding_that_is_applied_after_a_day_comes_home(scene: Scene) -> None:
    address = await scene.absent(hours_ago=25)
    await scene.reclaimer.tick()
    assert await scene.returned() == set()
    scene.apply(address)
    await scene.reclaimer.tick()
    assert await scene.returned() == set()  # it is not its turn yet
    await scene.hours_pass(24)
    await scene.reclaimer.tick()
    assert await scene.returned() == {address}
    assert (await scene.network.address(HOUSE)).balance == 0


async def test_one_bad_address_and_many_old_ones_starve_nobody(scene: Scene) -> None:
    bad = [await scene.absent(hours_ago=30) for _ in range(3)]
    scene.network.unreadable = {*bad}
    for _ in range(150):
        await scene.absent(hours_ago=2)
    late = await scene.absent(hours_ago=48)
    scene.apply(late)
    await scene.reclaimer.tick()
    assert await scene.returned() == {late}
    scene.network.unreadable = set()
    for address in bad:
        scene.apply(address)
    await scene.hours_pass(1)
    await scene.reclaimer.tick()
    assert await scene.returned() == {late, *bad}


async def test_an_empty_address_is_no_proof_that_the_coins_are_back(scene: Scene) -> None:
    address = await scene.absent(hours_ago=1)
    scene.apply(address)
    scene.network.rows.append(ListedRow(NOON, address, Address("a-thief"), 5))
    await scene.reclaimer.tick()
    assert await scene.returned() == set()
    scene.network.rows.append(ListedRow(NOON, Address("a-thief"), address, 5))
    await scene.hours_pass(24)
    await scene.reclaimer.tick()
    assert await scene.returned() == {address}


async def test_a_funding_is_looked_for_ever_more_rarely_and_at_last_once_a_day(scene: Scene) -> None:
    young, old = await scene.absent(hours_ago=0), await scene.absent(hours_ago=1_000)
    await scene.reclaimer.tick()
    rows = await scene.owner.fetch(
        "SELECT destination, extract(epoch FROM look_at - clock_timestamp()) AS wait_s FROM payouts.intents"
    )
    waits_s = {row["destination"]: float(row["wait_s"]) for row in rows}
    assert waits_s[young] == pytest.approx(60, abs=5)
    assert waits_s[old] == pytest.approx(86_400, abs=5)
