"""What is committed and not acknowledged yet: gathered, since nobody waits for it, and put into order."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from services.ledger_worker.ports import Inbound
from shared import amqp
from shared.ids import Partition

PREFETCH_ENVELOPES: Final = 32
# Each acknowledgement is a command to a quorum queue, with a write of its own to the disk. So those of so many seconds,
# or deliveries, go together; after a crash as many more come again, and are found decided.
OWED_S_MAX: Final = 0.1
OWED_DELIVERIES_MAX: Final = PREFETCH_ENVELOPES // 2


@dataclass(slots=True, eq=False)
class Owed:
    """Of one channel, whose tags are 1, 2, 3 …: those up to `last` can be acknowledged, up to `told` they are."""

    channel: amqp.Channel
    done: set[int] = field(default_factory=set[int])
    last: int = 0
    told: int = 0

    def add(self, tag: int) -> None:
        """Tags may be done in any order; what envelopes came ahead (ADR 15) is done before what came by the broker."""
        self.done.add(tag)
        while self.last + 1 in self.done:
            self.last += 1
            self.done.remove(self.last)


class Acknowledgements:
    """`channels` are those that are open, by partition."""

    def __init__(self, channels: Mapping[Partition, amqp.Channel]) -> None:
        self._channels = channels
        self._owed: dict[Partition, Owed] = {}
        self._owing = asyncio.Event()
        self._full = asyncio.Event()

    def owe(self, done: Inbound) -> None:
        """Acknowledges this delivery within OWED_S_MAX of those before it on its channel. Nothing if that is gone."""
        channel = self._channels.get(done.partition)
        # A tag belongs to its channel: on another it would acknowledge what was not processed.
        if channel is None or channel is not done.channel:
            return
        owed = self._owed.get(done.partition)
        if owed is None or owed.channel is not channel:
            owed = self._owed[done.partition] = Owed(channel)
        owed.add(done.tag)
        if owed.last > owed.told:
            self._owing.set()
        if owed.last - owed.told >= OWED_DELIVERIES_MAX:
            self._full.set()

    async def settle(self, partition: Partition) -> None:
        """Acknowledges what is owed to the partition's queue. Nothing if that channel is gone."""
        owed = self._owed.get(partition)
        if owed is None or self._channels.get(partition) is not owed.channel or owed.channel.is_closed:
            return
        if owed.last > owed.told:
            owed.told = owed.last
            with contextlib.suppress(*amqp.LINK_FAULTS), amqp.cancelled_only_by_us():
                await owed.channel.basic_ack(owed.told, multiple=True, wait=False)

    async def run(self) -> None:
        """Settles until cancelled."""
        while True:
            await self._owing.wait()
            self._owing.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OWED_S_MAX):
                    await self._full.wait()
            self._full.clear()
            for partition in list(self._owed):
                await self.settle(partition)
