"""Exchanges and queues, exactly as measured (a changed argument is a new queue version, or the broker answers 406)."""

from collections.abc import Mapping
from typing import Final

from shared.ids import Partition

COMMANDS: Final = "ledger.cmd"
EVENTS: Final = "ledger.events"
DEAD_LETTERS: Final = "ledger.dlx"
MIXER: Final = "mixer.cmd"
PARKING_QUEUE: Final = "ledger.parking"
PARKING_KEY: Final = "parking"
MIX_QUEUE: Final = "mixer.cmd.v1"
MIX_KEY: Final = "mix"

EXCHANGES: Final[Mapping[str, str]] = {COMMANDS: "direct", EVENTS: "topic", DEAD_LETTERS: "direct", MIXER: "direct"}

_QUORUM: Final = {"x-queue-type": "quorum", "x-queue-leader-locator": "balanced"}
_COMMAND_QUEUE: Final = {
    **_QUORUM,
    # 4.x defaults to 20, which a crash loop would spend on a whole prefetch window; never -1, which loses messages on
    # 3.10.
    "x-delivery-limit": 100,
    "x-overflow": "reject-publish",
    "x-max-length": 20_000,
    "x-max-length-bytes": 67_108_864,
    "x-dead-letter-exchange": DEAD_LETTERS,
    "x-dead-letter-routing-key": PARKING_KEY,
    "x-dead-letter-strategy": "at-least-once",
}
PARTITION_QUEUE_ARGUMENTS: Final[Mapping[str, str | int | bool]] = {**_COMMAND_QUEUE, "x-single-active-consumer": True}
MIX_QUEUE_ARGUMENTS: Final[Mapping[str, str | int | bool]] = _COMMAND_QUEUE
# Looking at a parked message counts as a delivery, so the limit is far away.
PARKING_QUEUE_ARGUMENTS: Final[Mapping[str, str | int | bool]] = {**_QUORUM, "x-delivery-limit": 1_000_000}


def partition_key(partition: Partition) -> str:
    """Routing key `p00` … of a partition's commands and events."""
    return f"p{partition:02d}"


def partition_queue(partition: Partition) -> str:
    """The queue of a partition's commands."""
    return f"ledger.cmd.v1.{partition_key(partition)}"


def nudge_key(partition: Partition) -> str:
    """Routing key of nudges for the owner of a partition."""
    return f"nudge.{partition_key(partition)}"
