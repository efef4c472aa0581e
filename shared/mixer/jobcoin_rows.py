"""What the Jobcoin network says, read exactly: amounts, listed transactions, addresses. Pure.

The network's transactions have no ids, and their positions in its list may move. A row of the list is identified by the
network's instance, its timestamp, sender, recipient and amount, and its number among equal rows.
"""

import contextlib
import hashlib
import json
import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final, NewType, TypeGuard, cast

from shared.domain.values import value
from shared.messages.mixer import ADDRESS_LENGTH_MAX

# A unit is 10^-40 of a coin: the network's amounts have at most 40 digits on either side of the point.
COIN_SCALE: Final = 40
COIN_DIGITS_MAX: Final = 40
LEDGER_SCALE: Final = 18
UNITS_PER_MINOR: Final = 10 ** (COIN_SCALE - LEDGER_SCALE)

# Amounts as the network lists them: "30.1", ".5", "5.", "1.30"; no exponents, no signs.
COINS: Final = re.compile(r"([0-9]{0,80})(?:\.([0-9]{0,80}))?", re.ASCII)
TIMESTAMP: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z", re.ASCII)
# Addresses that we pay to. Other characters would change the path of the URL that asks for an address.
PLAIN_ADDRESS: Final = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)

Address = NewType("Address", str)
RowId = NewType("RowId", str)


class Unreadable(ValueError):
    """The network said something that its API does not allow."""


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


@value
class Transfer:
    """Coins that go from one address to another. `units` > 0 are 10^-40 of a coin."""

    source: Address
    destination: Address
    units: int


@value
class ListedRow:
    """One transaction of the list. `source` is empty if the coins were created; `timestamp` is the text in the list."""

    timestamp: str
    source: Address
    destination: Address
    units: int

    @property
    def transfer(self) -> Transfer:
        """What the row moved, without its time."""
        return Transfer(self.source, self.destination, self.units)

    def line(self) -> bytes:
        """The row's canonical bytes, for hashes. JSON, because an address may hold any character."""
        return json.dumps([self.timestamp, self.source, self.destination, str(self.units)]).encode()


def is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    """True if this parsed JSON is an object."""
    return isinstance(value, dict)


def _items(value: object) -> list[object]:
    if not isinstance(value, list):
        raise Unreadable("a list of transactions is an array")
    return cast("list[object]", value)


def read_row(value: object) -> ListedRow:
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
    return ListedRow(timestamp, Address(source), Address(destination), units)


def read_rows(value: object) -> tuple[ListedRow, ...]:
    """The transactions of one address. Raises Unreadable if any of them is: then the reading proves nothing."""
    return tuple(read_row(item) for item in _items(value))


def readable_rows(value: object) -> tuple[tuple[ListedRow, ...], int]:
    """The readable rows of the whole list, and the number of unreadable ones. Raises Unreadable if it is no list.

    Anyone may write to the network, so one odd row of a stranger must not hide all others.
    """
    items, rows = _items(value), list[ListedRow]()
    for item in items:
        with contextlib.suppress(Unreadable):
            rows.append(read_row(item))
    return tuple(rows), len(items) - len(rows)


def numbered(rows: Iterable[ListedRow]) -> Iterator[tuple[ListedRow, int]]:
    """Each row with its number among equal rows: 1 for the first, 2 for the second."""
    seen: dict[ListedRow, int] = {}
    for row in rows:
        seen[row] = seen.get(row, 0) + 1
        yield row, seen[row]


def row_id(instance: str, row: ListedRow, occurrence: int) -> RowId:
    """The id of a row: a UUIDv8 that does not depend on the row's position in the list."""
    raw = bytearray(
        hashlib.sha256(json.dumps(["tellerline.row.v1", instance, occurrence]).encode() + row.line()).digest()[:16]
    )
    raw[6] = (raw[6] & 0x0F) | 0x80  # version 8, RFC 9562 §5.8
    raw[8] = (raw[8] & 0x3F) | 0x80  # variant 10
    return RowId(str(uuid.UUID(bytes=bytes(raw))))


@value
class AddressView:
    """One reading of one address: its balance in units and its transactions, oldest first."""

    address: Address
    balance: int
    rows: tuple[ListedRow, ...]

    @property
    def is_unused(self) -> bool:
        """True if no coin ever came to this address."""
        return not self.rows and self.balance == 0

    @property
    def agrees(self) -> bool:
        """True if the transactions add up to the balance. If not, the reading proves nothing."""
        received = sum(row.units for row in self.rows if row.destination == self.address)
        spent = sum(row.units for row in self.rows if row.source == self.address)
        return self.balance == received - spent

    def find(self, instance: str, transfer: Transfer, taken: Collection[str] = ()) -> RowId | None:
        """The first row that equals the transfer and is not in `taken`, the rows known to be other transfers."""
        for row, occurrence in numbered(self.rows):
            if row.transfer == transfer and (found := row_id(instance, row, occurrence)) not in taken:
                return found
        return None


def read_address(address: Address, value: object) -> AddressView:
    """What the network says of an address. Raises Unreadable."""
    if not is_object(value):
        raise Unreadable("an address is an object")
    rows = read_rows(value.get("transactions"))
    if any(address not in {row.source, row.destination} for row in rows):
        raise Unreadable("a transaction of another address")
    return AddressView(address, read_units(value.get("balance")), rows)
