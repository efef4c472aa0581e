"""Readiness asks each dependency once a second, and reports settings that were found."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pytest

from services.gateway.store.database import Database, DatabaseUnavailable
from services.gateway.store.health import PartitionFacts, ProcessFacts
from services.gateway.usecases import dependencies
from services.gateway.usecases.dependencies import BROKER_DURABILITY, Dependencies, Finding
from shared.broker.channels import NotPublished, OutgoingMessage
from shared.ledger_client.client import LedgerClient
from shared.messages import topology

ON = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
SERVED = PartitionFacts(0, "w", 1.0, None)


@dataclass(slots=True)
class Double:
    """The broker and what is read of the database."""

    ready: bool = True
    asked: int = 0
    fault: Exception | None = None
    settings: Sequence[tuple[str, str]] = tuple(ON.items())
    schema: str | None = None
    read_only: bool = False
    partition: PartitionFacts = SERVED

    def is_ready(self) -> bool:
        return self.ready

    async def ping_broker(self) -> None:
        self.asked += 1
        if isinstance(self.fault, NotPublished):
            raise self.fault

    async def read_durability(self, _: Database) -> dict[str, str]:
        self.asked += 1
        if isinstance(self.fault, DatabaseUnavailable):
            raise self.fault
        return dict(self.settings)

    async def missing_of_schema(self, _: Database) -> str | None:
        return self.schema

    async def is_read_only(self, _: Database) -> bool:
        return self.read_only

    async def read_served(self, _: Database) -> list[PartitionFacts]:
        return [self.partition]

    async def read_processes(self, _: Database) -> list[ProcessFacts]:
        return [ProcessFacts("distributor", 1.0, {})]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Double:
    made = Double()
    for name in ("read_durability", "missing_of_schema", "is_read_only", "read_served", "read_processes"):
        monkeypatch.setattr(dependencies, name, getattr(made, name))
    return made


def of(double: Double) -> Dependencies:
    return Dependencies(cast("Database", None), cast("LedgerClient", double))


async def test_however_many_ask_each_dependency_is_asked_once(double: Double) -> None:
    asking = of(double)
    findings = await asyncio.gather(*(asking.found() for _ in range(100)))
    assert findings[0] == {
        "postgres": Finding(None, ON),
        "partitions": Finding(None),
        "distributor": Finding(None),
        "rabbitmq": Finding(None, BROKER_DURABILITY),
    }
    assert double.asked == 2


async def test_what_is_wrong_with_a_database_that_answers_is_named_with_what_was_found(double: Double) -> None:
    double.settings, double.schema = [("fsync", "off"), ("synchronous_commit", "local")], "version 1"
    found = (await of(double).found())["postgres"]
    assert found == Finding("fsync is off; schema: version 1", {"fsync": "off", "synchronous_commit": "local"})


async def test_a_database_that_takes_no_writes_and_a_partition_without_a_worker_are_named(double: Double) -> None:
    double.read_only, double.partition = True, PartitionFacts(0, None, None, None)
    found = await of(double).found()
    assert found["postgres"] == Finding("it is read-only", ON)
    assert found["partitions"] == Finding("0: no worker owns it")


@pytest.mark.parametrize(
    ("fault", "name"), [(NotPublished("to amqp://secret"), "rabbitmq"), (DatabaseUnavailable("secret"), "postgres")]
)
async def test_of_a_silent_dependency_nothing_is_claimed(double: Double, fault: Exception, name: str) -> None:
    double.fault = fault
    found = await of(double).found()
    assert found[name] == Finding("it does not answer", {})
    assert [dependency for dependency, each in found.items() if each.why_not is not None] == [name]
    assert ("partitions" in found) == (name != "postgres")


async def test_a_broker_that_is_known_to_be_away_is_not_asked(double: Double) -> None:
    double.ready = False
    assert (await of(double).found())["rabbitmq"] == Finding("not connected, or it blocks publishers", {})
    assert double.asked == 1


def test_what_is_said_of_the_broker_is_what_is_sent_and_declared() -> None:
    persistent = 2
    assert OutgoingMessage("", "", b"", "").properties().delivery_mode == persistent
    assert topology.PARTITION_QUEUE_ARGUMENTS["x-queue-type"] == "quorum"
    assert BROKER_DURABILITY["command_queues"] == "declared as quorum"
