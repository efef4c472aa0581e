"""The two forms of one transfer: statements under row locks, or one SQL function. Both decide and write the same."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from benchmarks.baseline.bodies import Transfer
from shared.database.postgres import Connection
from shared.domain.money import BALANCE_MINOR_MAX


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    principal: str
    admin: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a transfer did, amounts in minor units; `code` None: posted. A balance is None where there is no account."""

    code: str | None
    available: int | None
    source_balance: int | None
    destination_balance: int | None
    is_destination_read: bool
    recorded_at: datetime
    replayed: bool = False


Form = Callable[[Connection, str, Caller, Transfer], Awaitable["Outcome | None"]]


class Account(Protocol):
    """A row of the accounts' table."""

    def __getitem__(self, column: str, /) -> object: ...


TRANSFER: Final = "SELECT * FROM baseline.transfer($1, $2, $3, $4, $5, $6, $7::text::numeric, $8, $9, $10)"


async def by_function(connection: Connection, identity: str, caller: Caller, transfer: Transfer) -> Outcome | None:
    """One round trip. None: the id is taken."""
    row = await connection.fetchrow(
        TRANSFER, identity, caller.principal, caller.admin, transfer.fingerprint, transfer.source, transfer.destination,
        str(transfer.amount), transfer.asset, transfer.reference, transfer.metadata,
    )  # fmt: skip
    if row is None:
        return None
    return Outcome(row[0], _int(row[1]), _int(row[2]), _int(row[3]), row[4], row[5])


LOCK: Final = """
SELECT id, asset, owner, status, balance::text AS balance, overdraft_limit::text AS overdraft_limit, seq
  FROM baseline.accounts WHERE id IN ($1, $2) ORDER BY id FOR NO KEY UPDATE
"""
INSERT_TRANSACTION: Final = """
INSERT INTO baseline.transactions (id, principal, fingerprint, code, available, source, destination, amount, asset,
    source_balance, destination_balance, is_destination_read, reference, metadata)
VALUES ($1, $2, $3, $4, $5::text::numeric, $6, $7, $8::text::numeric, $9,
    $10::text::numeric, $11::text::numeric, $12, $13, $14)
ON CONFLICT DO NOTHING RETURNING recorded_at
"""
UPDATE_ACCOUNTS: Final = """
UPDATE baseline.accounts SET balance = CASE id WHEN $1 THEN $3::text::numeric ELSE $4::text::numeric END, seq = seq + 1
 WHERE id IN ($1, $2)
"""
INSERT_ENTRIES: Final = """
INSERT INTO baseline.entries (account_id, seq, transaction_id, delta, balance_after)
VALUES ($1, $2, $3, -$7::text::numeric, $4::text::numeric), ($5, $6, $3, $7::text::numeric, $8::text::numeric)
"""


async def by_row_locks(connection: Connection, identity: str, caller: Caller, transfer: Transfer) -> Outcome | None:
    """Six round trips: begin, lock, three statements, commit. None: the id is taken."""
    await connection.execute("BEGIN")
    try:
        outcome = await _under_locks(connection, identity, caller, transfer)
    except BaseException:
        await connection.execute("ROLLBACK")
        raise
    await connection.execute("ROLLBACK" if outcome is None else "COMMIT")
    return outcome


async def _under_locks(connection: Connection, identity: str, caller: Caller, transfer: Transfer) -> Outcome | None:
    accounts = {str(row["id"]): row for row in await connection.fetch(LOCK, transfer.source, transfer.destination)}
    source, destination = accounts.get(transfer.source), accounts.get(transfer.destination)
    code = refusal_of(caller, transfer, accounts)
    funds = _funds(source) if source is not None and code == "insufficient_funds" else None
    moved = 0 if code else transfer.amount
    debited = None if source is None else int(source["balance"]) - moved
    credited = None if destination is None else int(destination["balance"]) + moved
    is_read = caller.admin or (destination is not None and destination["owner"] == caller.principal)
    recorded_at = await connection.fetchval(
        INSERT_TRANSACTION, identity, caller.principal, transfer.fingerprint, code, _text(funds), transfer.source,
        transfer.destination, str(transfer.amount), transfer.asset, _text(debited), _text(credited), is_read,
        transfer.reference, transfer.metadata,
    )  # fmt: skip
    if recorded_at is None:
        return None
    if code is None and source is not None and destination is not None:
        after = (str(debited), str(credited))
        await connection.execute(UPDATE_ACCOUNTS, transfer.source, transfer.destination, *after)
        await connection.execute(
            INSERT_ENTRIES, transfer.source, source["seq"] + 1, identity, after[0], transfer.destination,
            destination["seq"] + 1, str(transfer.amount), after[1],
        )  # fmt: skip
    return Outcome(code, funds, debited, credited, is_read, recorded_at)


def refusal_of(caller: Caller, transfer: Transfer, accounts: Mapping[str, Account]) -> str | None:
    """Why the transfer may not be, in order of precedence; None when it may."""
    source, destination = accounts.get(transfer.source), accounts.get(transfer.destination)
    if transfer.source == transfer.destination:
        return "same_account"
    if source is None or destination is None or not (caller.admin or source["owner"] == caller.principal):
        return "account_not_found"
    if not source["asset"] == destination["asset"] == transfer.asset:
        return "asset_mismatch"
    if source["status"] != "open":
        return f"account_{source['status']}"
    if destination["status"] == "closed":
        return "account_closed"
    if _funds(source) < transfer.amount:
        return "insufficient_funds"
    return "limit_exceeded" if int(str(destination["balance"])) + transfer.amount > BALANCE_MINOR_MAX else None


READ: Final = """
SELECT code, available::text, source_balance::text, destination_balance::text, is_destination_read, recorded_at,
       fingerprint
  FROM baseline.transactions WHERE id = $1
"""


async def recorded(connection: Connection, identity: str) -> tuple[bytes, Outcome]:
    """Fingerprint and outcome of a transaction that is there."""
    row = await connection.fetchrow(READ, identity)
    if row is None:
        raise RuntimeError(f"transaction {identity} is taken and not there")
    found = Outcome(row[0], _int(row[1]), _int(row[2]), _int(row[3]), row[4], row[5], replayed=True)
    return bytes(row[6]), found


def _funds(account: Account) -> int:
    return int(str(account["balance"])) + int(str(account["overdraft_limit"]))


def _int(text: str | None) -> int | None:
    return None if text is None else int(text)


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


FORMS: Final[Mapping[str, Form]] = {"function": by_function, "row locks": by_row_locks}
