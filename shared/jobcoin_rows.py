"""What the Jobcoin network tells, exactly: amounts, transactions, addresses. Pure; `shared.jobcoin` asks the network.

The network's transactions have no ids. A row is known by its instance, timestamp, sender, recipient, amount and
occurrence number: positions in the list may move, and true twins (two equal rows) exist.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, NewType, TypeGuard

from shared.money import format_amount
from shared.values import value

# A unit is 10^-40 of a coin: the network's amounts have at most 40 digits on either side of the point.
COIN_SCALE: Final = 40
COIN_DIGITS_MAX: Final = 40
LEDGER_SCALE: Final = 18
UNITS_PER_MINOR: Final = 10 ** (COIN_SCALE - LEDGER_SCALE)
ADDRESS_LENGTH_MAX: Final = 256

# As listed: "30.1", ".5", "5.", "1.30". Exponents, signs and numbers that are no strings are refused.
COINS: Final = re.compile(r"([0-9]{0,80})(?:\.([0-9]{0,80}))?", re.ASCII)
TIMESTAMP: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z", re.ASCII)
# What we pay to: anything else would change the path of the URL that asks for the address.
PLAIN_ADDRESS: Final = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)

Address = NewType("Address", str)
RowId = NewType("RowId", str)


class Unreadable(ValueError):
    """The network said something that is not what its contract says."""


def read_units(text: object) -> int:
    """Units of 10^-40 coin of a listed amount or balance. Exact, never rounds. Raises Unreadable."""
    match = COINS.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise Unreadable("an amount is a decimal string")
    whole, fraction = match[1].lstrip("0"), (match[2] or "").rstrip("0")
    if not match[1] and not match[2]:
        raise Unreadable("an amount without digits")
    if len(whole) > COIN_DIGITS_MAX or len(fraction) > COIN_SCALE:
        raise Unreadable("an amount has at most 40 digits on either side of the point")
    return int(whole + fraction.ljust(COIN_SCALE, "0"))


def coins_text(units: int) -> str:
    """The shortest decimal of units of 10^-40 coin, as we send it."""
    return format_amount(units, COIN_SCALE)


def split_units(units: int) -> tuple[int, int]:
    """Minor units of the ledger's JOB, rounded down, and the units that are finer than its scale."""
    return divmod(units, UNITS_PER_MINOR)


@value
class Transfer:
    """Coins that go from one address to another. `units` > 0 are 10^-40 of a coin."""

    source: Address
    destination: Address
    units: int


@value
class Row:
    """One listed transaction. `source` is empty for coins that were created; `timestamp` is as listed."""

    timestamp: str
    source: Address
    destination: Address
    units: int

    @property
    def transfer(self) -> Transfer:
        """What it moved, without its time."""
        return Transfer(self.source, self.destination, self.units)

    @property
    def occurred_at(self) -> datetime:
        """The network's instant."""
        return datetime.fromisoformat(self.timestamp)

    def line(self) -> bytes:
        """The row's canonical bytes, for hashes. ASCII: an address may hold any character."""
        return json.dumps([self.timestamp, self.source, self.destination, str(self.units)]).encode()


def is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    """Whether this parsed JSON is an object."""
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def read_row(value: object) -> Row:
    """One object of the network's lists. Raises Unreadable."""
    if not is_object(value):
        raise Unreadable("a transaction is an object")
    timestamp, source, destination = value.get("timestamp"), value.get("fromAddress", ""), value.get("toAddress")
    if not isinstance(timestamp, str) or not TIMESTAMP.fullmatch(timestamp):
        raise Unreadable("a timestamp is ISO 8601 in UTC")
    try:
        datetime.fromisoformat(timestamp)
    except ValueError as error:
        raise Unreadable("there is no such instant") from error
    if not (isinstance(source, str) and isinstance(destination, str) and destination):
        raise Unreadable("an address is a string")
    if max(len(source), len(destination)) > ADDRESS_LENGTH_MAX:
        raise Unreadable("an address is too long")
    units = read_units(value.get("amount"))
    if units == 0:
        raise Unreadable("a transaction moves something")
    return Row(timestamp, Address(source), Address(destination), units)


def read_rows(value: object) -> tuple[Row, ...]:
    """An address's transactions. Raises Unreadable: one that cannot be read makes the whole reading doubtful."""
    if not _is_list(value):
        raise Unreadable("a list of transactions is an array")
    return tuple(read_row(item) for item in value)


def readable_rows(value: object) -> tuple[tuple[Row, ...], int]:
    """The rows of the whole list that can be read, and how many cannot. Raises Unreadable when it is no list.

    Anyone may write to the network: one odd row of a stranger must not stop us from seeing all others.
    """
    if not _is_list(value):
        raise Unreadable("a list of transactions is an array")
    rows: list[Row] = []
    for item in value:
        with contextlib.suppress(Unreadable):
            rows.append(read_row(item))
    return tuple(rows), len(value) - len(rows)


def numbered(rows: Iterable[Row]) -> Iterator[tuple[Row, int]]:
    """Each row with its occurrence number: 1 for the first of its kind, 2 for its twin."""
    seen: dict[Row, int] = {}
    for row in rows:
        seen[row] = seen.get(row, 0) + 1
        yield row, seen[row]


def row_id(instance: str, row: Row, occurrence: int) -> RowId:
    """A UUIDv8 that is a function of what the row is, wherever in the list it stands."""
    raw = bytearray(
        hashlib.sha256(json.dumps(["tellerline.row.v1", instance, occurrence]).encode() + row.line()).digest()[:16]
    )
    raw[6] = (raw[6] & 0x0F) | 0x80  # version 8, RFC 9562 §5.8
    raw[8] = (raw[8] & 0x3F) | 0x80  # variant 10
    digits = raw.hex()
    return RowId(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")


@value
class AddressView:
    """One reading of one address: its balance in units and its transactions, oldest first."""

    address: Address
    balance: int
    rows: tuple[Row, ...]

    @property
    def is_unused(self) -> bool:
        """Whether no coin ever came here."""
        return not self.rows and self.balance == 0

    @property
    def agrees(self) -> bool:
        """Whether the balance is what the transactions add up to. If not, the reading proves nothing."""
        received = sum(row.units for row in self.rows if row.destination == self.address)
        spent = sum(row.units for row in self.rows if row.source == self.address)
        return self.balance == received - spent

    def find(self, instance: str, transfer: Transfer, claimed: Collection[str] = ()) -> RowId | None:
        """The first row that is this transfer and has not been taken for another one."""
        for row, occurrence in numbered(self.rows):
            if row.transfer == transfer and (found := row_id(instance, row, occurrence)) not in claimed:
                return found
        return None


def read_address(address: Address, value: object) -> AddressView:
    """The network's answer about an address. Raises Unreadable."""
    if not is_object(value):
        raise Unreadable("an address is an object")
    rows = read_rows(value.get("transactions"))
    if any(address not in {row.source, row.destination} for row in rows):
        raise Unreadable("a transaction of another address")
    return AddressView(address, read_units(value.get("balance")), rows)


class Sight(StrEnum):
    """What a reading says of a transfer that was asked for."""

    SEEN = "seen"
    ABSENT = "absent"
    UNDECIDED = "undecided"


def sight_of(view: AddressView, found: RowId | None, *, is_settled: bool) -> Sight:
    """Presence proves itself; absence takes a reading that agrees with itself and began after the settle time."""
    if found is not None:
        return Sight.SEEN
    return Sight.ABSENT if is_settled and view.agrees else Sight.UNDECIDED
