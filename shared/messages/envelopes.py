"""Envelopes: one signed message with the commands that a sender gathered for one partition."""

import hmac
from collections.abc import Sequence
from typing import Final

from shared.messages.commands import Command, CommandEnvelope

ENVELOPE_KIND: Final = "cmd.v1"
MAC_HEADER: Final = "mac"


def envelope_body(commands: Sequence[Command]) -> bytes:
    """The JSON of an envelope. The commands were validated when they were made."""
    return CommandEnvelope.model_construct(v=1, commands=tuple(commands)).model_dump_json(exclude_none=True).encode()


def sign(key: bytes, body: bytes) -> str:
    """HMAC-SHA256 over the body, in hex. A stolen broker password alone does not let anyone send commands."""
    return hmac.digest(key, body, "sha256").hex()


def is_signed(keys: Sequence[bytes], body: bytes, mac: object) -> bool:
    """True when `mac`, the value of the header, is the signature of `body` with one of these keys."""
    return isinstance(mac, str) and any(hmac.compare_digest(mac.encode(), sign(key, body).encode()) for key in keys)
