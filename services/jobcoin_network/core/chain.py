"""One instance of the network: an ordered list of transactions, and the balances that follow from it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NewType

from services.jobcoin_network.core.coins import Amount, read_amount
from shared.values import value

Address = NewType("Address", str)

ALICE, BOB = Address("Alice"), Address("Bob")
CREATED = read_amount("50")
FIRST_TRANSFER = read_amount("12.5")
FIRST_TRANSFER_DELAY_MS = 60


class InvariantBroken(Exception):
    """The list of transactions contradicts itself: an address would have spent coins that it did not have."""


class Refusal(StrEnum):
    """Why the network does not apply a movement, as its answer says it."""

    INSUFFICIENT_FUNDS = "Insufficient Funds"
    NETWORK_FULL = "The network is full"


@value
class Movement:
    """Coins that a client asks to move. Without a sender they are created."""

    sender: Address | None
    recipient: Address
    amount: Amount


@value
class Transaction:
    """A movement that was applied, at a UTC instant in milliseconds since 1970."""

    timestamp_ms: int
    movement: Movement


def creation(recipient: Address) -> Movement:
    """50 new coins for the address: the only amount that this network creates."""
    return Movement(None, recipient, CREATED)


def genesis(now_ms: int) -> tuple[Transaction, Transaction]:
    """What a fresh instance holds: 50 created for Alice, of which 12.5 went on to Bob 60 ms later."""
    transfer = Movement(ALICE, BOB, FIRST_TRANSFER)
    return Transaction(now_ms - FIRST_TRANSFER_DELAY_MS, creation(ALICE)), Transaction(now_ms, transfer)


class Chain:
    """The transactions of one instance, oldest first. Balances are units of 10^-40 of a coin."""

    __slots__ = ("_balances", "_positions", "_transactions")

    def __init__(self, transactions: Sequence[Transaction] = ()) -> None:
        self._transactions: list[Transaction] = []
        self._balances: dict[Address, int] = {}
        self._positions: dict[Address, list[int]] = {}
        for transaction in transactions:
            self.append(transaction)

    def decide(self, movement: Movement, now_ms: int) -> Transaction | Refusal:
        """What to append for the movement, timed no earlier than the last transaction, however the clock went."""
        if movement.sender is not None and self.balance(movement.sender) < movement.amount.units:
            return Refusal.INSUFFICIENT_FUNDS
        last_ms = self._transactions[-1].timestamp_ms if self._transactions else now_ms
        return Transaction(max(last_ms, now_ms), movement)

    def append(self, transaction: Transaction) -> None:
        """Take the next transaction. Raises InvariantBroken if its sender is short or it is older than the last."""
        movement, units = transaction.movement, transaction.movement.amount.units
        if self._transactions and transaction.timestamp_ms < self._transactions[-1].timestamp_ms:
            raise InvariantBroken("a transaction is older than the one before it")
        if movement.sender is not None:
            if self.balance(movement.sender) < units:
                raise InvariantBroken("a sender spent more than it had")
            self._balances[movement.sender] -= units
        self._balances[movement.recipient] = self.balance(movement.recipient) + units
        for address in {movement.recipient, movement.sender or movement.recipient}:
            self._positions.setdefault(address, []).append(len(self._transactions))
        self._transactions.append(transaction)

    def balance(self, address: Address) -> int:
        """Units at the address; 0 if it was never used."""
        return self._balances.get(address, 0)

    def balances(self) -> Sequence[tuple[Address, int]]:
        """Every address that coins ever reached, in order of first use, with its units."""
        return list(self._balances.items())

    def transactions(self) -> Sequence[Transaction]:
        """All transactions, oldest first."""
        return self._transactions

    def positions(self, address: Address) -> Sequence[int]:
        """Where the transactions of an address stand in the list, ascending; a self-transfer stands once."""
        return self._positions.get(address, ())
