"""The ledger's client on a wire of the test's own: a broker, and a link to one worker."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest

from shared import amqp
from shared.amqp import BusError, Outgoing, Refused
from shared.envelopes import read_ahead
from shared.ids import Partition
from shared.ledger_client import LedgerClient
from shared.messages import Command, CommandEnvelope, Outcome, Reply, Settled
from shared.sending import Sent
from tests.builders import SECRET, Commands, account_in
from tests.contract.conditions import eventually

MAKE = Commands()
HERE = Partition(0)
# Of the loop: more than all whom a reply of a test wakes.
TURNS_OF_WAKING = 8


class Wire:
    """The other side: takes envelopes, confirms them when asked to, and lets replies be told."""

    def __init__(self) -> None:
        self.envelopes: list[list[str]] = []
        self.keys: list[str] = []
        self.ahead: list[list[str]] = []
        self.linked = ""  # the worker that there is a link to
        self.can_publish = True
        self.confirms = asyncio.Event()
        self.confirms.set()
        self.fault: BusError | None = None
        self.refusing = ""
        self.client = LedgerClient("amqp://nowhere/", partitions=4, secret=SECRET, name="tests")
        self.courier = self.client._courier

    async def publish(self, _: object, message: Outgoing) -> None:
        self.keys.append(message.key)
        self.envelopes.append([command.id for command in CommandEnvelope.model_validate_json(message.body).commands])
        await self.confirms.wait()
        if self.fault is not None:
            raise self.fault
        if message.key == self.refusing:
            raise Refused(message.key)

    def takes(self, _: object) -> bool:
        return self.can_publish

    def offer(self, worker: str, _: str, message: bytes) -> bool:
        if worker == self.linked:
            body = read_ahead(message)[-1]
            self.ahead.append([command.id for command in CommandEnvelope.model_validate_json(body).commands])
        return worker == self.linked

    async def link(self) -> None:
        """To the worker of the first queues, of which one reply came by the broker."""
        [first] = self.send()
        await self.left(1)
        await self.tell(posted(first), owned=(0, 1), queue=0)
        await self.client.answer(first, 60)
        self.linked = "one"
        self.envelopes.clear()
        self.keys.clear()

    def send(self, count: int = 1) -> list[Sent]:
        return [self.client.send(move(), HERE) for _ in range(count)]

    async def tell(
        self,
        *outcomes: Outcome,
        settled: tuple[Settled, ...] = (),
        owned: tuple[int, ...] = (),
        queue: int | None = None,
    ) -> None:
        reply = Reply(outcomes=outcomes, settled=settled, worker="one", owned=owned, queue=queue)
        self.client._hear(reply.model_dump_json().encode())
        for _ in range(TURNS_OF_WAKING):
            await asyncio.sleep(0)

    async def left(self, count: int) -> None:
        await eventually(lambda: len(self.envelopes) >= count)

    async def stays_at(self, count: int) -> None:
        for _ in range(10):  # turns of the loop, in which a line that does not wait would send
            await asyncio.sleep(0)
        assert len(self.envelopes) == count


async def never_opens(_: amqp.Link) -> None:
    await asyncio.Event().wait()


def move() -> Command:
    return MAKE.move(account_in(0), account_in(1), 1)


def ids(*sent: Sent) -> list[str]:
    return [each.command.id for each in sent]


def posted(sent: Sent, *, legs: tuple[int, ...] = ()) -> Outcome:
    return Outcome(id=sent.command.id, fingerprint=sent.command.fingerprint, status="posted", legs=legs)


@asynccontextmanager
async def wired(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Wire]:
    """A client that runs, and believes that it is connected."""
    wire = Wire()
    monkeypatch.setattr(amqp, "publish", wire.publish)
    monkeypatch.setattr(amqp.Link, "run", never_opens)
    monkeypatch.setattr(wire.client, "is_ready", lambda: True)
    monkeypatch.setattr(wire.client, "_reply_to", "replies")
    monkeypatch.setattr(amqp, "can_publish", wire.takes)
    monkeypatch.setattr(wire.client._links, "offer", wire.offer)
    running = asyncio.get_running_loop().create_task(wire.client.run())
    yield wire
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
