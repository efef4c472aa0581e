"""What the Jobcoin network says, read exactly: amounts, listed transactions, addresses. Pure.

The network's transactions have no ids, and their positions and timestamps may change. A row of the list is identified
by its content (sender, recipient and amount) and its number among rows with equal content.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final, NewType, TypeGuard, cast

from shared.domain.values import value
from shared.messages.mixer import ADDRESS_BYTES_MAX

# A unit is 10^-40 of a coin: the network's amounts have at most 40 digits on either side of the point.
COIN_SCALE: Final = 40
COIN_DIGITS_MAX: Final = 40
LEDGER_SCALE: Final = 18
UNITS_PER_MINOR: Final = 10 ** (COIN_SCALE - LEDGER_SCALE)

# Amounts as the network lists them: "30.1", ".5", "5.", "1.30"; no exponents, no signs.
COINS: Final = re.compile(r"([0-9]{0,80})(?:\.([0-9]{0,80}))?", re.ASCII)
TIMESTAMP: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z", re.ASCII)

Address = NewType("Address", str)


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
    if any(len(address.encode(errors="surrogatepass")) > ADDRESS_BYTES_MAX for address in (source, destination)):
        raise Unreadable("an address is too long")
    units = read_units(value.get("amount"))
    if units == 0:
        raise Unreadable("a transaction moves something")
    return ListedRow(timestamp, Address(source), Address(destination), units)


def read_rows(value: object) -> tuple[ListedRow, ...]:
    """The transactions of one address. Raises Unreadable if any of them is: then the reading proves nothing."""
    return tuple(read_row(item) for item in _items(value))


@value
class AddressView:
    """One reading of one address: its balance in units, and how often each of its transactions is listed."""

    address: Address
    balance: int
    counts: Mapping[Transfer, int]

    @property
    def is_unused(self) -> bool:
        """True if no coin ever came to this address."""
        return not self.counts and self.balance == 0

    @property
    def received(self) -> int:
        """Units that came from other addresses."""
        return sum(
            each.units * count for each, count in self.counts.items() if each.destination == self.address != each.source
        )

    @property
    def agrees(self) -> bool:
        """True if the transactions add up to the balance. If not, the reading proves nothing."""
        spent = sum(
            each.units * count for each, count in self.counts.items() if each.source == self.address != each.destination
        )
        return self.balance == self.received - spent

    def find(self, transfer: Transfer, taken: Collection[int] = ()) -> int | None:
        """The number, among equal transactions, of the first that equals the transfer and is not in `taken`.

        `taken` are the numbers of those that are known to be other transfers.
        """
        numbers = range(1, self.counts.get(transfer, 0) + 1)
        return next((number for number in numbers if number not in taken), None)


def read_address(address: Address, value: object) -> AddressView:
    """What the network says of an address. Raises Unreadable."""
    if not is_object(value):
        raise Unreadable("an address is an object")
    counts = Counter(read_row(item).transfer for item in _items(value.get("transactions")))
    if any(address not in {each.source, each.destination} for each in counts):
        raise Unreadable("a transaction of another address")
    return AddressView(address, read_units(value.get("balance")), counts)
