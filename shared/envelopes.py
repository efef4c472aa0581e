"""Envelopes: the commands that a sender gathered for one worker, in one signed message (ADR 4, ADR 11)."""

import hmac
from collections.abc import Sequence
from typing import Final

from shared import topology
from shared.amqp import Outgoing, fresh_message_id
from shared.ids import Partition
from shared.messages import Command, CommandEnvelope

ENVELOPE_KIND: Final = "cmd.v1"
MAC_HEADER: Final = "mac"


def envelope_mac(key: bytes, body: bytes) -> str:
    """HMAC-SHA256 over the envelope's bytes, so that a stolen broker password cannot make commands."""
    return hmac.digest(key, body, "sha256").hex()


def envelope_body(commands: Sequence[Command]) -> bytes:
    """The bytes that `envelope` sends; the commands were checked when they were made."""
    return CommandEnvelope.model_construct(v=1, commands=tuple(commands)).model_dump_json(exclude_none=True).encode()


def ahead_of(message: Outgoing, queue: Partition) -> bytes:
    """An envelope as it goes straight to its worker: what the broker would say of it, then the same bytes (ADR 15)."""
    return f"{queue} {message.message_id} {(message.headers or {})[MAC_HEADER]}\n".encode() + message.body


def read_ahead(message: bytes) -> tuple[Partition, str, str, bytes]:
    """The partition of its queue, its id, its MAC and its bytes. Raises ValueError."""
    head, _, body = message.partition(b"\n")
    queue, message_id, mac = head.decode("ascii").split(" ")
    return Partition(int(queue)), message_id, mac, body


def outgoing_envelope(queue: Partition, body: bytes, key: bytes, *, commands: int, reply_to: str | None) -> Outgoing:
    """The message with `body`, the bytes of so many commands, for the queue of a partition."""
    return Outgoing(
        topology.COMMANDS,
        topology.partition_key(queue),
        body,
        ENVELOPE_KIND,
        reply_to=reply_to,
        headers={MAC_HEADER: envelope_mac(key, body), "p": int(queue), "n": commands},
        message_id=fresh_message_id(),
    )
