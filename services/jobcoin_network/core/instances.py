"""Instances of the network: each is an ordered list of transactions, and the balances that follow from it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
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


class NetworkRefusal(StrEnum):
    """Why the network does not apply a movement, as its response says it."""

    INSUFFICIENT_FUNDS = "Insufficient Funds"
    NETWORK_FULL = "The network is full"


@dataclass(frozen=True, slots=True)
class CoinMovement:
    """Coins that a client asks to move. Without a sender they are created."""

    sender: CoinAddress | None
    recipient: CoinAddress
    amount: CoinAmount


@dataclass(frozen=True, slots=True)
class Transaction:
    """A movement that was applied, at a UTC instant in milliseconds since 1970."""

    timestamp_ms: int
    movement: CoinMovement


@dataclass(frozen=True, slots=True)
class PlacedTransaction:
    """A transaction and its place: what must be durable before a client is told of it."""

    instance: InstanceName
    position: int
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class NetworkBounds:
    """How much the network keeps, over all instances."""

    instances_max: int = 1_000
    transactions_max: int = 500_000


def instance_name(text: str) -> InstanceName | None:
    """The name, if an instance may have it."""
    return InstanceName(text) if INSTANCE_NAME.fullmatch(text) and text not in RESERVED_NAMES else None


def creation(recipient: CoinAddress) -> CoinMovement:
    """50 new coins for the address: the only amount that this network creates."""
    return CoinMovement(None, recipient, CREATED)


def genesis(now_ms: int) -> tuple[Transaction, Transaction]:
    """The transactions of a new instance: 50 coins created for Alice, who sends 12.5 to Bob 60 ms later."""
    transfer = CoinMovement(ALICE, BOB, FIRST_TRANSFER)
    return Transaction(now_ms - FIRST_TRANSFER_DELAY_MS, creation(ALICE)), Transaction(now_ms, transfer)


class Instance:
    """The transactions of one instance, oldest first. Balances are units of 10^-40 of a coin."""

    __slots__ = ("_balances", "_positions", "_transactions")

    def __init__(self, transactions: Sequence[Transaction] = ()) -> None:
        self._transactions: list[Transaction] = []
        self._balances: dict[CoinAddress, int] = {}
        self._positions: dict[CoinAddress, list[int]] = {}
        for transaction in transactions:
            self.append(transaction)

    def decide(self, movement: CoinMovement, now_ms: int) -> Transaction | NetworkRefusal:
        """The transaction to append for the movement, timed no earlier than the last one, whatever the clock says."""
        if movement.sender is not None and self.balance(movement.sender) < movement.amount.units:
            return NetworkRefusal.INSUFFICIENT_FUNDS
        last_ms = self._transactions[-1].timestamp_ms if self._transactions else now_ms
        return Transaction(max(last_ms, now_ms), movement)

    def append(self, transaction: Transaction) -> None:
        """Adds the next transaction. Raises BrokenList if its sender is short or it is older than the last one."""
        movement, units = transaction.movement, transaction.movement.amount.units
        if self._transactions and transaction.timestamp_ms < self._transactions[-1].timestamp_ms:
            raise BrokenList("a transaction is older than the one before it")
        if movement.sender is not None:
            if self.balance(movement.sender) < units:
                raise BrokenList("a sender spent more than it had")
            self._balances[movement.sender] -= units
        self._balances[movement.recipient] = self.balance(movement.recipient) + units
        for address in {movement.recipient, movement.sender or movement.recipient}:
            self._positions.setdefault(address, []).append(len(self._transactions))
        self._transactions.append(transaction)

    def balance(self, address: CoinAddress) -> int:
        """Units at the address; 0 if it was never used."""
        return self._balances.get(address, 0)

    def balances(self) -> Sequence[tuple[CoinAddress, int]]:
        """Every address that ever received coins, in order of first use, with its units."""
        return list(self._balances.items())

    def transactions(self) -> Sequence[Transaction]:
        """All transactions, oldest first."""
        return self._transactions

    def positions(self, address: CoinAddress) -> Sequence[int]:
        """The positions of an address's transactions, ascending. A transfer to itself has one."""
        return self._positions.get(address, ())


class Instances:
    """All instances by name. They have nothing in common but the bounds. Each is made when it is first used."""

    __slots__ = ("_bounds", "_by_name", "_transactions")

    def __init__(self, placed: Iterable[PlacedTransaction] = (), bounds: NetworkBounds | None = None) -> None:
        self._bounds = bounds or NetworkBounds()
        self._by_name: dict[InstanceName, Instance] = {}
        self._transactions = 0
        for each in placed:
            self._append(each.instance, each.transaction)

    @property
    def by_name(self) -> Mapping[InstanceName, Instance]:
        """The instances that were used so far."""
        return self._by_name

    def begin(self, name: InstanceName, now_ms: int) -> tuple[PlacedTransaction, ...] | NetworkRefusal:
        """Makes the instance unless it is there. Returns the transactions that this appended."""
        if name in self._by_name:
            return ()
        if len(self._by_name) >= self._bounds.instances_max or self._is_full(2):
            return NetworkRefusal.NETWORK_FULL
        return tuple(self._append(name, transaction) for transaction in genesis(now_ms))

    def apply(self, name: InstanceName, movement: CoinMovement, now_ms: int) -> PlacedTransaction | NetworkRefusal:
        """Applies a movement in an instance that was begun, whole or not at all."""
        decision = self._by_name[name].decide(movement, now_ms)
        if isinstance(decision, NetworkRefusal):
            return decision
        return NetworkRefusal.NETWORK_FULL if self._is_full(1) else self._append(name, decision)

    def _is_full(self, more: int) -> bool:
        return self._transactions + more > self._bounds.transactions_max

    def _append(self, name: InstanceName, transaction: Transaction) -> PlacedTransaction:
        instance = self._by_name.setdefault(name, Instance())
        instance.append(transaction)
        self._transactions += 1
        return PlacedTransaction(name, len(instance.transactions()) - 1, transaction)
