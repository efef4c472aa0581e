"""Instants that are final, and positions behind which no row appears."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import pytest

from services.gateway.http.instants import instant_of
from services.gateway.store import transaction_lists as lists
from services.gateway.store.accounts import read_account, read_balance_at
from services.gateway.store.database import Database as Reads
from services.gateway.store.instants import read_instants
from services.gateway.store.transactions import Reader
from services.gateway.usecases import instants as usecase
from services.gateway.usecases.faults import InvalidField, NotFinal
from services.gateway.usecases.instants import Instants
from services.ledger_worker.store.commits import APPEND, FENCE
from shared.database import postgres
from tests.backends.databases import Database
from tests.builders import command_id

ADMIN = Reader("admin", admin=True)
OWN = "UPDATE ledger.partitions SET owner = 'w', epoch = 1, lease_expires_at = 'infinity'"


@dataclass(slots=True)
class Partition:
    """A worker's connection that writes batches of deposits to one partition, step by step."""

    number: int
    connection: postgres.Connection
    batch: int = 0
    written: list[str] = field(default_factory=list[str])

    @property
    def account(self) -> str:
        return f"account-{self.number}"

    async def begin(self) -> None:
        """Begins a commit as for many commands: in a transaction that has passed the fence."""
        await self.connection.execute("BEGIN")
        await self.connection.execute(FENCE, [self.number], "w", [1])

    async def append(self) -> int:
        """Writes one batch with one transaction; its instant in microseconds. It takes effect with the commit."""
        self.batch += 1
        identity, place = command_id(), [str(self.number), str(self.batch)]
        world = f"world:USD:{self.number}"
        postings = json.dumps([[world, self.account, "1", "USD"]])
        total = str(self.batch)
        document = {
            "operations": [
                [identity, *place, "0", "deposit.v1", "a", "\\x" + "00" * 16, "posted", None, None, postings]
                + [None] * 3
            ],
            "entries": [
                [world, total, identity, "USD", "-1", "0", f"-{total}", "0", "0", "open", *place, "0"],
                [self.account, total, identity, "USD", "1", "0", total, "0", "0", "open", *place, "1"],
            ],
            "listed": [["ledger", "", "USD", "deposit.v1", *place, "{0}", "{" + identity + "}"]],
            "batches": [[*place, "1", "1", "2", "{}", "00"]],
        }
        if self.batch == 1:
            document["accounts"] = [
                [world, "USD", "tellerline:ledger", *place, "open", None],
                [self.account, "USD", "alice", *place, "open", None],
            ]
        [row] = await self.connection.fetch(APPEND, "w", json.dumps(document))
        self.written.append(identity)
        return int(row["recorded_at_us"])

    async def commit(self) -> None:
        await self.connection.execute("COMMIT")

    async def write(self) -> int:
        await self.begin()
        recorded_at_us = await self.append()
        await self.commit()
        return recorded_at_us


@asynccontextmanager
async def two_workers(database: Database) -> AsyncGenerator[tuple[Partition, Partition, Reads]]:
    owner = await postgres.connect(database.owner, application="tests")
    await owner.execute(OWN)
    await owner.close()
    connections = [await postgres.connect(database.worker, application="tests") for _ in range(2)]
    try:
        async with await postgres.open_pool(database.gateway, application="tests", settings=postgres.BY_KEY) as pool:
            first, second = (Partition(number, each) for number, each in enumerate(connections))
            yield first, second, Reads(pool)
    finally:
        for connection in connections:
            await connection.close()


async def follow(reads: Reads, instants: Instants, position: str, limit: int = 2) -> tuple[list[str], str]:
    """All pages after a position, and the position from which to go on."""
    place = lists.ListPlace(lists.END_OF_TIME, 0, 0)
    found: list[str] = []
    until_us = 0
    while True:
        followed = await instants.follow(position, until_us)
        assert followed.after_us is not None
        assert followed.until_us is not None
        until_us = followed.until_us
        wanted = lists.TransactionFilter(after=instant_of(followed.after_us), until=instant_of(until_us))
        page = await lists.list_transactions(reads, ADMIN, wanted, place, limit)
        found += [row.transaction.id for row in page]
        if len(page) < limit or until_us == 0:
            return found, followed.position
        place = page[-1].place


async def test_nothing_appears_before_a_position_while_an_older_transaction_is_still_open(database: Database) -> None:
    async with two_workers(database) as (slow, quick, reads):
        await slow.begin()
        quick_us = await quick.write()
        held_back = await read_instants(reads)
        assert held_back.position_us < quick_us
        assert held_back.final_us < held_back.now_us
        slow_us = await slow.append()
        # Nobody is told of an instant that this transaction can still write before.
        assert (await read_instants(reads)).final_us < slow_us
        assert (await read_instants(reads)).position_us < slow_us
        await slow.commit()
        after = await read_instants(reads)
        assert after.position_us == max(quick_us, slow_us)
        assert after.final_us == after.now_us


