"""Instances of the network: each is an ordered list of transactions, and the balances that follow from it."""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence

from services.jobcoin_network.core.coins import read_amount
from services.jobcoin_network.core.rows import RenderedRows
from services.jobcoin_network.core.transactions import (
    CoinAddress,
    CoinMovement,
    InstanceName,
    Transaction,
    transaction_json,
)

INSTANCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
# Paths of the server itself: an instance of that name would have no page.
RESERVED_NAMES = frozenset({"livez", "readyz", "metrics"})

ALICE, BOB = CoinAddress("Alice"), CoinAddress("Bob")
CREATED = read_amount("50")
FIRST_TRANSFER = read_amount("12.5")
FIRST_TRANSFER_DELAY_MS = 60
# Stands for no transaction, and for no sender.
NONE = 2**32 - 1


class BrokenList(Exception):
    """A list of transactions contradicts itself: an address spent more than it had, or time went back."""


class InsufficientFundsError(Exception):
    """The sender has less than it would send."""


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

    An instance may have hundreds of thousands of transactions, so none is kept as an object: `rows` has them as the API
    lists them, and the transactions of one address are linked from the newest to the oldest, by positions in arrays.
    """

    __slots__ = ("_balances", "_newest", "_numbers", "_older", "_parties", "first_ms", "last_ms", "name", "rows")

    def __init__(self, name: InstanceName, transactions: Iterable[Transaction] = ()) -> None:
        self.name = name
        self.rows = RenderedRows()
        self.first_ms, self.last_ms = 0, 0
        # Every address that ever received coins → its number, in order of first use; by number its units of 10^-40 of a
        # coin, and the position of its newest transaction.
        self._numbers: dict[CoinAddress, int] = {}
        self._balances: list[int] = []
        self._newest = array("I")
        # Two for each transaction, recipient and sender: the address's number, and its next older transaction.
        self._parties = array("I")
        self._older = array("I")
        for transaction in transactions:
            self.append(transaction)

    def balance(self, address: CoinAddress) -> int:
        """Units of 10^-40 of a coin; 0 for an address that was never used."""
        number = self._numbers.get(address)
        return 0 if number is None else self._balances[number]

    def balances(self) -> Iterator[tuple[CoinAddress, int]]:
        """Every address that ever received coins, in order of first use, with its units."""
        return zip(self._numbers, self._balances, strict=True)

    def addresses(self) -> int:
        """How many addresses ever received coins."""
        return len(self._numbers)

    def positions(self, address: CoinAddress) -> Sequence[int]:
        """Where the address's transactions stand, ascending; a transfer to itself once."""
        number = self._numbers.get(address)
        found = array("I")
        position = NONE if number is None else self._newest[number]
        while position != NONE:
            found.append(position)
            is_recipient = self._parties[2 * position] == number
            position = self._older[2 * position + (not is_recipient)]
        found.reverse()
        return found

    def decide(self, movement: CoinMovement, now_ms: int) -> Transaction:
        """The transaction to append for the movement, timed no earlier than the last one, whatever the clock says.

        Raises InsufficientFundsError.
        """
        if movement.sender is not None and self.balance(movement.sender) < movement.amount.units:
            raise InsufficientFundsError
        timestamp_ms = max(self.last_ms, now_ms) if len(self.rows) else now_ms
        return Transaction(self.name, len(self.rows), timestamp_ms, movement)

    def append(self, transaction: Transaction) -> None:
        """Adds the next transaction. Raises BrokenList if its sender is short or it is older than the last one."""
        movement, units = transaction.movement, transaction.movement.amount.units
        if len(self.rows) and transaction.timestamp_ms < self.last_ms:
            raise BrokenList("a transaction is older than the one before it")
        if movement.sender is not None and self.balance(movement.sender) < units:
            raise BrokenList("a sender spent more than it had")
        # From here on it must succeed.
        position = len(self.rows)
        recipient = self._number(movement.recipient)
        sender = NONE if movement.sender is None else self._number(movement.sender)
        self._parties.extend((recipient, sender))
        self._older.extend((self._newest[recipient], NONE if sender == NONE else self._newest[sender]))
        if sender != NONE:
            self._balances[sender] -= units
            self._newest[sender] = position
        self._balances[recipient] += units
        self._newest[recipient] = position
        if position == 0:
            self.first_ms = transaction.timestamp_ms
        self.last_ms = transaction.timestamp_ms
        self.rows.append(transaction_json(transaction))

    def _number(self, address: CoinAddress) -> int:
        number = self._numbers.setdefault(address, len(self._numbers))
        if number == len(self._balances):
            self._balances.append(0)
            self._newest.append(NONE)
        return number
