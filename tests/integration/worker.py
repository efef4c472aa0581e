"""Ledger worker processes on a database and a broker of their own, and a client that sends them commands."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aio_pika
import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from services.ledger_worker.core.decide import deciding_account
from shared.broker.dead_letters import REASON_HEADER
from shared.database.postgres import Connection, connect
from shared.domain.ids import Partition, partition_of, subkey
from shared.ledger_client.client import LedgerClient
from shared.ledger_client.pending import CommandResult, PendingCommand
from shared.messages import Command, topology
from shared.messages.envelopes import ENVELOPE_KIND, MAC_HEADER, sign
from tellerline.verification.proof import prove
from tellerline.verification.store.snapshot import snapshot
from tests.backends.databases import Database
from tests.builders import SECRET, envelope
from tests.contract.conditions import eventually, eventually_async
from tests.integration.mixer_stage import Process
from tests.tree import ROOT

TTL_S, RENEW_S = 2.0, 0.3
RESULT_MAX_S = 40.0
MAC_KEY = subkey(SECRET, "envelope")
Row = Mapping[str, object]


@dataclass(slots=True)
class Worker(Process):
    """One process under the name by which the database knows it."""

    async def ready(self) -> "Worker":
        """Waits until it serves."""
        await asyncio.to_thread(self.wait_ready)
        return self

    async def killed(self) -> None:
        """Waits until it died at its fault point."""
        await asyncio.to_thread(self.wait_killed)

    async def hit(self) -> None:
        """Waits until it passed its fault point."""
        await eventually(lambda: "fault.hit" in self.text(), RESULT_MAX_S)

    def signal(self, number: signal.Signals) -> None:
        """Stops it or lets it go on."""
        self.popen.send_signal(number)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over the labels that are not named."""
        url = next(self._url(line) for line in self.text().splitlines() if "metrics.listening" in line)
        async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
            families = text_string_to_metric_families(await response.text())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@dataclass(slots=True)
class Ledger:
    """What a test works with."""

    database: Database
    broker: str
    folder: Path
    client: LedgerClient = field(init=False)
    connection: Connection = field(init=False)
    workers: list[Worker] = field(default_factory=list[Worker])
    numbers: "count[int]" = field(default_factory=count)

    def start(self, fault: str = "", **settings: str) -> Worker:
        """Another worker. COPY for every group, so that every fault point is passed."""
        owner = f"w{next(self.numbers)}"
        environment = {
            **os.environ,
            "TELLERLINE_DATABASE_URL": self.database.worker,
            "TELLERLINE_AMQP_URL": self.broker,
            "TELLERLINE_SECRET": SECRET,
            "TELLERLINE_OWNER": owner,
            "TELLERLINE_LEASE_TTL_S": str(TTL_S),
            "TELLERLINE_LEASE_RENEW_S": str(RENEW_S),
            "TELLERLINE_COPY_OPERATIONS_MIN": "0",
            "TELLERLINE_FAULT": fault,
            **settings,
        }
        log = self.folder / f"{owner}.log"
        command = [sys.executable, "-m", "services.ledger_worker"]
        with log.open("wb") as stderr:
            popen = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)
        self.workers.append(Worker(owner, popen, log))
        return self.workers[-1]

    def partition(self, command: Command) -> Partition:
        """Where a command belongs."""
        account = deciding_account(command)
        return Partition(0) if account is None else partition_of(account, self.database.partitions)

    def send(self, command: Command) -> PendingCommand:
        """Sends without waiting."""
        return self.client.send(command, self.partition(command))

    async def result(self, pending: PendingCommand) -> CommandResult:
        """Waits for the outcome and the credits in other partitions."""
        result = await self.client.result(pending, RESULT_MAX_S)
        assert result is not None, f"no outcome: {[worker.text()[-2_000:] for worker in self.workers]}"
        return result

    async def call(self, *commands: Command) -> list[CommandResult]:
        """Sends all at once, and waits for all."""
        sent = [self.send(command) for command in commands]
        return [await self.result(each) for each in sent]

    async def publish(self, partition: int, body: bytes, *, mac: str | None = None, kind: str = ENVELOPE_KIND) -> None:
        """What no client of ours would send."""
        connection = await aio_pika.connect(self.broker)
        async with connection:
            exchange = await (await connection.channel()).get_exchange(topology.COMMANDS)
            headers = {} if mac is None else {MAC_HEADER: mac}
            message = aio_pika.Message(body, type=kind, headers=dict(headers), delivery_mode=2)
            await exchange.publish(message, topology.PARTITION_KEYS[partition])

    async def dead_letters(self, at_least: int) -> list[tuple[bytes, str]]:
        """Takes the dead letters, once there are so many: body and reason."""
        found: list[tuple[bytes, str]] = []
        connection = await aio_pika.connect(self.broker)
        async with connection:
            queue = await (await connection.channel()).get_queue(topology.DEAD_LETTERS_QUEUE)

            async def take() -> bool:
                while (message := await queue.get(no_ack=True, fail=False)) is not None:
                    found.append((message.body, str(message.headers[REASON_HEADER])))
                return len(found) >= at_least

            await eventually_async(take)
        return found

    async def rows(self, query: str, *arguments: object) -> Sequence[Row]:
        """What the owner of the database sees."""
        return [dict(row) for row in await self.connection.fetch(query, *arguments)]

    async def outcome(self, command: Command) -> str | None:
        """`posted`, the code of a rejection, or None while the journal has nothing."""
        query = "SELECT coalesce(code, outcome) AS told FROM ledger.operations WHERE id = $1::text::uuid"
        rows = await self.rows(query, command.id)
        return str(rows[0]["told"]) if rows else None

    async def balance(self, account: str) -> int:
        """Minor units after its last entry."""
        rows = await self.rows("SELECT balance FROM ledger.account_heads WHERE id = $1", account)
        return int(str(rows[0]["balance"]))

    async def owners(self) -> dict[str, int]:
        """Worker → how many partitions the database says it owns."""
        rows = await self.rows("SELECT owner, count(*) AS owned FROM ledger.partitions GROUP BY owner")
        return {str(row["owner"]): int(str(row["owned"])) for row in rows}

    async def owned_by(self, *workers: Worker) -> None:
        """Waits until these share all partitions evenly."""
        share = self.database.partitions // len(workers)

        async def shared() -> bool:
            return await self.owners() == {worker.name: share for worker in workers}

        await eventually_async(shared, RESULT_MAX_S)

    async def prove(self) -> None:
        """`tellerline verify`."""
        async with snapshot(self.database.verify) as connection:
            proof = await prove(connection, lambda _: None)
        assert proof.first_violation is None, str(proof.first_violation)


@asynccontextmanager
async def ledger_of(database: Database, broker: str, folder: Path) -> AsyncGenerator[Ledger]:
    """Runs the client; ends every worker afterwards."""
    ledger = Ledger(database, broker, folder)
    ledger.client = LedgerClient(broker, partitions=database.partitions, secret=SECRET, name="tests")
    ledger.connection = await connect(database.owner, application="tests")
    running = asyncio.get_running_loop().create_task(ledger.client.run())
    try:
        await eventually(ledger.client.is_ready)
        yield ledger
    finally:
        running.cancel()
        await asyncio.wait({running})
        for worker in ledger.workers:
            worker.kill()
        await ledger.connection.close()


def signed(*commands: Command) -> tuple[bytes, str]:
    """An envelope and its signature."""
    body = envelope(*commands).model_dump_json(exclude_none=True).encode()
    return body, sign(MAC_KEY, body)
