"""What a page of a list holds: every filter, every limit, every cursor, while rows are added."""

import itertools
import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest

from services.gateway.store import accounts as account_store
from services.gateway.store import entries as entry_store
from services.gateway.store import transaction_lists as store
from services.gateway.store.database import Database as Reads
from services.gateway.store.entries import SEQ_MAX
from services.gateway.store.transactions import Reader
from services.ledger_worker.core.batch import SealedBatch
from services.ledger_worker.ports import StoreUnavailable
from services.ledger_worker.store import commits
from shared.database import postgres
from shared.domain.ids import AccountId
from tests.backends.databases import Database
from tests.builders import Commands, account_in
from tests.integration.busy_journal import OWNERS, BusyJournal, NaiveLists, NaiveRow
from tests.journal_writer import JournalWriter

MICROSECOND = timedelta(microseconds=1)
KINDS = (None, "deposit.v1", "transfer.v1", "return.v1", "hold.capture.v1")
ASSET_FILTERS = (None, "USD", "BTC", "XXX")
REFERENCE_FILTERS = (None, "common", "nobody-uses-it")
ADMIN = Reader("admin", admin=True)
ROWS_COMPARED_MIN = 5_000


@asynccontextmanager
async def busy(database: Database, seed: int) -> AsyncGenerator[tuple[BusyJournal, Reads]]:
    async with (
        JournalWriter(database) as writer,
        await postgres.open_pool(database.gateway, application="tests", settings=postgres.BY_KEY) as pool,
    ):
        journal = BusyJournal(writer, random.Random(seed))
        await journal.fill()
        yield journal, Reads(pool)


def windows(rows: list[NaiveRow]) -> list[tuple[datetime | None, datetime | None]]:
    """No window, and one whose bounds are instants of rows."""
    third = len(rows) // 3
    return [(None, None), (rows[2 * third].place[0], rows[third].place[0] - MICROSECOND)]


def is_between(row: NaiveRow, after: datetime | None, until: datetime | None) -> bool:
    return (after is None or row.place[0] > after) and (until is None or row.place[0] <= until)


async def walk(
    reads: Reads,
    reader: Reader,
    wanted: store.TransactionFilter,
    limit: int,
    start: store.ListPlace,
    between: Callable[[], Awaitable[None]],
) -> list[str]:
    """The ids of all pages, each of at most `limit` rows, as a client follows them; rows are added between pages."""
    found: list[str] = []
    place = start
    while rows := await store.list_transactions(reads, reader, wanted, place, limit):
        assert len(rows) <= limit
        found += [row.transaction.id for row in rows]
        place = rows[-1].place
        await between()
    return found


async def test_every_filter_limit_and_cursor_gives_what_a_naive_reading_gives(database: Database) -> None:
    async with busy(database, seed=1) as (journal, reads):
        naive = await NaiveLists.read(database)
        lists: list[tuple[Reader, AccountId | None, list[NaiveRow]]] = [
            (ADMIN, None, naive.everything()),
            *[(Reader(owner, admin=False), None, naive.of_owner(owner)) for owner in OWNERS],
            *[
                (ADMIN, account, naive.of_account(account, moved=True))
                for account in (journal.busy, *journal.random.sample(list(journal.accounts), 2))
            ],
        ]
        # Newer than what was read, older than what is added from now on.
        newest = max(row.place[0] for _, _, rows in lists for row in rows)
        start = store.ListPlace(newest + MICROSECOND, 0, 0)

        async def sometimes_add() -> None:
            if journal.random.random() < 0.05:
                await journal.add()

        compared = 0
        for reader, account, rows in lists:
            filters = itertools.product(windows(rows), KINDS, ASSET_FILTERS, REFERENCE_FILTERS)
            for (after, until), kind, asset, reference in filters:
                expected = [
                    row.id
                    for row in rows
                    if kind in {None, row.kind}
                    and (asset is None or asset in row.assets)
                    and reference in {None, row.reference}
                    and is_between(row, after, until)
                ]
                limit = max(journal.random.choice((1, 3, 40)), len(expected) // 3)
                wanted = store.TransactionFilter(account, asset, kind, reference, after, until)
                assert await walk(reads, reader, wanted, limit, start, sometimes_add) == expected, (wanted, limit)
                compared += len(expected)
        assert compared > ROWS_COMPARED_MIN
        foreign = store.TransactionFilter(journal.busy)
        assert await store.list_transactions(reads, Reader("bob", admin=False), foreign, start, 5) == []


async def test_a_batch_without_its_rows_of_the_lists_is_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker of the version before the lists would write it."""
    whole = commits._document

    def without_lists(batches: Sequence[SealedBatch], *, skipped: Sequence[str]) -> str:
        document = json.loads(whole(batches, skipped=skipped))
        del document["listed"]
        return json.dumps(document)

    make, alice = Commands(), account_in(0)
    async with JournalWriter(database) as writer:
        await writer.write(make.open(alice))
        monkeypatch.setattr(commits, "_document", without_lists)
        with pytest.raises(StoreUnavailable, match="55000"):  # tried again, until another worker takes over
            await writer.write(make.deposit(alice, 5))


async def test_entries_of_any_kind_and_time_are_those_of_a_naive_reading(database: Database) -> None:
    async with busy(database, seed=2) as (journal, reads):
        naive = await NaiveLists.read(database)
        for account in (journal.busy, *journal.random.sample(list(journal.accounts), 3)):
            rows = naive.of_account(account, moved=False)
            state = await account_store.read_account(reads, account)
            assert state is not None
            for (after, until), kind in itertools.product(windows(rows), (*KINDS, "hold.place.v1")):
                expected = [row.seq for row in rows if kind in {None, row.kind} and is_between(row, after, until)]
                limit = max(journal.random.choice((1, 3, 40)), len(expected) // 3)
                found: list[int] = []
                seq_max = SEQ_MAX
                while True:
                    wanted = entry_store.EntryFilter(seq_max, after, until, kind)
                    if not (page := await entry_store.list_entries(reads, state, wanted, limit=limit)):
                        break
                    found += [entry.seq for entry in page]
                    seq_max = found[-1]
                assert found == expected, (account, kind, limit)


async def test_lists_of_accounts_are_by_id_whatever_they_are_filtered_by(database: Database) -> None:
    async with busy(database, seed=3) as (journal, reads):
        frozen = journal.random.sample(list(journal.accounts), 3)
        await journal.writer.write(*[journal.accounts[each].update(each, status="frozen") for each in frozen])
        connection = await postgres.connect(database.owner, application="tests")
        try:
            rows = await connection.fetch("SELECT id, owner, asset, status FROM ledger.accounts")
        finally:
            await connection.close()
        filters = itertools.product(
            (None, *OWNERS, "nobody"), ASSET_FILTERS, (None, "open", "frozen", "closed"), (None, "alice.", "zz", "%")
        )
        for owner, asset, status, prefix in filters:
            expected = sorted(
                str(row["id"])
                for row in rows
                if owner in {None, row["owner"]}
                and asset in {None, row["asset"]}
                and status in {None, row["status"]}
                and row["id"].startswith(prefix or "")
            )
            found: list[str] = [""]
            limit = journal.random.choice((2, 7, 100))
            while True:
                wanted = account_store.AccountFilter(found[-1], owner, asset, status, prefix)
                if not (page := await account_store.list_accounts(reads, wanted, limit)):
                    break
                assert len(page) <= limit
                found += [account.id for account in page]
            assert found[1:] == expected, (owner, asset, status, prefix)
