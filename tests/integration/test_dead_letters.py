"""Dead letters are shown, sent back and ended over HTTP and on the command line, and nothing is lost on the way."""

import asyncio
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import cast

import aiormq
import pytest

from services.gateway.store.dead_letters import TURN
from services.gateway.usecases.dead_letters import command_ids
from shared.broker.channels import OutgoingMessage, publish
from shared.broker.dead_letters import (
    RETRIES_HEADER,
    dead_letter,
)
from shared.messages import topology
from tests.contract.conditions import eventually_async
from tests.integration.conftest import Served
from tests.integration.dead_letters import (
    BODY,
    PATH,
    QUEUE,
    add,
    channel_of,
    delivery,
    environment_of,
    listed,
    taken,
    tellerline,
    waiting,
)
from tests.integration.gateway import Client, Stack

Name = Callable[[str], str]
DEAD_LETTER_MAX_S = 20


@pytest.fixture
async def running(served: Served) -> Stack:
    """The stack that all tests share, without dead letters."""
    async with channel_of(served.stack.vhost) as channel:
        for queue in (topology.DEAD_LETTERS_QUEUE, QUEUE):
            await channel.queue_purge(queue)
    return served.stack


@pytest.fixture(scope="module")
def other(served: Served) -> Client:
    """Another gateway of the same ledger."""
    return served.stack.gateway()


async def test_looking_leaves_every_message_where_it_was_in_its_order(running: Stack, api: Client) -> None:
    identities = [await add(running.vhost, number) for number in (1, 2, 3)]
    for _ in range(2):
        assert await listed(api) == identities
        code, printed, _ = await tellerline(api, "list", "--json")
        assert (code, [each["id"] for each in json.loads(printed)]) == (0, identities)
    first = (await api.rows(PATH))[0]
    assert (first["reason"], first["exchange"], first["key"], first["kind"], first["bytes"]) == (
        *("reason 1", "mixer.cmd", "mix", "mix.v1"),
        len(BODY),
    )
    assert first["since"] == "2023-11-14T22:13:21.000000Z"
    assert set(cast("dict[str, str]", first["links"])) == {"self", "retry", "resolve"}
    assert (await api.call("GET", PATH)).headers["Tellerline-Position"]
    code, printed, _ = await tellerline(api, "list")
    assert (code, printed.splitlines()[-1]) == (0, "3 dead letters")
    assert await waiting(running.vhost) == 3


async def test_who_looks_at_the_same_time_as_others_sees_everything_too(running: Stack, api: Client) -> None:
    identities = [await add(running.vhost, number) for number in range(1, 6)]
    found = await asyncio.gather(*(listed(api) for _ in range(4)))
    assert found == [identities] * 4


async def test_a_message_is_shown_whole(running: Stack, api: Client) -> None:
    identity = await add(running.vhost)
    code, printed, _ = await tellerline(api, "show", "--id", identity)
    shown = json.loads(printed)
    assert (code, shown["body"], shown["headers"]["mac"]) == (0, {"v": 1, "commands": []}, "abc")
    assert (await api.get(f"{PATH}/{identity}"))["body"] == BODY.decode()
    assert (await api.call("GET", f"{PATH}/{'0' * 32}")).code == "not_found"
    assert await waiting(running.vhost) == 1


async def decision(running: Stack, identity: str) -> tuple[str, str, str]:
    """Kind, principal and metadata of the only decision about a message."""
    statement = "SELECT kind || '|' || principal || '|' || metadata FROM ledger.operations WHERE reference = $1"
    kind, principal, metadata = str(await running.execute(statement, identity)).split("|", 2)
    return kind, principal, metadata


async def test_a_retried_message_arrives_as_it_was_sent_and_the_journal_says_who_sent_it(
    running: Stack, api: Client
) -> None:
    other, identity = await add(running.vhost, 1), await add(running.vhost, 2)
    code, printed, errors = await tellerline(api, "retry", "--id", identity)
    assert (code, printed.splitlines()[-1]) == (0, "1 sent back"), errors
    assert await listed(api) == [other]
    message = await taken(running.vhost, QUEUE)
    properties = message.header.properties
    assert (message.body, properties.message_type, properties.reply_to) == (BODY, "mix.v1", "r")
    assert properties.headers == {"mac": "abc", "x-retries": 1}
    assert properties.delivery_mode == 2
    kind, principal, metadata = await decision(running, identity)
    assert (kind, principal, json.loads(metadata)["reason"]) == ("dead_letter.retry.v1", "admin", "reason 2")


async def test_all_are_retried_in_their_order_and_one_that_cannot_be_keeps_no_other(
    running: Stack, api: Client
) -> None:
    await add(running.vhost, 1)
    stays = await add(running.vhost, 2, key="p99")
    await add(running.vhost, 3)
    code, printed, errors = await tellerline(api, "retry", "--all")
    assert (code, printed.splitlines()[-1], "still a dead letter" in errors) == (1, "2 sent back", True)
    assert await waiting(running.vhost, QUEUE) == 2
    assert await listed(api) == [stays]


