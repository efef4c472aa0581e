"""`tellerline dead-letters` shows, sends back and drops what no service could process, and loses nothing on the way."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiormq
import pytest
from aiormq.abc import DeliveredMessage

from shared.broker.channels import Channel, OutgoingMessage, Unroutable, open_channel, publish
from shared.broker.dead_letters import (
    EXCHANGE_HEADER,
    ID_HEADER,
    KEY_HEADER,
    REASON_HEADER,
    RETRIES_HEADER,
    SINCE_HEADER,
    dead_letter,
)
from shared.domain.ids import Partition
from shared.messages import topology
from tellerline.command_outcomes import command_ids, outcome_lines, read_outcomes
from tellerline.dead_letter_queue import DeadLetterQueue
from tellerline.verification.store.snapshot import snapshot
from tests.backends.databases import Database
from tests.journal_scenario import Scenario
from tests.journal_writer import JournalWriter

QUEUE = topology.partition_queue(Partition(2))
BODY = b'{"v":1,"commands":[]}'
DEAD_LETTER_MAX_S = 20
DELIVERY_MAX_S = 10


def tellerline(broker: str, *arguments: str) -> tuple[int, str, str]:
    """The command line as a shell runs it: exit code, output, errors."""
    ended = subprocess.run(
        [sys.executable, "-m", "tellerline", "dead-letters", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"TELLERLINE_AMQP_URL": broker},
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


@asynccontextmanager
async def channel_of(broker: str) -> AsyncGenerator[Channel]:
    connection = await aiormq.connect(broker)
    try:
        yield await open_channel(connection, confirmed=True)
    finally:
        await connection.close()


def add(broker: str, number: int = 1, *, key: str = "p02") -> str:
    """A dead letter as a worker publishes it; its id."""
    identity = f"{number:032x}"
    headers: Mapping[str, str | int] = {
        ID_HEADER: identity,
        REASON_HEADER: f"reason {number}",
        SINCE_HEADER: 1_700_000_000 + number,
        EXCHANGE_HEADER: topology.COMMANDS,
        KEY_HEADER: key,
        "mac": "abc",
    }

    async def send() -> None:
        async with channel_of(broker) as channel:
            exchange, routing_key = topology.DEAD_LETTERS, topology.DEAD_LETTERS_KEY
            await publish(
                channel, OutgoingMessage(exchange, routing_key, BODY, "cmd.v1", reply_to="r", headers=headers)
            )

    asyncio.run(send())
    return identity


def waiting(broker: str, queue: str = topology.DEAD_LETTERS_QUEUE) -> int:
    async def count() -> int:
        async with channel_of(broker) as channel:
            return (await channel.queue_declare(queue, passive=True)).message_count or 0

    return asyncio.run(count())


async def delivery(channel: Channel, queue: str) -> DeliveredMessage:
    """The head of a queue with a single active consumer, which does not answer `basic.get`."""
    came: asyncio.Future[DeliveredMessage] = asyncio.get_running_loop().create_future()

    async def take(message: DeliveredMessage) -> None:
        if not came.done():
            came.set_result(message)

    await channel.basic_qos(prefetch_count=1)
    await channel.basic_consume(queue, take)
    return await asyncio.wait_for(came, DELIVERY_MAX_S)


def taken(broker: str, queue: str) -> DeliveredMessage:
    async def take() -> DeliveredMessage:
        async with channel_of(broker) as channel:
            return await delivery(channel, queue)

    return asyncio.run(take())


def listed(broker: str) -> list[dict[str, object]]:
    code, printed, _ = tellerline(broker, "list", "--json")
    assert code == 0
    return json.loads(printed)


def test_looking_leaves_every_message_where_it_was_in_its_order(broker: str) -> None:
    identities = [add(broker, number) for number in (1, 2, 3)]
    for _ in range(2):
        assert [message["id"] for message in listed(broker)] == identities
    first = listed(broker)[0]
    assert (first["reason"], first["exchange"], first["key"], first["kind"]) == (
        "reason 1",
        "ledger.cmd",
        "p02",
        "cmd.v1",
    )
    assert first["since"] == "2023-11-14T22:13:21+00:00"
    code, printed, _ = tellerline(broker, "list")
    assert (code, printed.splitlines()[-1]) == (0, "3 dead letters")
    assert waiting(broker) == 3


def test_a_message_is_shown_whole(broker: str) -> None:
    identity = add(broker)
    code, printed, _ = tellerline(broker, "show", "--id", identity)
    shown = json.loads(printed)
    assert (code, shown["body"], shown["headers"]["mac"]) == (0, {"v": 1, "commands": []}, "abc")
    assert waiting(broker) == 1


def test_a_retried_message_arrives_as_it_was_sent_with_the_number_of_the_retry(broker: str) -> None:
    other, identity = add(broker, 1), add(broker, 2)
    code, printed, errors = tellerline(broker, "retry", "--id", identity)
    assert (code, printed.splitlines()[-1]) == (0, "1 sent back"), errors
    assert [message["id"] for message in listed(broker)] == [other]
    message = taken(broker, QUEUE)
    properties = message.header.properties
    assert (message.body, properties.message_type, properties.reply_to) == (BODY, "cmd.v1", "r")
    assert properties.headers == {"mac": "abc", "x-retries": 1}
    assert properties.delivery_mode == 2


def test_all_are_retried_in_their_order(broker: str) -> None:
    for number in (1, 2, 3):
        add(broker, number)
    code, printed, _ = tellerline(broker, "retry", "--all")
    assert (code, printed.splitlines()[-1]) == (0, "3 sent back")
    assert (waiting(broker), waiting(broker, QUEUE)) == (0, 3)


def test_a_message_that_the_broker_set_aside_goes_back_to_its_queue(broker: str) -> None:
    async def refuse() -> None:
        async with channel_of(broker) as channel:
            await publish(channel, OutgoingMessage(topology.COMMANDS, "p02", BODY, "cmd.v1", headers={"mac": "abc"}))
            message = await delivery(channel, QUEUE)
            await channel.basic_reject(message.delivery_tag or 0, requeue=False)

    asyncio.run(refuse())
    deadline = time.monotonic() + DEAD_LETTER_MAX_S
    while waiting(broker) == 0:
        assert time.monotonic() < deadline, "the broker did not set it aside"
    (message,) = listed(broker)
    assert (message["reason"], message["exchange"], message["key"]) == ("rejected", "ledger.cmd", "p02")
    assert message["since"]
    code, _, errors = tellerline(broker, "retry", "--id", str(message["id"]))
    assert code == 0, errors
    properties = taken(broker, QUEUE).header.properties
    assert properties.headers is not None
    assert (properties.headers["mac"], properties.headers["x-retries"]) == ("abc", 1)
    assert waiting(broker) == 0


def test_what_the_broker_does_not_take_stays_a_dead_letter(broker: str) -> None:
    identity = add(broker, key="p99")
    code, _, errors = tellerline(broker, "retry", "--id", identity)
    assert (code, "still a dead letter" in errors) == (1, True)
    assert [message["id"] for message in listed(broker)] == [identity]


class CutOff(Exception):
    """The operator's machine is gone."""


