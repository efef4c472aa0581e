"""The ledger client on a wire of the test's own, which stands for the broker and the worker."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import TypeVar

import pytest

from shared.broker import channels, declare
from shared.broker.channels import OutgoingMessage, PublishFailed
from shared.broker.connection import ManagedConnection
from shared.domain.ids import Partition
from shared.ledger_client.client import LedgerClient
from shared.ledger_client.pending import PendingCommand
from shared.messages import Command, CommandEnvelope, Outcome, Reply, Settled
from tests.builders import SECRET, Commands, account_in
from tests.contract.conditions import eventually

MAKE = Commands()
HERE, THERE = Partition(0), Partition(1)
# Turns of the event loop: more than it takes to wake all who wait for a reply of a test.
TURNS_OF_WAKING = 8


class Wire:
    """Takes envelopes, confirms them when it may, or raises `fault`; replies when it is told to."""

    def __init__(self) -> None:
        self.envelopes: list[list[str]] = []
        self.keys: list[str] = []
        self.confirms = asyncio.Event()
        self.confirms.set()
        self.fault: PublishFailed | None = None
        self.client = LedgerClient("amqp://nowhere/", partitions=4, secret=SECRET, name="tests")

    async def publish(self, channel: object, message: OutgoingMessage) -> None:
        self.keys.append(message.key)
        self.envelopes.append([command.id for command in CommandEnvelope.model_validate_json(message.body).commands])
        await self.confirms.wait()
        if self.fault is not None:
            raise self.fault

    def send(self, count: int = 1) -> list[PendingCommand]:
        return [self.client.send(transfer(), HERE) for _ in range(count)]

    async def leave(self, pending: PendingCommand) -> None:
        """A client that waits for the command goes away."""
        waiting = asyncio.get_running_loop().create_task(self.client.result(pending, 60))
        await eventually(lambda: bool(pending.waiters))
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting

    async def reply(self, *outcomes: Outcome, settled: tuple[Settled, ...] = ()) -> None:
        self.client._receive(Reply(outcomes=outcomes, settled=settled).model_dump_json().encode())
        for _ in range(TURNS_OF_WAKING):
            await asyncio.sleep(0)

    async def left(self, count: int) -> None:
        await eventually(lambda: len(self.envelopes) >= count)

    async def stays_at(self, count: int) -> None:
        for _ in range(10):  # turns of the event loop, in which a queue that does not wait would send
            await asyncio.sleep(0)
        assert len(self.envelopes) == count


AnyWire = TypeVar("AnyWire", bound=Wire)


async def refuses(_: object, *, confirmed: bool) -> None:
    raise ConnectionError(f"no channel: {confirmed}")


async def never_opens(_: ManagedConnection) -> None:
    await asyncio.Event().wait()


def transfer() -> Command:
    return MAKE.transfer(account_in(0), account_in(1), 1)


def ids(*pending: PendingCommand) -> list[str]:
    return [each.command.id for each in pending]


def posted(pending: PendingCommand, *, legs: tuple[int, ...] = ()) -> Outcome:
    command = pending.command
    return Outcome(id=command.id, fingerprint=command.fingerprint, status="posted", legs=legs)


@asynccontextmanager
async def wired(monkeypatch: pytest.MonkeyPatch, wire: AnyWire) -> AsyncGenerator[AnyWire]:
    """Runs the wire's client, which believes that it is connected."""
    monkeypatch.setattr(declare, "publish", wire.publish)
    monkeypatch.setattr(ManagedConnection, "run", never_opens)
    monkeypatch.setattr(channels, "open_channel", refuses)
    monkeypatch.setattr(declare, "CANCELLED_S_MAX", 0.0)
    monkeypatch.setattr(wire.client, "_channel", SimpleNamespace(connection=None))
    monkeypatch.setattr(wire.client, "_reply_to", "replies")
    running = asyncio.get_running_loop().create_task(wire.client.run())
    yield wire
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
