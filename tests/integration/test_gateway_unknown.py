"""What a gateway answers when the broker or the replies fail it. The ledger client is a double; the journal is real."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import pytest
from pydantic import SecretStr

from services.gateway.app import assemble, missing, serving
from services.gateway.settings import GatewaySettings
from services.gateway.store.database import Database
from shared.broker.channels import NotPublished, PublishFailed, PublishUnknown, QueueFull, Unroutable
from shared.database import postgres
from shared.domain.ids import Partition
from shared.ledger_client.client import LedgerClient
from shared.ledger_client.pending import CommandResult, PendingCommand
from shared.messages import Command, MixCreate, Outcome
from shared.runtime.service import serve_metrics
from tests.integration.conftest import Served
from tests.integration.gateway import ADMIN_KEY, SECRET, Client

Name = Callable[[str], str]


@dataclass(slots=True)
class Deaf:
    """Commands arrive, but what is heard of them is up to the test."""

    client: LedgerClient
    heard: Callable[[CommandResult], CommandResult | None]
    fault: PublishFailed | None = None
    arrives: bool = True
    partitions: int = 4
    envelopes_confirmed: int = 0
    outcomes_unmatched: int = 0
    commands_pending: int = 0

    def is_ready(self) -> bool:
        return self.client.is_ready()

    async def ping_broker(self) -> None:
        await self.client.ping_broker()

    def is_pending(self, command: Command | MixCreate) -> bool:
        return self.client.is_pending(command)

    def send(self, command: Command, partition: Partition) -> PendingCommand:
        return self.client.send(command, partition) if self.arrives else PendingCommand(command)

    def send_order(self, order: MixCreate) -> PendingCommand:
        return self.client.send_order(order)

    async def result(self, pending: PendingCommand, timeout_s: float) -> CommandResult | None:
        if not self.arrives:
            pending.fault = self.fault
        result = await self.client.result(pending, timeout_s)
        if self.fault is not None:
            raise self.fault
        return None if result is None else self.heard(result)


@asynccontextmanager
async def gateway(
    served: Served,
    heard: Callable[[CommandResult], CommandResult | None],
    fault: PublishFailed | None = None,
    *,
    arrives: bool = True,
) -> AsyncGenerator[Client]:
    """A gateway in this process, on the ledger of all."""
    stack = served.stack
    settings = GatewaySettings(
        database_url=SecretStr(stack.database.gateway),
        amqp_url=SecretStr(stack.vhost),
        secret=SecretStr(SECRET),
        admin_key=SecretStr(ADMIN_KEY),
        port=0,
    )
    client = LedgerClient(stack.vhost, partitions=4, secret=SECRET, name="test")
    async with (
        await postgres.open_pool(stack.database.gateway, application="tests") as pool,
        asyncio.TaskGroup() as group,
    ):
        running = group.create_task(client.run())
        while not client.is_ready():
            await asyncio.sleep(0.01)
        deaf = cast("LedgerClient", Deaf(client, heard, fault, arrives))
        parts = assemble(settings, Database(pool), Database(pool), deaf)
        keys = group.create_task(parts.server.keys.run())
        outcomes = group.create_task(parts.state.outcomes.run())
        inner = await serve_metrics("127.0.0.1", 0, partial(missing, parts.state), text=parts.state.metrics.text)
        async with serving(parts) as address:
            host, port = inner.addresses[0][:2]
            yield Client(f"http://{address}", inner=f"http://{host}:{port}")
        await inner.cleanup()
        running.cancel()
        keys.cancel()
        outcomes.cancel()


async def pair(api: Client, name: Name, number: int = 0) -> dict[str, object]:
    """A transfer between two new accounts."""
    source, destination = await api.account(name("a"), funds="5"), await api.account(name(f"b{number}"))
    return {"source": source, "destination": destination, "amount": "1", "asset": "USD"}


@pytest.mark.parametrize("number", range(6))
async def test_a_lost_reply_is_found_in_the_journal(served: Served, name: Name, number: int) -> None:
    body = await pair(served.client, name, number)
    async with gateway(served, lambda _: None) as deaf:
        told = await deaf.post("/v1/transfers", body, key=name("key"))
        assert (told.status, told.replayed) == (201, False)
        assert told.body["status"] == "posted"
        assert (await deaf.post("/v1/transfers", {**body, "amount": "50"})).code == "insufficient_funds"
        assert "tellerline_gateway_resolved_total 2.0" in await deaf.metrics()


@pytest.mark.parametrize("number", range(6))
async def test_an_unheard_settlement_is_looked_up_before_it_is_denied(served: Served, name: Name, number: int) -> None:
    body = await pair(served.client, name, number)
    async with gateway(served, lambda answer: CommandResult(answer.outcome)) as deaf:
        told = await deaf.post("/v1/transfers", body)
    assert (told.status, told.body["settled"]) == (201, True)
    assert told.body["balances"] == {body["source"]: "4", body["destination"]: "1"}


async def test_an_outcome_that_a_repeat_had_already_is_read_whole(served: Served, name: Name) -> None:
    body, key = await pair(served.client, name), name("key")
    first = await served.client.post("/v1/transfers", body, key=key)

    def replayed(answer: CommandResult) -> CommandResult:
        facts = answer.outcome
        return CommandResult(Outcome(id=facts.id, fingerprint=facts.fingerprint, status="posted", replayed=True))

    async with gateway(served, replayed) as other:
        again = await other.post("/v1/transfers", body, key=key)
    assert (again.text, again.replayed) == (first.text, True)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (NotPublished("x"), 503, "unavailable"),
        (Unroutable("x"), 503, "unavailable"),
        (QueueFull("x"), 503, "overloaded"),
    ],
)
async def test_what_the_broker_did_not_confirm_is_answered_as_what_it_is(
    served: Served, name: Name, fault: PublishFailed, status: int, code: str
) -> None:
    body = await pair(served.client, name)
    async with gateway(served, lambda answer: answer, fault) as cut:
        told = await cut.post("/v1/transfers", body, key=name("key"))
    assert (told.status, told.code) == (status, code)
    assert told.headers["Retry-After"] == "1"
    assert "Operation-Id" not in told.headers


@pytest.mark.parametrize("wait_s", [1, 6])
async def test_what_nobody_knows_is_not_failed_and_a_repeat_ends_it(served: Served, name: Name, wait_s: int) -> None:
    body, key = await pair(served.client, name), name("key")
    async with gateway(served, lambda answer: answer, PublishUnknown("x"), arrives=False) as cut:
        told = await cut.post("/v1/transfers", body, key=key, prefer=f"wait={wait_s}")
    assert (told.status, told.code) == (504, "outcome_unknown")
    operation = await served.client.get(told.headers["Location"])
    assert (operation["id"], operation["status"]) == (told.headers["Operation-Id"], "pending")
    assert (await served.client.post("/v1/transfers", body, key=key)).status == 201


async def test_what_nobody_confirmed_and_the_journal_holds_is_answered(served: Served, name: Name) -> None:
    body = await pair(served.client, name)
    async with gateway(served, lambda answer: answer, PublishUnknown("x")) as cut:
        told = await cut.post("/v1/transfers", body, key=name("key"))
    assert (told.status, told.body["settled"]) == (201, True)


async def test_a_repeat_of_a_decided_command_is_answered_by_the_journal_and_not_sent_again(
    served: Served, name: Name
) -> None:
    body, asset = await pair(served.client, name), {"asset": "USD"}
    key, refused, opened = name("key"), name("refused"), name("opened")
    results: list[CommandResult] = []

    def counted(answer: CommandResult) -> CommandResult:
        results.append(answer)
        return answer

    async with gateway(served, counted) as api:
        first = await api.post("/v1/transfers", body, key=key)
        no = await api.post("/v1/transfers", {**body, "amount": "50"}, key=refused)
        made = await api.post("/v1/accounts", asset, key=opened)
        assert len(results) == 3
        for _ in range(2):
            again = await api.post("/v1/transfers", body, key=key)
            assert (again.status, again.text, again.replayed) == (201, first.text, True)
            again = await api.post("/v1/transfers", {**body, "amount": "50.0"}, key=refused)
            assert (again.code, again.replayed) == ("insufficient_funds", True)
            assert (again.body["available"], again.body["required"]) == (no.body["available"], no.body["required"])
            again = await api.post("/v1/accounts", asset, key=opened)
            assert (again.status, again.text, again.replayed) == (201, made.text, True)
            other = await api.post("/v1/transfers", {**body, "amount": "2"}, key=key)
            assert (other.code, other.replayed) == ("idempotency_key_reused", False)
        assert "tellerline_gateway_replays_total 6.0" in await api.metrics()
    assert len(results) == 3
