"""The network's transactions on disk: a SQLite file, synced at every commit."""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from services.jobcoin_network.core.coins import read_amount
from services.jobcoin_network.core.transactions import CoinAddress, CoinMovement, InstanceName, Transaction

FILE_NAME = "jobcoin.sqlite3"
SCHEMA_VERSION = 1
# How long a start waits for the previous process, which may still be ending.
LOCK_WAIT_S = 5.0


class SqliteStoreFault(Exception):
    """The network's file cannot be used: held by another process, damaged, or written by another version."""


class SqliteStore:
    """The transactions of all instances, in a directory that one process at a time holds."""

    def __init__(self, directory: Path) -> None:
        """Opens the file, and makes it if it is missing. Raises SqliteStoreFault."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / FILE_NAME
        # Commits run in a thread, one after the other, so that the event loop never waits for the disk.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=LOCK_WAIT_S)
        try:
            self._prepare()
        except sqlite3.Error as fault:
            self._connection.close()
            raise SqliteStoreFault(f"{path}: {fault}") from fault

    # An exclusive lock keeps a second process out for as long as this one lives; FULL syncs the log at every commit.
    PREPARE = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN EXCLUSIVE; COMMIT"
    CREATE = """
        CREATE TABLE transactions (
          instance text NOT NULL,
          position integer NOT NULL CHECK (position >= 0),
          timestamp_ms integer NOT NULL,
          sender text,
          recipient text NOT NULL,
          amount text NOT NULL,
          PRIMARY KEY (instance, position)
        ) STRICT, WITHOUT ROWID
    """

    def _prepare(self) -> None:
        self._connection.executescript(self.PREPARE)
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._connection.executescript(f"BEGIN; {self.CREATE}; PRAGMA user_version={SCHEMA_VERSION}; COMMIT")
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"schema {version}, but this program knows {SCHEMA_VERSION}")

    READ = """
        SELECT instance, position, timestamp_ms, sender, recipient, amount
        FROM transactions ORDER BY instance, position
    """

    def transactions(self) -> Iterator[Transaction]:
        """Everything committed, each instance's transactions in their order."""
        for instance, position, timestamp_ms, sender, recipient, amount in self._connection.execute(self.READ):
            source = None if sender is None else CoinAddress(sender)
            movement = CoinMovement(source, CoinAddress(recipient), read_amount(amount))
            yield Transaction(InstanceName(instance), position, timestamp_ms, movement)

    INSERT = """
        INSERT INTO transactions (instance, position, timestamp_ms, sender, recipient, amount)
        VALUES (?, ?, ?, ?, ?, ?)
    """

    def commit(self, transactions: Iterable[Transaction]) -> None:
        """Writes the transactions in one synced commit: once this returns, they survive a kill and a power cut."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(self.INSERT, map(_columns, transactions))
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Closes the file. What was not committed is lost."""
        self._connection.close()


def _columns(transaction: Transaction) -> tuple[str, int, int, str | None, str, str]:
    place, movement = (transaction.instance, transaction.position), transaction.movement
    return *place, transaction.timestamp_ms, movement.sender, movement.recipient, movement.amount.text
