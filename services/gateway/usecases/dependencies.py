"""What the gateway stands on: whether PostgreSQL and RabbitMQ answer, and how durable they are set to be."""

import asyncio
from collections.abc import Mapping
from dataclasses import field
from typing import Final, Protocol

import structlog

from services.gateway.store.database import Database
from services.gateway.store.health import missing_of_schema, read_durability
from services.gateway.usecases.probe import NoAnswer, Probe
from shared.database.durability import UNSAFE
from shared.domain.values import value
from shared.messages import topology

log = structlog.get_logger()

# How commands are sent, and to which queues. The broker agrees to confirm when a link
# opens. What type a queue is an AMQP client cannot ask; but who declares it as another is refused.
BROKER_DURABILITY: Final = {
    "publisher_confirms": "on",
    "messages": "persistent",
    "command_queues": f"declared as {topology.PARTITION_QUEUE_ARGUMENTS['x-queue-type']}",
}


class Broker(Protocol):
    """What is asked of `shared.ledger_client.client.LedgerClient` here."""

    def is_ready(self) -> bool:
        """Whether the broker takes commands, as far as is known without asking."""
        ...

    async def ping_broker(self) -> None:
        """Returns once the broker has answered. Has no bound."""
        ...


@value
class Finding:
    """`why_not` None: all is as it must be. `durability`: settings as they were found; none when it is silent."""

    why_not: str | None
    durability: Mapping[str, str] = field(default_factory=dict[str, str])


class Dependencies:
    """Both, asked at most once a second however many want to know."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database = database
        self._broker = broker
        self._probes = {"postgres": Probe(self._ask_postgres), "rabbitmq": Probe(self._ask_rabbitmq)}

    async def found(self) -> dict[str, Finding]:
        """Each by its name, in 2 s at the latest."""
        findings = await asyncio.gather(*(self._found(name, probe) for name, probe in self._probes.items()))
        return dict(zip(self._probes, findings, strict=True))

    async def _found(self, name: str, probe: Probe[Finding]) -> Finding:
        if name == "rabbitmq" and not self._broker.is_ready():
            return Finding("not connected, or it blocks publishers")
        try:
            return await probe.found()
        except NoAnswer as fault:
            log.warning("dependency.silent", dependency=name, fault=str(fault))
            return Finding("it does not answer")

    async def _ask_postgres(self) -> Finding:
        durability = await read_durability(self._database)
        faults = [f"{name} is {value}" for name, value in durability.items() if value == UNSAFE]
        if (schema := await missing_of_schema(self._database)) is not None:
            faults.append(f"schema: {schema}")
        return Finding("; ".join(faults) or None, durability)

    async def _ask_rabbitmq(self) -> Finding:
        await self._broker.ping_broker()
        return Finding(None, BROKER_DURABILITY)
