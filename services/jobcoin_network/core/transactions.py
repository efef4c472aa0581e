"""What the network moves, and how it lists it: a transaction is one JSON object, rendered once."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import NewType

from services.jobcoin_network.core.coins import CoinAmount

CoinAddress = NewType("CoinAddress", str)
InstanceName = NewType("InstanceName", str)


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


def timestamp_text(timestamp_ms: int) -> str:
    """ISO 8601 in UTC, always with three fraction digits and Z, since clients parse exactly that."""
    seconds, ms = divmod(timestamp_ms, 1000)
    return f"{_second_text(seconds)}.{ms:03}Z"


def transaction_json(transaction: Transaction) -> bytes:
    """A transaction as an object of the lists. Created coins have no key `fromAddress`."""
    movement = transaction.movement
    sender = "" if movement.sender is None else f'"fromAddress":{json.dumps(movement.sender)},'
    recipient = f'"toAddress":{json.dumps(movement.recipient)},"amount":"{movement.amount.text}"'
    return f'{{"timestamp":"{timestamp_text(transaction.timestamp_ms)}",{sender}{recipient}}}'.encode("ascii")


# Neighbours in a list share their second.
@lru_cache(maxsize=16)
def _second_text(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
