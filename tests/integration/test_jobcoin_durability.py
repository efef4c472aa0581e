"""What the simulated network answered or showed outlives a kill; what it cannot keep it does not promise."""

import asyncio
import contextlib
import resource
import signal
from pathlib import Path

import aiohttp

from tests.integration.jobcoin import OK, Client, NetworkProcess, client_of, running


async def test_what_was_answered_or_shown_outlives_a_kill(tmp_path: Path) -> None:
    with running(tmp_path, signal.SIGKILL) as network:
        async with client_of(network) as client:
            assert await client.send("Alice", "kept", "1.50") == OK
    for round_number in range(3):
        with running(tmp_path, signal.SIGKILL) as network:
            async with client_of(network) as client:
                assert await client.balance("kept") == f"{round_number + 1}.5"
                shown = await client.listed()
                assert await client.send("Alice", "kept", "1") == OK
            network.process.kill()
        with running(tmp_path) as network:
            async with client_of(network) as client:
                assert (await client.listed())[:-1] == shown


async def test_every_200_under_load_is_kept_when_the_process_is_killed(tmp_path: Path) -> None:
    answered: list[str] = []

    async def spend(client: Client, number: int) -> None:
        while True:
            amount = f"0.{number:03}{len(answered):06}1"
            status, _ = await client.send("Alice", "load", amount)
            assert status == 200
            answered.append(amount)
            if len(answered) == 200:
                network.process.kill()

    with running(tmp_path, signal.SIGKILL) as network:
        async with client_of(network) as client:
            results = await asyncio.gather(*(spend(client, number) for number in range(16)), return_exceptions=True)
    assert all(isinstance(result, aiohttp.ClientError | OSError) for result in results)
    with running(tmp_path) as network:
        async with client_of(network) as client:
            kept = [row["amount"] for row in await client.listed()]
    assert len(answered) >= 200
    assert set(answered) <= set(kept)


async def test_nobody_is_told_ok_when_the_disk_refuses_and_the_process_ends(tmp_path: Path) -> None:
    with running(tmp_path) as network:
        async with client_of(network) as client:
            assert await client.send("Alice", "kept", "1") == OK
            resource.prlimit(network.process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
            with contextlib.suppress(aiohttp.ClientError):
                assert await client.send("Alice", "lost", "1") == (500, {"error": "Internal Server Error"})
        assert network.process.wait(timeout=15) == 1
    with running(tmp_path) as network:
        async with client_of(network) as client:
            assert (await client.balance("kept"), await client.balance("lost")) == ("1", "0")


def test_the_network_ends_with_0_on_sigterm(tmp_path: Path) -> None:
    network = NetworkProcess(tmp_path)
    network.listening()
    assert network.end(signal.SIGTERM) == 0


def test_one_process_at_a_time_holds_the_file(tmp_path: Path) -> None:
    with running(tmp_path):
        second = NetworkProcess(tmp_path)
        _, errors = second.process.communicate(timeout=30)
        assert second.process.returncode == 1
        assert "database is locked" in errors
