"""The gateway's dependencies: whether PostgreSQL and RabbitMQ are there and durable, and the other services go on."""

import asyncio
from collections.abc import Mapping
from dataclasses import field
from typing import Final

import structlog

from services.gateway.store.database import Database
from services.gateway.store.health import (
    is_read_only,
    missing_of_schema,
    read_durability,
    read_processes,
    read_served,
)
from services.gateway.usecases.probe import NoAnswer, Probe
from services.gateway.usecases.progress import partitions_missing, services_missing
from shared.database.durability import UNSAFE
from shared.domain.values import value
from shared.ledger_client.client import LedgerClient
from shared.messages import topology

log = structlog.get_logger()

# How commands are sent, and to which queues. The broker agrees to confirms when a channel opens. An AMQP client cannot
# read the type of a queue, but the broker refuses to declare an existing queue with another type.
BROKER_DURABILITY: Final = {
    "publisher_confirms": "on",
    "messages": "persistent",
    "command_queues": f"declared as {topology.PARTITION_QUEUE_ARGUMENTS['x-queue-type']}",
}


@value
class Finding:
    """State of one dependency. `why_not`: what is wrong, or None. `durability`: setting → value; empty if unknown."""

    why_not: str | None
    durability: Mapping[str, str] = field(default_factory=dict[str, str])


class Dependencies:
    """PostgreSQL and RabbitMQ, each asked at most once a second, however many requests want to know.

    PostgreSQL also tells how the partitions and the services of the mixer are.
    """

    def __init__(self, database: Database, broker: LedgerClient) -> None:
        self._database = database
        self._broker = broker
        self._probes = {"postgres": Probe(self._ask_postgres), "rabbitmq": Probe(self._ask_rabbitmq)}

    async def found(self) -> dict[str, Finding]:
        """Name of the dependency → finding, within ANSWER_S_MAX (2 s)."""
        findings = await asyncio.gather(*(self._found(name, probe) for name, probe in self._probes.items()))
        return {name: finding for found in findings for name, finding in found.items()}

    async def _found(self, name: str, probe: Probe[dict[str, Finding]]) -> dict[str, Finding]:
        if name == "rabbitmq" and not self._broker.is_ready():
            return {name: Finding("not connected, or it blocks publishers")}
        try:
            return await probe.found()
        except NoAnswer as fault:
            log.warning("dependency.silent", dependency=name, fault=str(fault))
            return {name: Finding("it does not answer")}

    async def _ask_postgres(self) -> dict[str, Finding]:
        durability = await read_durability(self._database)
        faults = [f"{name} is {value}" for name, value in durability.items() if value == UNSAFE]
        if (schema := await missing_of_schema(self._database)) is not None:
            faults.append(f"schema: {schema}")
            return {"postgres": Finding("; ".join(faults), durability)}
        if await is_read_only(self._database):
            faults.append("it is read-only")
        services = services_missing(await read_processes(self._database))
        return {
            "postgres": Finding("; ".join(faults) or None, durability),
            "partitions": Finding(partitions_missing(await read_served(self._database))),
            **{service: Finding(why) for service, why in services.items()},
        }

    async def _ask_rabbitmq(self) -> dict[str, Finding]:
        await self._broker.ping_broker()
        return {"rabbitmq": Finding(None, BROKER_DURABILITY)}
