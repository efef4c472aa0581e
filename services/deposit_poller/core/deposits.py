"""Deposits: which rows of the network's list they are, and how rows with equal content are told apart."""

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NewType

from shared.domain.values import value
from shared.mixer.jobcoin_rows import Address, ListedRow, Transfer, Unreadable, is_object, read_row

# As shared.messages.mixer makes them. The network's list has addresses that no PostgreSQL text can hold.
DEPOSIT_ADDRESS: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
DepositId = NewType("DepositId", str)
ContentKey = NewType("ContentKey", bytes)


@value
class ListedDeposit:
    """A listed transaction to the deposit address of `mix`: the `occurrence`-th with its content, counted from 1."""

    mix: str
    row: ListedRow
    occurrence: int


@value
class UnconfirmedDeposit:
    """A recorded deposit that its address has not shown yet. `sender` is in the form in which it is stored."""

    id: str
    mix: str
    sender: str
    address: Address
    units: int
    occurrence: int


@value
class OurRows:
    """Rows of the list that may concern us, and the number of those that cannot be read."""

    deposits: Sequence[ListedRow]
    sweeps: Sequence[ListedRow]
    unreadable: int


def stored(address: str) -> str:
    """The address as PostgreSQL can keep it: with escapes for what does not print (NUL, lone surrogates)."""
    if address.isprintable() and "\\" not in address:
        return address
    return address.encode("unicode_escape").decode("ascii")


def deposit_id(network: str, transfer: Transfer, occurrence: int) -> DepositId:
    """The id of a deposit: a UUIDv8 of its content, which hangs neither on timestamps nor on positions."""
    content = ["tellerline.deposit.v1", network, transfer.source, transfer.destination, str(transfer.units), occurrence]
    raw = bytearray(hashlib.sha256(json.dumps(content).encode()).digest()[:16])
    raw[6] = (raw[6] & 0x0F) | 0x80  # version 8, RFC 9562 §5.8
    raw[8] = (raw[8] & 0x3F) | 0x80  # variant 10
    return DepositId(str(uuid.UUID(bytes=bytes(raw))))


def content_key(sender: str, address: str, units: int) -> ContentKey:
    """What rows of equal content share, and no others. `sender` in its stored form. Small, as there may be many."""
    return ContentKey(hashlib.sha256(json.dumps([sender, address, str(units)]).encode()).digest()[:16])


def our_rows(values: Iterable[object], house: Address) -> OurRows:
    """Rows to what looks like a deposit address, and rows from one to the house.

    A transfer of an address to itself brings nothing. Whatever else strangers write is not even checked.
    """
    deposits, sweeps, unreadable = list[ListedRow](), list[ListedRow](), 0
    for each in values:
        if not is_object(each):
            continue
        source, destination = each.get("fromAddress"), each.get("toAddress")
        is_deposit = _may_be_ours(destination) and source != destination
        if not is_deposit and not (destination == house and _may_be_ours(source)):
            continue
        try:
            (deposits if is_deposit else sweeps).append(read_row(each))
        except Unreadable:
            unreadable += 1
    return OurRows(deposits, sweeps, unreadable)


def numbered(
    rows: Iterable[ListedRow], mixes: Mapping[Address, str], counts: dict[ContentKey, int]
) -> list[ListedDeposit]:
    """Those of the rows that go to one of `mixes` (deposit address → mix), numbered on from `counts`, which grow."""
    found: list[ListedDeposit] = []
    for row in rows:
        if (mix := mixes.get(row.destination)) is not None:
            key = content_key(stored(row.source), row.destination, row.units)
            counts[key] = counts.get(key, 0) + 1
            found.append(ListedDeposit(mix, row, counts[key]))
    return found


def is_confirmed(counts: Mapping[ContentKey, int], deposit: UnconfirmedDeposit) -> bool:
    """True if the deposit's address, whose transactions these are, lists so many with its content."""
    return counts.get(content_key(deposit.sender, deposit.address, deposit.units), 0) >= deposit.occurrence


def _may_be_ours(address: object) -> bool:
    return isinstance(address, str) and DEPOSIT_ADDRESS.fullmatch(address) is not None
