"""The short way back: from the worker that decided straight to whoever sent the commands (ADR 14).

Replies come by the broker, and say where their worker can be reached; from then on they come over a WebSocket to it.
One that breaks, or cannot be opened, costs nothing but time: replies come by the broker again, and what was lost with
it stands in the journal.
"""

import asyncio
import hmac
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final, Literal, TypeAlias

import aiohttp
import structlog

log = structlog.get_logger()

PATH: Final = "/answers"
REPLY_TO_HEADER: Final = "X-Reply-To"
NONCE_HEADER: Final = "X-Nonce"
PROOF_HEADER: Final = "X-Proof"
# A link on which nothing is heard for one and a half of these is closed, by either end.
HEARTBEAT_S: Final = 2.0
OPEN_S_MAX: Final = 2.0
# A worker that could not be reached is not tried again for so long.
REST_S: Final = 10.0
CLOSING: Final = aiohttp.ClientWSTimeout(ws_close=1.0)  # pyright: ignore[reportCallIssue] its fields are hidden from it

# Where a worker listens, and the reply queue of whoever hears it.
Way: TypeAlias = tuple[str, str]


class LinkRefused(Exception):
    """Whoever listens there does not know our secret."""


def proof(key: bytes, side: Literal["sender", "worker"], reply_to: str, nonce: str) -> str:
    """What each side shows the other: HMAC-SHA256 over what the sender asks for, with a fresh nonce of its own."""
    return hmac.digest(key, f"{side}\n{reply_to}\n{nonce}".encode(), "sha256").hex()


class AnswerLinks:
    """The sender's end: one link for each worker that it hears of. `hear` takes the bytes of a reply."""

    def __init__(self, key: bytes, hear: Callable[[bytes], None]) -> None:
        self._key = key
        self._hear = hear
        self._ways: dict[Way, asyncio.Task[None] | None] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Keeps the links until cancelled."""
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            while True:
                await self._changed.wait()
                self._changed.clear()
                for way in [way for way, task in self._ways.items() if task is None]:
                    task = group.create_task(self._keep(session, way), name=f"answers of {way[0]}")
                    task.add_done_callback(partial(self._forget, way))
                    self._ways[way] = task

    def want(self, address: str, reply_to: str) -> None:
        """A worker that listens at `address` (a URL) decides commands of ours. Nothing if there is a link already."""
        if (address, reply_to) not in self._ways:
            self._ways[address, reply_to] = None
            self._changed.set()

    async def _keep(self, session: aiohttp.ClientSession, way: Way) -> None:
        try:
            await self._listen(session, way)
        except (aiohttp.ClientError, OSError, TimeoutError, LinkRefused) as fault:
            log.warning("answers.unreachable", address=way[0], fault=repr(fault))
            await asyncio.sleep(REST_S)

    def _forget(self, way: Way, _: "asyncio.Task[None]") -> None:
        del self._ways[way]

    async def _listen(self, session: aiohttp.ClientSession, way: Way) -> None:
        address, reply_to = way
        nonce = secrets.token_hex(16)
        headers = {
            REPLY_TO_HEADER: reply_to,
            NONCE_HEADER: nonce,
            PROOF_HEADER: proof(self._key, "sender", reply_to, nonce),
        }
        async with asyncio.timeout(OPEN_S_MAX):
            # Like the broker, a worker may tell as much as it has to.
            link = await session.ws_connect(
                address, headers=headers, heartbeat=HEARTBEAT_S, max_msg_size=0, timeout=CLOSING
            )
        async with link:
            shown = await link.receive(OPEN_S_MAX)
            expected = proof(self._key, "worker", reply_to, nonce)
            if not isinstance(shown.data, str) or not hmac.compare_digest(shown.data.encode(), expected.encode()):
                raise LinkRefused(address)
            log.info("answers.link_open", address=address)
            self._replace(way)
            async for message in link:
                if message.type is aiohttp.WSMsgType.BINARY:
                    self._hear(message.data)
        log.info("answers.link_closed", address=address)

    def _replace(self, way: Way) -> None:
        """Ends a link to the same worker under an older reply queue, which was good for what came before this one."""
        for other, task in self._ways.items():
            if other[0] == way[0] and other != way and task is not None:
                task.cancel()
