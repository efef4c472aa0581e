"""The simulated network fails as ordered, and keeps exactly what it should whatever it tells."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.jobcoin import OK, Client, NetworkProcess, client_of, running
from tests.integration.jobcoin_faults import Instance, counts, until


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkProcess]:
    with running(tmp_path_factory.mktemp("jobcoin")) as network:
        yield network


@pytest.fixture
async def client(network: NetworkProcess) -> AsyncIterator[Client]:
    async with client_of(network) as client:
        yield client


@pytest.mark.parametrize(("fault", "status"), [("reset", 0), ("error", 503), ("error,status=429", 429)])
async def test_a_send_that_is_cut_off_before_it_is_looked_at_moves_nothing(
    client: Client, network: NetworkProcess, fault: str, status: int
) -> None:
    there = Instance(client, network, f"before-{status}")
    await there.script(f"{fault},call=send")
    assert await there.sent_blindly("bob") == status
    assert await there.balance("bob") == "0"
    assert await there.send("bob") == OK
    assert await there.balance("bob") == "1"
    assert await counts(network, there.name) == {(fault.partition(",")[0], "send"): 1}


@pytest.mark.parametrize(("fault", "status"), [("", 0), (",status=500", 500), (",status=408", 408)])
async def test_a_send_whose_answer_is_lost_was_applied_once(
    client: Client, network: NetworkProcess, fault: str, status: int
) -> None:
    there = Instance(client, network, f"lost-{status}")
    await there.script(f"applied_without_answer{fault}")
    assert await there.sent_blindly("bob") == status
    assert await there.balance("bob") == "1"
    assert await counts(network, there.name) == {("applied_without_answer", "send"): 1}


async def test_a_send_that_is_answered_without_being_applied_moves_nothing(
    client: Client, network: NetworkProcess
) -> None:
    there = Instance(client, network, "lie")
    await there.script("answered_without_applying")
    assert await there.send("bob") == OK
    assert await there.balance("bob") == "0"


@pytest.mark.parametrize(("fault", "status"), [("", 0), (",status=200", 200), (",status=504", 504)])
async def test_a_delayed_send_is_applied_later_with_the_time_of_that_moment(
    client: Client, network: NetworkProcess, fault: str, status: int
) -> None:
    there = Instance(client, network, f"late-{status}")
    await there.script(f"delayed_apply,seconds=0.4..0.5{fault}")
    assert await there.sent_blindly("late") == status
    assert await there.balance("late") == "0"
    assert await there.send("soon") == OK

    async def is_applied() -> bool:
        return await there.balance("late") == "1"

    await until(is_applied)
    assert [row["toAddress"] for row in await there.listed()][2:] == ["soon", "late"]


async def test_a_delayed_send_of_coins_that_are_gone_meanwhile_moves_nothing(
    client: Client, network: NetworkProcess
) -> None:
    there = Instance(client, network, "gone")
    await there.script("delayed_apply,seconds=0.2", "none", "delayed_apply,seconds=0")
    assert await there.sent_blindly("late") == 0
    assert await there.send("first", "37.5") == OK
    await asyncio.sleep(0.3)  # past the delay: nothing is to be seen of it
    assert (await there.balance("late"), await there.balance("first")) == ("0", "37.5")
    assert await there.sent_blindly("late") == 0
    assert await there.balance("late") == "0"


async def test_latency_delays_an_answer_and_changes_nothing(client: Client, network: NetworkProcess) -> None:
    there = Instance(client, network, "slow")
    await there.script("latency,seconds=0.3,call=send")
    started_s = time.monotonic()
    assert await there.send("bob") == OK
    assert time.monotonic() - started_s >= 0.3


async def test_a_list_with_rows_twice_missing_or_in_another_order_is_right_the_next_time(
    client: Client, network: NetworkProcess
) -> None:
    there = Instance(client, network, "rows")
    for number in range(8):
        await there.send(f"to-{number}")
    await there.script("duplicate_rows,call=list", "missing_rows,rows=3,call=list", "reordered_rows,call=list")
    twice, missing, swapped = [await there.listed() for _ in range(3)]
    true = await there.listed()
    assert [len(twice), len(missing), len(swapped), len(true)] == [11, 7, 10, 10]
    assert swapped != true
    for row in twice + missing + swapped:
        assert row in true
    await there.script("missing_rows,call=address")
    _, text = await client.get(f"{there.api}/addresses/to-1")
    assert text == '{"balance":"1","transactions":[]}'
    assert await counts(network, there.name) == {
        ("duplicate_rows", "list"): 1,
        ("missing_rows", "list"): 1,
        ("reordered_rows", "list"): 1,
        ("missing_rows", "address"): 1,
    }


async def test_a_list_that_is_not_the_true_one_has_no_tag_by_which_to_keep_it(
    client: Client, network: NetworkProcess
) -> None:
    there = Instance(client, network, "tags")
    await there.script("none", "missing_rows")
    tags: list[str | None] = []
    for _ in range(3):
        async with client.session.get(f"{there.api}/transactions") as response:
            tags.append(response.headers.get("ETag"))
    assert tags[0] == tags[2]
    assert tags[1] is None


async def test_a_fault_of_nothing_is_not_counted(client: Client, network: NetworkProcess) -> None:
    there = Instance(client, network, "nothing")
    await there.script("missing_rows,call=address")
    assert await there.balance("unused") == "0"
    assert await counts(network, there.name) == {}


async def test_a_clock_that_is_wrong_moves_every_timestamp_and_no_coin(client: Client, network: NetworkProcess) -> None:
    there = Instance(client, network, "clock")
    true = await there.listed()
    await there.script("clock_skew,seconds=-3600", "clock_skew,seconds=90,call=address")
    early, late = await there.listed(), json.loads((await client.get(f"{there.api}/addresses/Bob"))[1])["transactions"]
    assert [row | {"timestamp": ""} for row in early] == [row | {"timestamp": ""} for row in true]
    assert early[0]["timestamp"] < true[0]["timestamp"] < late[0]["timestamp"]
    assert await there.listed() == true


@pytest.mark.parametrize("kind", ["html", "large_body", "wrong_types"])
async def test_an_answer_that_cannot_be_read_hides_what_was_done(
    client: Client, network: NetworkProcess, kind: str
) -> None:
    there = Instance(client, network, f"odd-{kind.replace('_', '-')}")
    await there.script(f"{kind},call=send", f"{kind},call=list", f"{kind},call=address")
    fields = {"fromAddress": "Alice", "toAddress": "bob", "amount": "1"}
    async with client.session.post(f"{there.api}/transactions", data=fields) as response:
        spoilt = [await response.text()]
        assert response.status == 200
    spoilt += [(await client.get(f"{there.api}/{path}"))[1] for path in ("transactions", "addresses/bob")]
    if kind == "html":
        assert {text[:15] for text in spoilt} == {"<!DOCTYPE html>"}
    if kind == "large_body":
        assert min(map(len, spoilt)) > 1_000_000
    if kind == "wrong_types":
        assert json.loads(spoilt[0]) != {"status": "OK"}
        assert all(json.loads(text) is not ... for text in spoilt)
    assert await there.balance("bob") == "1"
    assert sum(int(str(count)) for count in (await counts(network, there.name)).values()) == 3


async def test_a_refused_connection_is_refused_by_the_port_and_comes_back(
    client: Client, network: NetworkProcess
) -> None:
    there = Instance(client, network, "refused")
    parts = urlsplit(network.url)
    await there.script("refused,seconds=0.5")
    assert await there.sent_blindly("bob") == 0

    async def connects() -> bool:
        try:
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        except ConnectionRefusedError:
            return False
        writer.close()
        return True

    async def is_refused() -> bool:
        return not await connects()

    await until(is_refused)
    await until(connects)
    assert await there.balance("bob") == "0"


async def test_what_was_applied_or_not_outlives_a_kill_in_the_midst_of_faults(tmp_path: Path) -> None:
    with running(tmp_path, signal.SIGKILL) as network:
        async with client_of(network) as client:
            there = Instance(client, network, "killed")
            await there.script(
                "applied_without_answer", "answered_without_applying", "delayed_apply,seconds=60", "missing_rows"
            )
            for to in ("lost", "lie", "late"):
                await there.sent_blindly(to)
            await there.listed()
            shown = await there.listed()
    with running(tmp_path) as network:
        async with client_of(network) as client:
            there = Instance(client, network, "killed")
            assert await there.listed() == shown
            assert [await there.balance(to) for to in ("lost", "lie", "late")] == ["1", "0", "0"]
