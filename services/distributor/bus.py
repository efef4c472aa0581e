"""Hears events, as nudges: which mixes were credited is read in the journal."""

from collections.abc import Callable, Sequence
from typing import Final

from services.distributor import metrics
from shared import amqp, topology
from shared.ids import Partition

EVENTS_MAX: Final = 100
# An account of a mix, as it stands in an event. Looking for it is cheaper than reading all events of a busy ledger.
A_MIX: Final = b'"mix:'


class EventBus:
    """An exclusive, bounded queue of events of every partition. What is lost is found at the next reading."""

    def __init__(self, url: str, name: str, partitions: int, nudged: Callable[[], None]) -> None:
        self._partitions = partitions
        self._nudged = nudged
        self._link = amqp.Link(url, name=f"{name}.events", opened=self._open)

    async def run(self) -> None:
        """Listens until cancelled."""
        await self._link.run()

    def is_ready(self) -> bool:
        """The link is open."""
        return self._link.connection is not None

    async def _open(self, connection: amqp.Connection) -> Sequence[amqp.Channel]:
        channel = await amqp.open_channel(connection, confirmed=False)
        declared = await channel.queue_declare(
            "", exclusive=True, auto_delete=True, arguments={"x-max-length": EVENTS_MAX}
        )
        if declared.queue is None:
            raise RuntimeError("the broker gave the event queue no name")
        for partition in range(self._partitions):
            await channel.queue_bind(declared.queue, topology.EVENTS, topology.partition_key(Partition(partition)))
        await channel.basic_consume(declared.queue, self._hear, no_ack=True)
        self._nudged()  # whatever happened while nobody listened
        return [channel]

    async def _hear(self, message: amqp.Delivery) -> None:
        if A_MIX in message.body:
            metrics.NUDGES.inc()
            self._nudged()