async def test_a_message_that_the_broker_set_aside_goes_back_to_its_queue(running: Stack, api: Client) -> None:
    async with channel_of(running.vhost) as channel:
        headers = {"mac": "abc"}
        await publish(channel, OutgoingMessage(topology.MIXER, topology.MIX_KEY, BODY, "mix.v1", headers=headers))
        message = await delivery(channel, QUEUE)
        await channel.basic_reject(message.delivery_tag or 0, requeue=False)
    deadline = time.monotonic() + DEAD_LETTER_MAX_S
    while not (found := await api.rows(PATH)):
        assert time.monotonic() < deadline, "the broker did not set it aside"
    assert (found[0]["reason"], found[0]["exchange"], found[0]["key"]) == ("rejected", "mixer.cmd", "mix")
    assert found[0]["since"]
    told = await api.call("POST", f"{PATH}/{found[0]['id']}/retry")
    assert told.status == 200, told
    properties = (await taken(running.vhost, QUEUE)).header.properties
    assert properties.headers is not None
    assert (properties.headers["mac"], properties.headers["x-retries"]) == ("abc", 1)
    assert await waiting(running.vhost) == 0


async def test_what_does_not_say_where_it_came_from_is_shown_and_ended_but_not_sent_back(
    running: Stack, api: Client
) -> None:
    async with channel_of(running.vhost) as channel:
        properties = aiormq.spec.Basic.Properties(message_id="a/b", delivery_mode=2)
        await channel.basic_publish(b"?", exchange="", routing_key=topology.DEAD_LETTERS_QUEUE, properties=properties)
    (found,) = await api.rows(PATH)
    links = cast("dict[str, str]", found["links"])
    assert set(links) == {"self", "resolve"}
    assert (await api.call("POST", f"{links['self']}/retry")).code == "forbidden"
    assert (await api.post(links["resolve"], {"reason": "foreign"})).status == 200
    assert await listed(api) == []


async def test_what_the_broker_does_not_take_stays_and_the_same_request_again_finishes_it(
    running: Stack, api: Client, name: Name
) -> None:
    identity = await add(running.vhost, key="later")
    path, key = f"{PATH}/{identity}/retry", name("key")
    refused = await api.post(path, {}, key=key)
    assert (refused.status, refused.code, "still a dead letter" in refused.text) == (503, "unavailable", True)
    assert await listed(api) == [identity]
    async with channel_of(running.vhost) as channel:
        await channel.queue_bind(QUEUE, topology.MIXER, routing_key="later")
    sent = await api.post(path, {}, key=key)
    assert (sent.status, sent.replayed) == (200, True), sent
    assert (await listed(api), await waiting(running.vhost, QUEUE)) == ([], 1)


async def test_a_retry_is_not_told_as_done_while_another_gateway_holds_the_message(
    running: Stack, api: Client, name: Name
) -> None:
    identity = await add(running.vhost, key="held")
    path, key = f"{PATH}/{identity}/retry", name("key")
    assert (await api.post(path, {}, key=key)).status == 503
    async with channel_of(running.vhost) as channel:
        await channel.queue_bind(QUEUE, topology.MIXER, routing_key="held")
    async with channel_of(running.vhost) as other:
        await other.queue_declare(TURN, exclusive=True)
        await other.basic_get(topology.DEAD_LETTERS_QUEUE, no_ack=False)
        told = await api.post(path, {}, key=key)
        assert (told.status, "still a dead letter" in told.text) == (503, True), told
    assert (await api.post(path, {}, key=key)).status == 200
    assert (await listed(api), await waiting(running.vhost, QUEUE)) == ([], 1)


async def test_two_operators_at_once_send_a_message_back_once(running: Stack, api: Client, other: Client) -> None:
    identity = await add(running.vhost)
    told = await asyncio.gather(*(each.call("POST", f"{PATH}/{identity}/retry") for each in (api, other) * 3))
    assert {each.status for each in told} <= {200, 404}
    assert sorted(each.status for each in told) == [200, *[404] * 5]
    assert (await waiting(running.vhost), await waiting(running.vhost, QUEUE)) == (0, 1)


async def test_a_dropped_message_is_printed_and_the_journal_keeps_who_dropped_it_and_why(
    running: Stack, api: Client
) -> None:
    kept, identity = await add(running.vhost, 1), await add(running.vhost, 2)
    code, printed, errors = await tellerline(api, "drop", "--id", identity, "--reason", "a test of ours")
    assert code == 0, errors
    said = json.loads(printed)
    assert (said["why"], said["dropped"]["body"]) == ("a test of ours", {"v": 1, "commands": []})
    assert await listed(api) == [kept]
    kind, principal, metadata = await decision(running, identity)
    assert (kind, principal, json.loads(metadata)["why"]) == ("dead_letter.resolve.v1", "admin", "a test of ours")