async def retry_the_only_one(broker: str, *, cut_off: bool) -> None:
    async with channel_of(broker) as channel, channel_of(broker) as confirmed:
        queue = DeadLetterQueue(channel, confirmed)
        (message,) = await queue.messages()
        if cut_off:

            async def gone(*_: object, **__: object) -> None:
                raise CutOff

            channel.basic_ack = gone
        await queue.retry(message)


async def test_whoever_is_cut_off_between_confirm_and_acknowledgement_leaves_it_twice_and_never_loses_it(
    broker: str,
) -> None:
    await asyncio.to_thread(add, broker)
    with pytest.raises(CutOff):
        await retry_the_only_one(broker, cut_off=True)
    assert await asyncio.to_thread(waiting, broker) == 1
    assert await asyncio.to_thread(waiting, broker, QUEUE) == 1


async def test_a_refused_retry_raises_and_acknowledges_nothing(broker: str) -> None:
    await asyncio.to_thread(add, broker, key="p77")
    with pytest.raises(Unroutable):
        await retry_the_only_one(broker, cut_off=False)
    assert await asyncio.to_thread(waiting, broker) == 1


def test_a_dropped_message_is_printed_with_its_reason_and_gone(broker: str) -> None:
    kept, identity = add(broker, 1), add(broker, 2)
    code, printed, _ = tellerline(broker, "drop", "--id", identity, "--reason", "a test of ours")
    said = json.loads(printed)
    assert (code, said["why"], said["dropped"]["body"]) == (0, "a test of ours", {"v": 1, "commands": []})
    assert [message["id"] for message in listed(broker)] == [kept]


