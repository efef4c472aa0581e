"""How faults of the simulated network are ordered, listed, counted and ended."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from click.testing import CliRunner

from tellerline.cli import main
from tests.integration.jobcoin import OK, Client, NetworkProcess, client_of, running
from tests.integration.jobcoin_faults import Instance, counts, faults, ordered


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkProcess]:
    with running(tmp_path_factory.mktemp("jobcoin")) as network:
        yield network


@pytest.fixture
async def client(network: NetworkProcess) -> AsyncIterator[Client]:
    async with client_of(network) as client:
        yield client


async def test_rates_hit_their_share_of_the_calls_of_their_instance_alone_and_a_seed_decides_which(
    client: Client, network: NetworkProcess
) -> None:
    there, beside = Instance(client, network, "rated"), Instance(client, network, "beside")
    runs: list[list[int]] = []
    for _ in range(2):
        await ordered(
            network, there.name, "set", "applied_without_answer=0.2,status=500", "error=0.1,call=send", "--seed=7"
        )
        runs.append([await there.sent_blindly("bob", "0.01") for _ in range(100)])
        assert await beside.send("bob", "0.01") == OK
    assert runs[0] == runs[1]
    lost, failed = runs[0].count(500) * 2, runs[0].count(503) * 2
    assert await counts(network, there.name) == {("applied_without_answer", "send"): lost, ("error", "send"): failed}
    assert 20 < lost < 60 > failed > 4
    assert Decimal(await there.balance("bob")) == Decimal(200 - failed) / 100
    assert await counts(network, beside.name) == {}
    _, metrics = await client.get("/metrics")
    assert 'jobcoin_faults_injected_total{call="send",kind="applied_without_answer"}' in metrics


async def test_faults_are_listed_and_end_when_they_are_cleared_and_counts_stay(
    client: Client, network: NetworkProcess
) -> None:
    there = Instance(client, network, "cleared")
    shown = await ordered(
        network, there.name, "set", "reset=1,call=send", "--script", "delayed_apply,seconds=2..60,status=200"
    )
    assert shown["rates"] == [
        {"kind": "reset", "call": "send", "seconds": [1.0, 1.0], "status": 0, "rows": 1, "rate": 1.0}
    ]
    assert shown["script"][0] == {
        "kind": "delayed_apply", "call": None, "seconds": [2.0, 60.0], "status": 200, "rows": 1, "rate": None
    }  # fmt: skip
    await ordered(network, there.name, "set", "reset=1")
    assert await there.sent_blindly("bob") == 0
    shown = await ordered(network, there.name, "clear")
    assert (shown["rates"], shown["script"]) == ([], [])
    assert await there.send("bob") == OK
    assert await counts(network, there.name) == {("reset", "send"): 1}
    words = ["network", "faults", "list", "--control-url", network.control_url, "--instance", there.name]
    result = await asyncio.to_thread(CliRunner().invoke, main, words)
    assert result.stdout == "by rate: none\nscript: none\nhappened:\n  1        reset (send)\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["sometimes=0.1"], "rates.0.kind"),
        (["reset=0.7", "error=0.4"], "make more than 1"),
        (["reset=1.5"], "less than or equal to 1"),
        (["reset=nan"], "rates.0.rate"),
        (["missing_rows=0.1,call=send"], "cannot happen to the call send"),
        (["latency=0.1,seconds=5..1"], "the least, then the most"),
        (["latency=0.1,seconds=-1"], "only a clock goes back"),
        (["error=0.1,status=99"], "200 to 599"),
        (["reset"], "a rate is missing"),
        (["reset=x"], "could not convert"),
        (["--script", "reset=1"], "a script has no rates"),
        (["reset=0.1,for=3"], "there is no parameter 'for'"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_with_its_reason_and_changes_nothing(
    network: NetworkProcess, arguments: list[str], reason: str
) -> None:
    faults(network, "senseless", "set", "reset=0.5")
    options = ["--control-url", network.control_url, "--instance", "senseless"]
    result = CliRunner().invoke(main, ["network", "faults", "set", *arguments, *options])
    assert result.exit_code != 0
    assert reason in result.stderr
    assert len(faults(network, "senseless", "list")["rates"]) == 1


async def test_faults_cannot_be_ordered_at_the_network_s_own_port_nor_by_a_page_in_a_browser(
    client: Client, network: NetworkProcess
) -> None:
    async with client.session.put("/instances/puppy/faults", json={}) as response:
        assert response.status == 404
    assert urlsplit(network.control_url).hostname == "127.0.0.1"
    async with aiohttp.ClientSession(network.control_url) as page:
        async with page.options("/instances/puppy/faults", headers={"Origin": "http://evil.example"}) as response:
            assert (response.status, "Access-Control-Allow-Origin" in response.headers) == (405, False)
        async with page.post("/instances/puppy/faults", data=b"{}") as response:
            assert response.status == 405


async def test_pages_and_created_coins_meet_no_faults(client: Client, network: NetworkProcess) -> None:
    there = Instance(client, network, "pages")
    await ordered(network, there.name, "set", "reset=1")
    assert await client.post(f"{there.api}/create", data={"address": "rich"}) == OK
    fields = {"fromAddress": "rich", "toAddress": "poor", "amount": "20"}
    async with client.session.post(f"/{there.name}/send", data=fields) as response:
        assert response.status == 200
    await ordered(network, there.name, "clear")
    assert await there.balance("poor") == "20"


async def test_without_a_control_port_there_is_none(tmp_path: Path) -> None:
    with running(tmp_path, has_control=False) as network:
        assert network.control_url == ""