async def test_who_follows_the_positions_gets_each_row_exactly_once(database: Database) -> None:
    async with two_workers(database) as (first, second, reads):
        instants, chance = Instants(reads), random.Random(5)
        done = asyncio.Event()
        seen: list[str] = []

        async def write(partition: Partition) -> None:
            for _ in range(40):
                await partition.begin()
                await asyncio.sleep(chance.random() * 0.01)
                await partition.append()
                await asyncio.sleep(chance.random() * 0.01)
                await partition.commit()

        async def read() -> None:
            position = "0"
            while not done.is_set():
                rows, position = await follow(reads, instants, position)
                seen.extend(rows)
            rows, position = await follow(reads, instants, position)
            seen.extend(rows)
            assert await follow(reads, instants, position) == ([], position)

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(read())
            await asyncio.gather(write(first), write(second))
            done.set()
            await reader
        assert len(seen) == len(set(seen))
        assert set(seen) == {*first.written, *second.written}


async def test_a_balance_at_an_instant_is_the_same_when_it_is_asked_again(database: Database) -> None:
    async with two_workers(database) as (first, second, reads):
        await first.write()
        instants, done = Instants(reads), asyncio.Event()
        account = await read_account(reads, first.account)
        assert account is not None
        told: list[tuple[int, int]] = []

        async def write() -> None:
            for _ in range(60):
                await first.write()

        async def ask() -> None:
            while not done.is_set():
                at_us = await instants.final_us()
                told.append((at_us, (await read_balance_at(reads, account, instant_of(at_us))).balance))

        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(ask()) for _ in range(2)]
            await asyncio.gather(write(), *[second.write() for _ in range(1)])
            done.set()
            await asyncio.gather(*asking)
        assert len({balance for _, balance in told}) > 5
        for at_us, balance in told:
            assert (await read_balance_at(reads, account, instant_of(at_us))).balance == balance


async def test_what_was_committed_before_is_in_the_balance_of_now(database: Database) -> None:
    async with two_workers(database) as (first, _, reads):
        instants = Instants(reads)
        for number in itertools.count(1):
            recorded_at_us = await first.write()
            at_us = await instants.final_us()
            assert at_us >= recorded_at_us
            account = await read_account(reads, first.account)
            assert account is not None
            assert (await read_balance_at(reads, account, instant_of(at_us))).balance == number
            if number == 5:
                break


async def test_an_instant_that_cannot_become_final_is_said_so_and_one_in_the_future_is_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usecase, "WAIT_S_MAX", 0.2)
    async with two_workers(database) as (stopped, quick, reads):
        instants = Instants(reads)
        earlier_us = await quick.write()
        await instants.final_us()
        await stopped.begin()
        with pytest.raises(NotFinal):
            await instants.final_us()
        # What was final stays so; a list gives what is final, and the rest with the next position.
        assert await instants.final_us(earlier_us) == earlier_us
        await quick.write()
        rows, position = await follow(reads, instants, "0")
        assert rows == quick.written[:1]
        await stopped.commit()
        assert await follow(reads, instants, position) == (quick.written[1:], (await instants.follow("0", 0)).position)
        tomorrow_us = int(time.time() * 1_000_000) + 86_400_000_000
        with pytest.raises(InvalidField):
            await instants.final_us(tomorrow_us)
        with pytest.raises(InvalidField):
            await instants.follow(f"{tomorrow_us:x}", 0)
        with pytest.raises(InvalidField):
            await instants.follow("no position", 0)


async def test_a_clock_that_was_set_back_writes_nothing_before_a_position(database: Database) -> None:
    async with two_workers(database) as (first, second, reads):
        await first.write()
        owner = await postgres.connect(database.owner, application="tests")
        try:  # as if the clock had been an hour ahead when the batch was written
            await owner.execute("UPDATE ledger.batches SET recorded_at = recorded_at + interval '1 hour'")
        finally:
            await owner.close()
        before = await read_instants(reads)
        assert before.now_us == before.final_us == before.position_us
        assert await second.write() > before.position_us
        assert await first.write() > before.position_us


class CountedReads(Reads):
    """Counts the queries for instants."""

    now = most = begun = 0

    async def rows(self, statement: str, *arguments: object, within_s: float = 5.0) -> Sequence[asyncpg.Record]:
        self.now, self.begun = self.now + 1, self.begun + 1
        self.most = max(self.most, self.now)
        try:
            return await super().rows(statement, *arguments, within_s=within_s)
        finally:
            self.now -= 1


async def test_all_who_wait_for_an_instant_share_one_query_at_a_time(database: Database) -> None:
    async with (
        two_workers(database) as (slow, quick, _),
        await postgres.open_pool(database.gateway, application="tests") as pool,
    ):
        reads = CountedReads(pool)
        instants = Instants(reads)
        await slow.begin()
        recorded_at_us = await quick.write()
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(instants.final_us()) for _ in range(50)]
            while reads.begun < 10:
                await asyncio.sleep(0.01)
            assert not any(each.done() for each in waiting)
            await slow.append()
            await slow.commit()
        assert min(each.result() for each in waiting) >= recorded_at_us
        assert reads.most == 1
