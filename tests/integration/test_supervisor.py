"""A whole stack of private servers and fake services: up, hurt, down, up again."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from shared.database.migrate import read_partitions
from tellerline.local_stack.servers import PrivatePostgres, PrivateRabbit, StartFailed
from tellerline.local_stack.servers.files import LOOPBACK
from tellerline.local_stack.servers.postgres import installed_programs
from tellerline.local_stack.servers.process import processes_with
from tellerline.local_stack.servers.rabbit import PROGRAMS
from tellerline.local_stack.supervisor import run
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.plan import (
    MARK,
    TIER_CLIENTS,
    TIER_SERVERS,
    TIER_WORKERS,
    Options,
    base_environment,
)
from tellerline.local_stack.supervisor.run import MIGRATE, PlanServices, Supervisor
from tellerline.local_stack.supervisor.service import Service, ServicePlan

pytestmark = pytest.mark.skipif(not (installed_programs() and PROGRAMS.exists()), reason="needs local servers")

CHANGE_MAX_S = 30


def fake_plan(data_dir: DataDir, name: str, tier: int, **variables: str) -> ServicePlan:
    port = data_dir.ports.port(name)
    own = {"FAKE_PORT": str(port), "FAKE_FOLDER": str(data_dir.path / "fakes" / name), **variables}
    return ServicePlan(name, "tests.fakes.service", base_environment(data_dir) | own, port, tier, port)


def fake_network(data_dir: DataDir) -> ServicePlan:
    return fake_plan(data_dir, "jobcoin_network-1", TIER_SERVERS, TELLERLINE_CONTROL_PORT="0")


def fake_services(
    _options: Options, data_dir: DataDir, _network: ServicePlan, _postgres: PrivatePostgres, _rabbit: PrivateRabbit
) -> Sequence[ServicePlan]:
    return [fake_plan(data_dir, "gateway-1", TIER_CLIENTS), fake_plan(data_dir, "ledger_worker-1", TIER_WORKERS)]


def one_that_fails(
    options: Options, data_dir: DataDir, network: ServicePlan, postgres: PrivatePostgres, rabbit: PrivateRabbit
) -> Sequence[ServicePlan]:
    good = fake_services(options, data_dir, network, postgres, rabbit)
    return [*good, fake_plan(data_dir, "distributor-1", TIER_CLIENTS, FAKE_EXIT="7")]


@dataclass
class Observed:
    """What a user of this stack sees."""

    data_dir: DataDir
    said: list[str] = field(default_factory=list[str])
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def state(self) -> Mapping[str, object]:
        return self.data_dir.read_state() or {}

    @property
    def pids(self) -> Mapping[str, int]:
        return cast("Mapping[str, int]", self.state.get("pids", {}))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(CHANGE_MAX_S):
            while not condition():
                await asyncio.sleep(0.05)

    async def kill_and_see_back(self, name: str) -> None:
        old = self.pids[name]
        os.kill(old, signal.SIGKILL)
        await self.until(lambda: self.pids.get(name, old) != old)
        assert any(line.startswith(f"{name} was ended by SIGKILL; starting it again") for line in self.said)

    def is_ready(self, _state: Mapping[str, object]) -> None:
        self.ready.set()


@asynccontextmanager
async def running(
    folder: Path,
    services: PlanServices = fake_services,
    *,
    migrate: Sequence[str] = ("tests.fakes.migrate",),
    workers: int = 1,
    partitions: int | None = None,
) -> AsyncGenerator[Observed]:
    data_dir = DataDir(folder)
    data_dir.prepare()
    observed = Observed(data_dir)
    supervisor = Supervisor(
        *(Options(0, workers, partitions=partitions), data_dir, observed.said.append, observed.is_ready),
        plan_network=fake_network,
        plan_services=services,
        migrate=migrate,
    )
    stop = asyncio.Event()
    with data_dir.locked():
        async with asyncio.TaskGroup() as group:
            group.create_task(supervisor.run(stop))
            async with asyncio.timeout(CHANGE_MAX_S):
                await observed.ready.wait()
            yield observed
            stop.set()


def starts(folder: Path, name: str) -> list[str]:
    """The environments that this fake service was started with."""
    return [path.read_text(encoding="utf-8") for path in (folder / "fakes" / name).iterdir()]


async def test_whatever_dies_is_started_again_and_the_second_start_finds_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLERLINE_FAULT", "somewhere:1")
    async with running(tmp_path / "stack") as stack:
        first = dict(stack.state)
        assert set(stack.pids) == {
            *("supervisor", "postgres", "rabbitmq", "epmd", "jobcoin_network-1", "gateway-1", "ledger_worker-1")
        }
        for name in ("ledger_worker-1", "postgres", "rabbitmq"):
            await stack.kill_and_see_back(name)
        faulty = ["TELLERLINE_FAULT" in environment for environment in starts(tmp_path / "stack", "ledger_worker-1")]
        assert sorted(faulty) == [False, True], "a fault that was asked for comes once"
    assert stack.data_dir.read_state() is None
    assert not list(processes_with(MARK, str(stack.data_dir.path)))
    async with running(tmp_path / "stack") as stack:
        again = dict(stack.state)
        for name in ("gateway", "gateways", "jobcoin", "metrics", "amqp", "postgres", "admin_key"):
            assert again[name] == first[name], "addresses and keys stay"


async def test_a_service_that_cannot_start_ends_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as failed:
        async with running(tmp_path / "stack", one_that_fails):
            pass
    assert failed.group_contains(StartFailed, match=r"(?s)distributor-1 ended with exit code 1.*was told to end with 7")
    assert not list(processes_with(MARK, str((tmp_path / "stack").resolve())))


def one_that_is_late(
    options: Options, data_dir: DataDir, network: ServicePlan, postgres: PrivatePostgres, rabbit: PrivateRabbit
) -> Sequence[ServicePlan]:
    good = fake_services(options, data_dir, network, postgres, rabbit)
    return [*good, fake_plan(data_dir, "distributor-1", TIER_CLIENTS, FAKE_MISSING="the network does not answer")]


async def test_what_is_waited_for_too_long_is_shown_with_its_own_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STILL_WAITING_S", 0.1)
    monkeypatch.setattr(run, "REASON_AFTER_S", 0.2)
    async with running(tmp_path / "stack", one_that_is_late) as stack:
        assert "    distributor-1: the network does not answer" in stack.said
        assert any(line.startswith("    rabbitmq: ") for line in stack.said), "the last line of its log"


async def test_another_number_of_partitions_than_the_ledger_has_ends_the_start_with_2_and_touches_nothing(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "stack"
    async with running(folder, migrate=MIGRATE, workers=3, partitions=2) as stack:
        assert await read_partitions(str(stack.state["postgres"])) == 2
        assert "3 workers, 2 partitions: 1 worker stands by" in stack.said
    migrations, admin_key = stack.data_dir.log("migrate").read_text(encoding="utf-8"), stack.data_dir.admin_key()
    command = [*(sys.executable, "-m", "tellerline", "up", "--detach", "--data-dir", str(folder), "--port=0")]
    command += ["--partitions=3", "--admin-key=another-key-of-ours"]
    ended = await asyncio.to_thread(
        subprocess.run,
        [*command, "--partitions=3", "--admin-key=another-key-of-ours"],
        capture_output=True,
        text=True,
        check=False,
    )
    refusal = "tellerline up: the ledger has 2 partitions, not 3: the number is fixed when it is created"
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (2, refusal)
    assert stack.data_dir.log("migrate").read_text(encoding="utf-8") == migrations, "nothing was migrated"
    assert stack.data_dir.admin_key() == admin_key
    assert not list(processes_with(MARK, str(stack.data_dir.path)))


async def test_a_taken_port_is_told_before_anything_is_started(tmp_path: Path) -> None:
    async with await asyncio.start_server(lambda _reader, writer: writer.close(), LOOPBACK, 0) as stranger:
        port = int(stranger.sockets[0].getsockname()[1])
        data_dir = DataDir(tmp_path / "stack")
        data_dir.prepare()
        supervisor = Supervisor(Options(port=port), data_dir, lambda _: None, lambda _: None)
        with pytest.raises(StartFailed, match=f"port {port} of 127.0.0.1 is taken: choose another with --port"):
            await supervisor.run(asyncio.Event())
    assert not (data_dir.path / "postgres").exists()


async def test_services_that_a_killed_supervisor_left_are_stopped_by_the_next_one(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path / "stack")
    data_dir.prepare()
    with data_dir.locked():  # makes it a data dir of ours
        pass
    plan = fake_plan(data_dir, "gateway-1", TIER_CLIENTS)
    left = Service(plan, tmp_path / "log")
    await left.start()  # to the end: what is only being started cannot be told from a stranger's
    pids = left.pids
    async with running(data_dir.path) as stack:
        assert await left.ended() in {0, -signal.SIGTERM}
        assert stack.pids["gateway-1"] != pids["gateway-1"]
    assert json.loads((data_dir.path / "ports.json").read_text())["gateway-1"] == plan.port