def test_nothing_is_dropped_without_a_reason_or_by_an_id_that_is_not_one_message_s(broker: str) -> None:
    add(broker, 1)
    add(broker, 2)
    assert tellerline(broker, "drop", "--id", "0" * 31 + "1")[0] == 2
    assert tellerline(broker, "drop", "--id", "0" * 31 + "1", "--reason", " ")[0] == 2
    for wanted, why in (("00000000", "2 dead letters have an id"), ("f" * 32, "0 dead letters"), ("abc", "too short")):
        code, _, errors = tellerline(broker, "drop", "--id", wanted, "--reason", "x")
        assert (code, why in errors) == (1, True), errors
    assert tellerline(broker, "retry")[0] == 2
    assert waiting(broker) == 2


def test_a_broker_that_cannot_be_reached_is_said_so(tmp_path: Path) -> None:
    code, _, errors = tellerline("amqp://nobody:x@127.0.0.1:1/", "list")
    assert (code, "cannot be reached" in errors) == (2, True)


def test_a_message_that_comes_back_after_a_retry_says_how_often_it_was_sent_back() -> None:
    again = dead_letter(
        BODY, kind="cmd.v1", reason="again", exchange="ledger.cmd", key="p02", reply_to=None, mac="abc", retries=2
    )
    assert again.headers is not None
    assert again.headers[RETRIES_HEADER] == 2


async def test_a_retry_says_what_became_of_the_commands_and_when(broker: str, database: Database) -> None:
    """Also of what was decided long ago, and that is not told as if the retry had done it."""
    scenario = Scenario()
    make = scenario.commands
    posted, refused = make.transfer(scenario.alice, scenario.bob, 1), make.transfer(scenario.bob, scenario.alice, 10**9)
    never = make.transfer(scenario.alice, scenario.bob, 2)
    async with JournalWriter(database) as writer:
        await scenario.write(writer)
        await writer.write(posted, refused)
    ids = [posted.id, refused.id, never.id]
    body = json.dumps({"v": 1, "commands": [{"id": identity} for identity in ids]}).encode()
    assert command_ids(body) == ids
    assert command_ids(b"[1]") == command_ids(b"\xff") == command_ids(b'{"commands": [1]}') == []
    async with snapshot(database.verify) as connection:
        outcomes = await read_outcomes(connection, ids)
    lines = list(outcome_lines(ids, {posted.id: outcomes[posted.id]}, outcomes))
    assert lines[0].startswith(f"{posted.id} was already posted, at 20")
    assert lines[1].startswith(f"{refused.id} is now rejected insufficient_funds, at 20")
    assert lines[2] == f"{never.id} has no outcome yet: ask /v1/operations/{never.id}"


async def test_a_retry_reads_the_journal_of_the_running_stack(broker: str, database: Database) -> None:
    identity = await asyncio.to_thread(add, broker)
    arguments = ("retry", "--id", identity, "--database-url", database.gateway)
    code, printed, errors = await asyncio.to_thread(tellerline, broker, *arguments)
    assert (code, printed.splitlines()[-1], errors) == (0, "1 sent back", "")
