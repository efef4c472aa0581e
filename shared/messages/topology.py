"""Exchanges and queues. RabbitMQ refuses changed arguments (406), so a change needs a new version in the name."""

from collections.abc import Mapping
from typing import Final

from shared.domain.ids import PARTITIONS_MAX, Partition

COMMANDS: Final = "ledger.cmd"
EVENTS: Final = "ledger.events"
DEAD_LETTERS: Final = "ledger.dlx"
MIXER: Final = "mixer.cmd"
DEAD_LETTERS_QUEUE: Final = "ledger.dead_letters"
DEAD_LETTERS_KEY: Final = "dead_letters"
MIX_QUEUE: Final = "mixer.cmd.v2"
MIX_KEY: Final = "mix"

EXCHANGES: Final[Mapping[str, str]] = {COMMANDS: "direct", EVENTS: "topic", DEAD_LETTERS: "direct", MIXER: "direct"}

# Routing keys of a partition's commands and events, and of nudges to its owner, by partition.
PARTITION_KEYS: Final = tuple(f"p{partition:02d}" for partition in range(PARTITIONS_MAX))
NUDGE_KEYS: Final = tuple(f"nudge.{key}" for key in PARTITION_KEYS)

_QUORUM: Final = {"x-queue-type": "quorum", "x-queue-leader-locator": "balanced"}
_COMMAND_QUEUE: Final = {
    **_QUORUM,
    # RabbitMQ 4 defaults to 20. Each crash of a worker counts for every prefetched message, so a crash loop would use
    # that up. Never -1: RabbitMQ 3.10 then drops a message at its first requeue.
    "x-delivery-limit": 100,
    "x-overflow": "reject-publish",
    "x-max-length": 20_000,
    "x-max-length-bytes": 67_108_864,
    "x-dead-letter-exchange": DEAD_LETTERS,
    "x-dead-letter-routing-key": DEAD_LETTERS_KEY,
    "x-dead-letter-strategy": "at-least-once",
}
PARTITION_QUEUE_ARGUMENTS: Final[Mapping[str, str | int | bool]] = {**_COMMAND_QUEUE, "x-single-active-consumer": True}
MIX_QUEUE_ARGUMENTS: Final[Mapping[str, str | int | bool]] = _COMMAND_QUEUE
# Each time an operator looks at a dead letter counts as a delivery, so the limit is out of reach.
DEAD_LETTERS_QUEUE_ARGUMENTS: Final[Mapping[str, str | int | bool]] = {**_QUORUM, "x-delivery-limit": 1_000_000}


def partition_queue(partition: Partition) -> str:
    """The queue of a partition's commands."""
    return f"ledger.cmd.v2.{PARTITION_KEYS[partition]}"
