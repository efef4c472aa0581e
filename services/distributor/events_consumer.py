"""Listens to events, which only say when to look: what mixes were credited is read in the journal."""

from collections.abc import Callable, Sequence
from typing import Final

from services.distributor import metrics
from shared.broker.channels import Channel, Connection, consume_exclusive_queue
from shared.broker.connection import ManagedConnection
from shared.messages import topology

EVENTS_MAX: Final = 100
# How an account of a mix begins in an event. Looking for it is cheaper than parsing all events of a busy ledger.
MIX_ACCOUNT: Final = b'"mix:'


class EventsConsumer:
    """Calls `on_mix` after events about mixes. It may miss some: the journal is read again without an event, too."""

    def __init__(self, url: str, name: str, partitions: int, *, on_mix: Callable[[], None]) -> None:
        self._partitions = partitions
        self._on_mix = on_mix
        self._connection = ManagedConnection(url, name=f"{name}.events", opened=self._open)

    async def run(self) -> None:
        """Listens until cancelled."""
        await self._connection.run()

    def is_ready(self) -> bool:
        """True while it is connected."""
        return self._connection.current is not None

    async def _open(self, connection: Connection) -> Sequence[Channel]:
        channel, queue = await consume_exclusive_queue(connection, self._receive, length_max=EVENTS_MAX)
        for key in topology.PARTITION_KEYS[: self._partitions]:
            await channel.queue_bind(queue, topology.EVENTS, key)
        self._on_mix()  # there may have been events while it was not connected
        return [channel]

    def _receive(self, body: bytes) -> None:
        if MIX_ACCOUNT in body:
            metrics.NUDGES.inc()
            self._on_mix()
