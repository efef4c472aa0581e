"""What is committed and not acknowledged yet: gathered, since nobody waits for it."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

from services.ledger_worker.ports import Inbound
from shared import amqp
from shared.ids import Partition

PREFETCH_ENVELOPES: Final = 32
# Each acknowledgement is a command to a quorum queue, with a write of its own to the disk. So those of so many seconds,
# or deliveries, go together; after a crash as many more come again, and are found decided.
OWED_S_MAX: Final = 0.1
OWED_DELIVERIES_MAX: Final = PREFETCH_ENVELOPES // 2


class Acknowledgements:
    """`channels` are those that are open, by partition."""

    def __init__(self, channels: Mapping[Partition, amqp.Channel]) -> None:
        self._channels = channels
        self._owed: dict[Partition, Inbound] = {}  # the last delivery that is committed and not acknowledged
        self._settled: dict[Partition, tuple[amqp.Channel, int]] = {}
        self._owing = asyncio.Event()

    async def owe(self, last: Inbound) -> None:
        """Acknowledges this delivery and all before it on its channel, within OWED_S_MAX."""
        self._owed[last.partition] = last
        channel, tag = self._settled.get(last.partition, (None, 0))
        if last.tag - (tag if channel is last.channel else 0) >= OWED_DELIVERIES_MAX:
            await self.settle(last.partition)
        else:
            self._owing.set()

    async def settle(self, partition: Partition) -> None:
        """Acknowledges what is owed to the partition's queue. Nothing if that channel is gone."""
        last = self._owed.pop(partition, None)
        channel = self._channels.get(partition)
        # A tag belongs to its channel: on another it would acknowledge what was not processed.
        if last is None or channel is None or channel is not last.channel or channel.is_closed:
            return
        with contextlib.suppress(*amqp.LINK_FAULTS), amqp.cancelled_only_by_us():
            await channel.basic_ack(last.tag, multiple=True, wait=False)
            self._settled[partition] = channel, last.tag

    async def run(self) -> None:
        """Settles until cancelled."""
        while True:
            await self._owing.wait()
            self._owing.clear()
            await asyncio.sleep(OWED_S_MAX)
            for partition in list(self._owed):
                await self.settle(partition)
