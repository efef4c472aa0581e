"""Instances of the network: each is an ordered list of transactions, and the balances that follow from it."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NewType

from services.jobcoin_network.core.coins import CoinAmount, read_amount

CoinAddress = NewType("CoinAddress", str)
InstanceName = NewType("InstanceName", str)

INSTANCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
# Paths of the server itself: an instance of that name would have no page.
RESERVED_NAMES = frozenset({"livez", "readyz", "metrics"})

ALICE, BOB = CoinAddress("Alice"), CoinAddress("Bob")
CREATED = read_amount("50")
FIRST_TRANSFER = read_amount("12.5")
FIRST_TRANSFER_DELAY_MS = 60


class BrokenList(Exception):
    """A list of transactions contradicts itself: an address spent more than it had, or time went back."""


class InsufficientFundsError(Exception):
    """The sender has less than it would send."""


@dataclass(frozen=True, slots=True)
class CoinMovement:
    """Coins that a client asks to move. Without a sender they are created."""

    sender: CoinAddress | None
    recipient: CoinAddress
    amount: CoinAmount


@dataclass(frozen=True, slots=True)
class Transaction:
    """A movement that was applied, at a UTC instant in milliseconds since 1970, and its place: which of the instance's.

    It must be durable before a client is told of it.
    """

    instance: InstanceName
    position: int
    timestamp_ms: int
    movement: CoinMovement


def instance_name(text: str) -> InstanceName | None:
    """The name, if an instance may have it."""
    return InstanceName(text) if INSTANCE_NAME.fullmatch(text) and text not in RESERVED_NAMES else None


def creation(recipient: CoinAddress) -> CoinMovement:
    """50 new coins for the address: the only amount that this network creates."""
    return CoinMovement(None, recipient, CREATED)


def genesis(name: InstanceName, now_ms: int) -> tuple[Transaction, Transaction]:
    """The transactions of a new instance: 50 coins created for Alice, who sends 12.5 to Bob 60 ms later."""
    created = Transaction(name, 0, now_ms - FIRST_TRANSFER_DELAY_MS, creation(ALICE))
    return created, Transaction(name, 1, now_ms, CoinMovement(ALICE, BOB, FIRST_TRANSFER))


class Instance:
    """The transactions of one instance, oldest first, and what follows from them.

    `balances` has every address that ever received coins, in order of first use, with its units of 10^-40 of a coin;
    for any other it says 0. `positions` has the positions of an address's transactions, ascending; a transfer to itself
    has one. `rendered` is for the API, which shows each transaction again and again.
    """

    __slots__ = ("balances", "name", "positions", "rendered", "transactions")

    def __init__(self, name: InstanceName, transactions: Iterable[Transaction] = ()) -> None:
        self.name = name
        self.transactions: list[Transaction] = []
        self.rendered: list[bytes] = []
        self.balances: Counter[CoinAddress] = Counter()
        self.positions: dict[CoinAddress, list[int]] = {}
        for transaction in transactions:
            self.append(transaction)

    def decide(self, movement: CoinMovement, now_ms: int) -> Transaction:
        """The transaction to append for the movement, timed no earlier than the last one, whatever the clock says.

        Raises InsufficientFundsError.
        """
        if movement.sender is not None and self.balances[movement.sender] < movement.amount.units:
            raise InsufficientFundsError
        last_ms = self.transactions[-1].timestamp_ms if self.transactions else now_ms
        return Transaction(self.name, len(self.transactions), max(last_ms, now_ms), movement)

    def append(self, transaction: Transaction) -> None:
        """Adds the next transaction. Raises BrokenList if its sender is short or it is older than the last one."""
        movement, units = transaction.movement, transaction.movement.amount.units
        if self.transactions and transaction.timestamp_ms < self.transactions[-1].timestamp_ms:
            raise BrokenList("a transaction is older than the one before it")
        if movement.sender is not None:
            if self.balances[movement.sender] < units:
                raise BrokenList("a sender spent more than it had")
            self.balances[movement.sender] -= units
        self.balances[movement.recipient] += units
        for address in {movement.recipient, movement.sender or movement.recipient}:
            self.positions.setdefault(address, []).append(len(self.transactions))
        self.transactions.append(transaction)
