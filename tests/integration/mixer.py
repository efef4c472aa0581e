"""A customer of the mixer, and an auditor who proves that every coin is accounted for."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import aiohttp

from shared.database import postgres
from shared.domain.ids import CommandIds, Principal
from shared.ledger_client.client import LedgerClient
from shared.messages import MixCreate, Outcome
from shared.messages.mixer import deposit_address, mix_id
from shared.mixer.jobcoin_rows import UNITS_PER_MINOR, ListedRow, read_rows, read_units
from tests.builders import SECRET, fingerprint
from tests.integration.mixer_stage import Stage

HOUSE = "tellerline-house"
CUSTOMER = Principal("customer")

HOUSE_BALANCE = "SELECT coalesce(sum(balance), 0) FROM ledger.account_heads WHERE id LIKE 'house:JOB:%'"
CREDITED = """
SELECT coalesce(sum((o.postings::json -> 0 ->> 2)::numeric), 0) FROM ledger.operations o
 WHERE kind = 'deposit.v1' AND principal = 'tellerline:mixer' AND outcome = 'posted'
"""
CAPTURED = """
SELECT coalesce(sum(h.amount), 0) FROM ledger.holds h
  JOIN ledger.hold_ends e ON e.hold_id = h.id AND e.ended = 'captured' WHERE h.account_id LIKE 'mix:%'
"""
DOUBLED = """
SELECT count(*) FROM (SELECT payout_id FROM payouts.intents WHERE leg = 'pay' AND ended = 'seen'
                       GROUP BY payout_id HAVING count(*) > 1) AS twice
