"""The transactions of an instance as the API lists them, in one buffer: half a million are tens of megabytes."""

from array import array
from collections.abc import Iterator

CHUNK_BYTES = 256 * 1024


class RenderedRows:
    """JSON objects in their order, rendered once: clients read the whole list several times a second."""

    __slots__ = ("_buffer", "_ends")

    def __init__(self) -> None:
        # Each row is followed by a comma. `_ends` has, for each row, where the next one begins.
        self._buffer = bytearray()
        self._ends = array("Q")

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, row: bytes) -> None:
        """Adds the next row."""
        self._buffer += row
        self._buffer += b","
        self._ends.append(len(self._buffer))

    def row(self, position: int) -> bytes:
        """One row."""
        start = self._ends[position - 1] if position else 0
        return bytes(self._buffer[start : self._ends[position] - 1])

    def list_bytes(self) -> int:
        """The size of the JSON array of all rows."""
        return max(2, len(self._buffer) + 1)

    def list_chunks(self, list_bytes: int) -> Iterator[bytes]:
        """The JSON array that had `list_bytes` bytes: of the rows of that time, whatever was added since."""
        yield b"["
        # Without the comma after the last row. A view would keep the buffer from growing until the reader is done.
        end = list_bytes - 2
        for start in range(0, end, CHUNK_BYTES):
            yield bytes(self._buffer[start : min(start + CHUNK_BYTES, end)])
        yield b"]"
