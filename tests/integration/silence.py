"""A way to a server that can fall silent: connections stay open, new ones are taken, and nothing comes through.

Or, of a broker, all but its confirms comes through.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CHUNK_BYTES = 65_536
# A frame of AMQP: type, channel, size of the payload; then the payload and one more byte. A method begins with its ids.
HEAD_BYTES = 7
BASIC_ACK = bytes((0, 60, 0, 80))


@dataclass(slots=True)
class Way:
    """Clears `open` to fall silent, as a stopped process does: the kernel still takes what is sent."""

    url: str
    open: asyncio.Event = field(default_factory=asyncio.Event)
    confirms: bool = True

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hands on what comes, while it may."""
        try:
            while part := await reader.read(CHUNK_BYTES):
                await self.open.wait()
                writer.write(part)
                await writer.drain()
        finally:
            writer.close()

    async def carry_frames(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hands on what a broker says, without its confirms while `confirms` is False."""
        try:
            while True:
                head = await reader.readexactly(HEAD_BYTES)
                payload = await reader.readexactly(int.from_bytes(head[3:], "big") + 1)
                await self.open.wait()
                if self.confirms or head[0] != 1 or payload[:4] != BASIC_ACK:
                    writer.write(head + payload)
                    await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def way_to(url: str) -> AsyncGenerator[Way]:
    """The same URL with another port; what it carries can be held back."""
    parts = urlsplit(url)
    way = Way("")
    way.open.set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await asyncio.open_connection(parts.hostname, parts.port)
        back = way.carry_frames if parts.scheme == "amqp" else way.carry
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await asyncio.gather(way.carry(reader, onward[1]), back(onward[0], writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    way.url = parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}").geturl()
    try:
        yield way
    finally:
        way.open.set()
        server.close()
