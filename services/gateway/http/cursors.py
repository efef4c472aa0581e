"""Cursors of lists: where the next page starts, signed and bound to the query and the caller they were made for."""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, cast

from shared.domain.ids import subkey

MAC_BYTES: Final = 12
CURSOR_CHARACTERS_MAX: Final = 512
# What rows are ordered by, in the order of the columns.
Position: TypeAlias = Sequence[str | int]


class ForeignCursor(ValueError):
    """The cursor was not made here, or not for this query."""


class Cursors:
    """Makes cursors with the first of `secrets`, reads those made with any: gateways accept each other's cursors."""

    def __init__(self, *secrets: str) -> None:
        self._keys = [subkey(secret, "cursor") for secret in secrets]

    def encode(self, query: Mapping[str, str], position: Position) -> str:
        """The cursor of a position, valid for `query` only: the list, the caller and every filter, but no limit."""
        payload = json.dumps(list(position), separators=(",", ":")).encode()
        return _text(_mac(self._keys[0], query, payload) + payload)

    def decode(self, query: Mapping[str, str], cursor: str) -> Position:
        """The position that `encode` was given. Raises ForeignCursor for any text but the one that `encode` gave."""
        if len(cursor) > CURSOR_CHARACTERS_MAX or not cursor.isascii():
            raise ForeignCursor
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except binascii.Error as error:
            raise ForeignCursor from error
        # Other texts decode to the same bytes (with padding, or other unused bits in the last character): refuse them.
        if _text(raw) != cursor:
            raise ForeignCursor
        mac, payload = raw[:MAC_BYTES], raw[MAC_BYTES:]
        if not any(hmac.compare_digest(mac, _mac(key, query, payload)) for key in self._keys):
            raise ForeignCursor
        return cast("list[str | int]", json.loads(payload))


def _mac(key: bytes, query: Mapping[str, str], payload: bytes) -> bytes:
    bound = json.dumps(sorted(query.items()), separators=(",", ":")).encode()
    return hmac.digest(key, len(bound).to_bytes(4) + bound + payload, "sha256")[:MAC_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