async def test_a_decision_is_told_again_to_who_repeats_it_with_its_key(running: Stack, api: Client, name: Name) -> None:
    identity = await add(running.vhost)
    path, body, key = f"{PATH}/{identity}/resolve", {"reason": "sent twice"}, name("key")
    first, again = await api.post(path, body, key=key), await api.post(path, body, key=key)
    assert (first.status, again.status, first.replayed, again.replayed) == (200, 200, False, True)
    assert first.text == again.text
    assert (first.body["decision"], first.body["why"], first.body["id"]) == ("resolve", "sent twice", identity)
    operation = await api.get(cast("dict[str, str]", first.body["links"])["operation"])
    assert (operation["kind"], operation["status"]) == ("dead_letter.resolve", "posted")
    assert (await api.post(path, {"reason": "other"}, key=key)).code == "idempotency_key_reused"
    assert (await api.post(path, body)).code == "not_found"


async def test_nothing_is_dropped_without_a_reason_or_by_an_id_that_is_not_one_message_s(
    running: Stack, api: Client
) -> None:
    identity = await add(running.vhost, 1)
    await add(running.vhost, 2)
    assert (await api.post(f"{PATH}/{identity}/resolve", {})).code == "invalid_request"
    assert (await tellerline(api, "drop", "--id", identity))[0] == 2
    assert (await tellerline(api, "drop", "--id", identity, "--reason", " "))[0] == 2
    for wanted, why in (("00000000", "2 dead letters have an id"), ("f" * 32, "0 dead letters"), ("abc", "too short")):
        code, _, errors = await tellerline(api, "resolve", "--id", wanted, "--reason", "x")
        assert (code, why in errors) == (1, True), errors
    assert (await tellerline(api, "retry"))[0] == 2
    assert await waiting(running.vhost) == 2


async def test_a_gateway_that_cannot_be_reached_is_said_so() -> None:
    code, _, errors = await tellerline(Client("http://127.0.0.1:1"), "list")
    assert (code, "no answer" in errors) == (2, True)


def test_a_message_that_comes_back_after_a_retry_says_how_often_it_was_sent_back() -> None:
    again = dead_letter(
        BODY, kind="cmd.v1", reason="again", exchange="ledger.cmd", key="p02", reply_to=None, mac="abc", retries=2
    )
    assert again.headers is not None
    assert again.headers[RETRIES_HEADER] == 2


async def test_a_retry_says_what_became_of_the_commands_and_when(running: Stack, api: Client, name: Name) -> None:
    """Also of what was decided long ago, and that is not told as if the retry had done it."""
    account = await api.account(name("acc"), funds="1")
    drawn = {"account": account, "amount": "1", "asset": "USD"}
    posted, refused = [await api.post("/v1/withdrawals", drawn) for _ in range(2)]
    assert refused.code == "insufficient_funds"
    ids = [posted.headers["Operation-Id"], refused.headers["Operation-Id"], str(uuid.uuid4())]
    body = json.dumps({"v": 1, "commands": [{"id": identity} for identity in ids]}).encode()
    assert command_ids(body) == ids
    assert command_ids(b"[1]") == command_ids(b"\xff") == command_ids(b'{"commands": [1]}') == []
    identity = await add(running.vhost, body=body)
    told = await api.post(f"{PATH}/{identity}/retry", {}, prefer="wait=0")
    commands = cast("list[dict[str, object]]", told.body["commands"])
    assert [(each["id"], each["status"], each["code"]) for each in commands] == [
        (ids[0], "posted", None),
        (ids[1], "rejected", "insufficient_funds"),
        (ids[2], "pending", None),
    ]
    assert str(commands[0]["recorded_at"]) < str(told.body["recorded_at"])
    identity = await add(running.vhost, 2, body=body)
    code, printed, _ = await tellerline(api, "retry", "--id", identity)
    assert code == 0
    assert f"{ids[0]} was already posted, at 20" in printed
    assert f"{ids[1]} was already rejected insufficient_funds, at 20" in printed
    assert f"{ids[2]} has no outcome yet: ask /v1/operations/{ids[2]}" in printed


async def test_who_retries_everything_holds_nothing_back_from_others_meanwhile(running: Stack, api: Client) -> None:
    undecided = json.dumps({"commands": [{"id": str(uuid.uuid4())}]}).encode()
    await add(running.vhost, 1, body=undecided)
    last = await add(running.vhost, 2, body=undecided)
    command = [sys.executable, "-m", "tellerline", "dead-letters", "retry", "--all"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment_of(api)) as retrying:

        async def first_is_gone() -> bool:
            return await listed(api) == [last]

        await eventually_async(first_is_gone)
        assert retrying.poll() is None  # it waits for the first one's outcome
        retrying.kill()
