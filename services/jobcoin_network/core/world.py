"""All instances of the network: separate worlds, each made at first use."""

import re
from collections.abc import Iterable, Mapping
from typing import NewType

from services.jobcoin_network.core.chain import Chain, Movement, Refusal, Transaction, genesis
from shared.values import value

InstanceName = NewType("InstanceName", str)

INSTANCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
# Paths of the server itself: an instance of that name would have no page.
RESERVED_NAMES = frozenset({"livez", "readyz", "metrics"})


@value
class Bounds:
    """How much the network keeps, over all instances."""

    instances_max: int = 1_000
    transactions_max: int = 500_000


@value
class Row:
    """A transaction and where it stands: what must be made durable before anyone is told of it."""

    instance: InstanceName
    position: int
    transaction: Transaction


def instance_name(text: str) -> InstanceName | None:
    """The name, if an instance may bear it."""
    return InstanceName(text) if INSTANCE_NAME.fullmatch(text) and text not in RESERVED_NAMES else None


class World:
    """The instances by name. Every change answers with the rows that it appended."""

    __slots__ = ("_bounds", "_chains", "_transactions")

    def __init__(self, rows: Iterable[Row] = (), bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._chains: dict[InstanceName, Chain] = {}
        self._transactions = 0
        for row in rows:
            self._append(row.instance, row.transaction)

    @property
    def chains(self) -> Mapping[InstanceName, Chain]:
        """The instances that were used so far."""
        return self._chains

    def begin(self, name: InstanceName, now_ms: int) -> tuple[Row, ...] | Refusal:
        """Make the instance if it was never used: its first rows, or none if it is there."""
        if name in self._chains:
            return ()
        if len(self._chains) >= self._bounds.instances_max or self._full(2):
            return Refusal.NETWORK_FULL
        return tuple(self._append(name, transaction) for transaction in genesis(now_ms))

    def apply(self, name: InstanceName, movement: Movement, now_ms: int) -> Row | Refusal:
        """Apply a movement in an instance that was begun, whole or not at all."""
        decision = self._chains[name].decide(movement, now_ms)
        if isinstance(decision, Refusal):
            return decision
        return Refusal.NETWORK_FULL if self._full(1) else self._append(name, decision)

    def _full(self, more: int) -> bool:
        return self._transactions + more > self._bounds.transactions_max

    def _append(self, name: InstanceName, transaction: Transaction) -> Row:
        chain = self._chains.setdefault(name, Chain())
        chain.append(transaction)
        self._transactions += 1
        return Row(name, len(chain.transactions()) - 1, transaction)
