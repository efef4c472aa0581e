"""A listening socket that closes without a reset: whoever connected before the end is served."""

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass
from typing import Final

from services.gateway.http.server import GuardedServer

BACKLOG: Final = 1_024


@dataclass(slots=True)
class Listener:
    """Accepts connections for one server until `close`. `sockets`: second descriptors of what it listens on."""

    server: GuardedServer
    listening: asyncio.Server
    sockets: list[socket.socket]

    @classmethod
    async def open(cls, server: GuardedServer, host: str, port: int) -> "Listener":
        """Listens. Raises OSError."""
        listening = await asyncio.get_running_loop().create_server(server, host, port, backlog=BACKLOG)
        return cls(server, listening, [socket.socket(fileno=os.dup(each.fileno())) for each in listening.sockets])

    @property
    def address(self) -> str:
        """`host:port` of the first socket."""
        host, port = self.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def close(self) -> None:
        """Accepts the connections that wait, then closes: closing a socket resets those that were not accepted yet."""
        self.listening.close()
        for each in self.sockets:
            accepted = accept_all(each)
            each.close()
            for connection in accepted:
                await asyncio.get_running_loop().connect_accepted_socket(self.server, connection)


def accept_all(listening: socket.socket) -> list[socket.socket]:
    """Accepts every connection that waits."""
    listening.settimeout(0)
    accepted: list[socket.socket] = []
    with contextlib.suppress(OSError):  # none waits any more, or no descriptor is left for it
        while True:
            accepted.append(listening.accept()[0])
            accepted[-1].settimeout(0)
    return accepted
