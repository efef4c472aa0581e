"""A JSON array that arrives in pieces, read value by value, in memory that does not grow with the array. Pure.

The network's list may have any length. The bytes read so far and their hash are kept with each value, so that a later
reading can skip, without parsing it, a beginning that has not changed: a general parser does not tell these positions.
"""

import codecs
import hashlib
import json
from json.decoder import JSONDecodeError
from typing import Final

from shared.domain.values import value
from shared.mixer.jobcoin_rows import Unreadable

# Two addresses of 4,096 bytes, written as escapes, are a quarter of this.
VALUE_CHARACTERS_MAX: Final = 256 * 1024
SPACE: Final = " \t\r\n"
AFTER_VALUE: Final = frozenset({*SPACE, ",", "]"})


@value
class ArrayPosition:
    """How much of an array was read: values, size in bytes up to the end of the last of them, and these bytes' hash."""

    rows: int
    size: int
    hash: bytes


NOTHING_READ: Final = ArrayPosition(0, 0, hashlib.sha256().digest())


class ArrayReader:
    """Reads on from `known`, whose bytes are hashed and not parsed. Feed it the array from its first byte on."""

    def __init__(self, known: ArrayPosition = NOTHING_READ) -> None:
        self._known = known
        self._hash = hashlib.sha256()
        self.rows = known.rows
        self._bytes = 0
        self._text = ""
        self._to_text = codecs.getincrementaldecoder("utf-8")()
        self._decode = json.JSONDecoder().raw_decode
        # True once the array's end was read.
        self.is_complete = False
        # True once the array turned out not to begin with the known bytes: nothing more of it is read.
        self.is_changed = False

    @property
    def is_past_known(self) -> bool:
        """True once all of the known bytes were read."""
        return self._bytes >= self._known.size

    @property
    def position(self) -> ArrayPosition:
        """How far it was read."""
        return ArrayPosition(self.rows, self._bytes, self._hash.digest())

    def feed(self, piece: bytes) -> list[object]:
        """The values that this piece completes. Raises Unreadable."""
        piece = self._skip_known(piece)
        if self.is_changed or not self.is_past_known:
            return []
        try:
            return self._parse(self._text + self._to_text.decode(piece))
        except UnicodeDecodeError as error:
            raise Unreadable("a list is UTF-8") from error

    def _skip_known(self, piece: bytes) -> bytes:
        missing = self._known.size - self._bytes
        if missing <= 0:
            return piece
        known, rest = piece[:missing], piece[missing:]
        self._hash.update(known)
        self._bytes += len(known)
        if self._bytes == self._known.size:
            self.is_changed = self._hash.digest() != self._known.hash
        return rest

    def _parse(self, text: str) -> list[object]:
        values: list[object] = []
        end, start = 0, self._next_start(text, 0)
        while start is not None:
            read = self._value(text, start)
            if read is None:  # the rest of the value comes with the next piece
                break
            found, stop = read
            values.append(found)
            self.rows, end = self.rows + 1, stop
            # The usual separator, without a call.
            start = end + 1 if text.startswith(",{", end) else self._next_start(text, end)
        taken = text[:end].encode()
        self._hash.update(taken)
        self._bytes += len(taken)
        self._text = "" if self.is_complete else text[end:]
        if len(self._text) > VALUE_CHARACTERS_MAX:
            raise Unreadable("a value of the list is too long, or no JSON")
        return values

    def _value(self, text: str, start: int) -> tuple[object, int] | None:
        """The value and where it ends; None if it is not there in full."""
        try:
            found, stop = self._decode(text, start)
        except JSONDecodeError:
            return None
        except (ValueError, RecursionError) as error:
            raise Unreadable("a value of the list is no JSON") from error
        # A number may go on in the next piece; everything else shows where it ends.
        return None if text[stop : stop + 1] not in AFTER_VALUE else (found, stop)

    def _next_start(self, text: str, end: int) -> int | None:
        """Where the next value begins. None if the array ends before it, or the text does."""
        at = _after_space(text, end)
        if at == len(text):
            return None
        if self.is_complete:
            raise Unreadable("something follows the list")
        if text[at] == ("[" if self.rows == 0 else ","):
            at = _after_space(text, at + 1)
            is_at_end = self.rows == 0 and text[at : at + 1] == "]"
        else:
            is_at_end = self.rows > 0 and text[at] == "]"
            if not is_at_end:
                raise Unreadable("a list is a JSON array")
        if is_at_end:
            self.is_complete = True
            if _after_space(text, at + 1) < len(text):
                raise Unreadable("something follows the list")
            return None
        return at


def _after_space(text: str, start: int) -> int:
    while start < len(text) and text[start] in SPACE:
        start += 1
    return start