"""


@dataclass(frozen=True, slots=True)
class Mix:
    """As mixer.mix_heads shows it; amounts in minor units."""

    id: str
    status: str
    received: int
    fee: int
    paid: int
    remaining: int


class MixerScene:
    """A customer of the mixer, and an auditor who sees everything."""

    def __init__(self, on: Stage, session: aiohttp.ClientSession, client: LedgerClient, owner: postgres.Pool) -> None:
        self.stage = on
        self.session = session
        self.client = client
        self.owner = owner
        self.ids = CommandIds(SECRET)

    def order(self, *destinations: str, key: str = "", fee_ppm: int = 0, delay_ms_max: int = 500) -> MixCreate:
        """An order as a gateway would send it."""
        return MixCreate(
            id=self.ids.of_key(CUSTOMER, key) if key else self.ids.fresh(CUSTOMER),
            principal=CUSTOMER,
            fingerprint=fingerprint("mix", destinations, fee_ppm, delay_ms_max),
            destinations=destinations,
            fee_ppm=fee_ppm,
            delay_ms_min=0,
            delay_ms_max=delay_ms_max,
        )

    async def send(self, order: MixCreate, within_s: float = 20) -> Outcome:
        result = await self.client.result(self.client.send_order(order), within_s)
        assert result is not None, "no outcome"
        return result.outcome

    async def mix(self, *destinations: str, fee_ppm: int = 0, delay_ms_max: int = 500) -> tuple[str, str]:
        """A new mix: its id and its deposit address."""
        order = self.order(*destinations, fee_ppm=fee_ppm, delay_ms_max=delay_ms_max)
        outcome = await self.send(order)
        assert outcome.status == "posted", outcome
        return mix_id(order.id), deposit_address(order.id)

    async def pay(self, address: str, coins: str, sender: str = "a-customer") -> None:
        """Coins from nowhere to the sender, and from there to the address."""
        while read_units(await self.balance(sender)) < read_units(coins):
            async with self.session.post(f"{self.stage.jobcoin}/create", data={"address": sender}) as answer:
                assert answer.status == 200
        fields = {"fromAddress": sender, "toAddress": address, "amount": coins}
        async with self.session.post(f"{self.stage.jobcoin}/transactions", data=fields) as answer:
            assert answer.status == 200, await answer.text()

    async def balance(self, address: str) -> str:
        async with self.session.get(f"{self.stage.jobcoin}/addresses/{address}") as answer:
            return (await answer.json())["balance"]

    async def listed(self) -> tuple[ListedRow, ...]:
        async with self.session.get(f"{self.stage.jobcoin}/transactions") as answer:
            return read_rows(await answer.json())

    async def head(self, mix: str) -> Mix:
        row = await self.owner.fetchrow("SELECT * FROM mixer.mix_heads WHERE id = $1", mix)
        assert row is not None
        amounts = {name: int(row[name]) for name in ("received", "fee", "paid", "remaining")}
        return Mix(id=str(row["id"]), status=row["status"], **amounts)

    async def until(self, what: Callable[[], Awaitable[bool]], within_s: float = 40) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not await what():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(await self.rows_and_logs()) from None

    async def until_completed(self, *mixes: str, within_s: float = 40) -> None:
        async def completed() -> bool:
            return all([(await self.head(mix)).status == "completed" for mix in mixes])

        await self.until(completed, within_s)

    async def until_received(self, mix: str, minor: int, within_s: float = 40) -> None:
        async def received() -> bool:
            return (await self.head(mix)).received >= minor

        await self.until(received, within_s)

    async def rows_and_logs(self) -> str:
        """The mixer's rows and the ends of the logs, for a test that failed."""
        tables = (
            "mixer.mix_heads",
            "mixer.deposits",
            "mixer.sweeps",
            "mixer.sweep_intents",
            "payouts.credits",
            "payouts.payouts",
            "payouts.intents",
        )
        rows = {table: [dict(row) for row in await self.owner.fetch(f"SELECT * FROM {table}")] for table in tables}
        logs = {process.name: process.text()[-2000:] for process in self.stage.processes}
        return f"{rows}\n{logs}"

    async def until_quiet(self) -> None:
        """Until what was on its way when everybody stopped has arrived."""
        before, now = (-1, -1), (0, 0)
        while now != before:
            before = now
            await asyncio.sleep(0.5)
            operations = int(await self.owner.fetchval("SELECT count(*) FROM ledger.operations"))
            now = (operations, len(await self.listed()))

    async def prove(self) -> None:
        """Every coin is accounted for, whatever is half done. Nothing may be moving meanwhile.

        What the house accounts owe, and what came and is not credited yet, less what went and is not captured yet.
        """
        rows = await self.listed()
        ours = {HOUSE} | {row.destination for row in rows if row.destination.startswith("pay-")}
        ours |= {str(row[0]) for row in await self.owner.fetch("SELECT deposit_address FROM mixer.mixes")}
        inward = sum(row.units for row in rows if row.destination in ours and row.source not in ours)
        outward = sum(row.units for row in rows if row.source in ours and row.destination not in ours)
        house = int(await self.owner.fetchval(HOUSE_BALANCE)) * UNITS_PER_MINOR
        # Units that came and that the ledger knows nothing of (yet), and units that went likewise.
        uncredited = inward - int(await self.owner.fetchval(CREDITED)) * UNITS_PER_MINOR
        uncaptured = outward - int(await self.owner.fetchval(CAPTURED)) * UNITS_PER_MINOR
        assert min(uncredited, uncaptured) >= 0, await self.rows_and_logs()
        coins = inward - outward
        assert coins == -house + uncredited - uncaptured, await self.rows_and_logs()

    async def paid_to(self, destinations: Sequence[str]) -> int:
        """Minor units that arrived at the destinations, by the network's word."""
        units = sum(row.units for row in await self.listed() if row.destination in destinations)
        return units // UNITS_PER_MINOR

    async def prove_completed(self, mix: str, destinations: Sequence[str]) -> None:
        """Nothing was paid twice, nothing is left over, and ledger, rows and network say the same."""
        head = await self.head(mix)
        assert head.remaining == 0
        assert head.paid == head.received - head.fee == await self.paid_to(destinations)
        account = await self.owner.fetchrow(
            "SELECT balance, held FROM ledger.account_heads WHERE id = $1", f"mix:{mix}"
        )
        assert account is not None
        assert (account["balance"], account["held"]) == (0, 0)
        assert await self.owner.fetchval(DOUBLED) == 0
        await self.prove()


@contextlib.asynccontextmanager
async def mixer_scene(on: Stage, secret: str = SECRET) -> AsyncGenerator[MixerScene]:
    """A customer who is connected to the mixer. The client's tasks end with the context."""
    client = LedgerClient(on.amqp, partitions=on.database.partitions, secret=secret, name="customer")
    owner = await postgres.open_pool(on.database.owner, application="auditor")
    try:
        async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as session:
            running = group.create_task(client.run())
            while not client.is_ready():
                await asyncio.sleep(0.02)
            yield MixerScene(on, session, client, owner)
            running.cancel()
    finally:
        await owner.close()
