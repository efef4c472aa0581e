"""The supervisor: brings a stack up, keeps it up, takes it down in reverse order."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.database.migrate import PartitionsFixed, agreed_partitions, read_partitions
from shared.database.postgres import CONNECTION_FAULTS
from shared.runtime.service import raise_descriptor_limit
from tellerline.local_stack.servers import PrivatePostgres, PrivateRabbit, StartFailed
from tellerline.local_stack.servers.files import LOOPBACK, port_is_free
from tellerline.local_stack.servers.part import Part
from tellerline.local_stack.servers.process import Child, cut, end_leftovers, how_it_ended, log_tail, processes_with
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.keeper import Keeper
from tellerline.local_stack.supervisor.plan import (
    MARK,
    TIER_SERVERS,
    Options,
    addresses,
    migrate_environment,
    network_plan,
    service_plans,
)
from tellerline.local_stack.supervisor.service import STOP_GRACE_S, Service, ServicePlan, program

STILL_WAITING_S = 5.0
REASON_AFTER_S = 15.0  # from then on each part that is not ready is shown with the reason that it gives
LOGS_LOOKED_AT_S = 60.0
STATE_AGAIN_S = 2.0
DISK_LOOKED_AT_S = 0.5
MIGRATE = ("tellerline", "migrate")
REFUSED = 2

PlanServices = Callable[[Options, DataDir, ServicePlan, PrivatePostgres, PrivateRabbit], Sequence[ServicePlan]]


@dataclass(slots=True)
class Supervisor:
    """One stack. `say` prints a line for the user; `ready` is called once, with what `status --json` prints."""

    options: Options
    data_dir: DataDir
    say: Callable[[str], None]
    ready: Callable[[Mapping[str, object]], None]
    plan_network: Callable[[DataDir], ServicePlan] = network_plan
    plan_services: PlanServices = service_plans
    migrate: Sequence[str] = MIGRATE
    _keepers: list[Keeper] = field(default_factory=list[Keeper])
    _described: dict[str, object] = field(default_factory=dict[str, object])
    _status: str = "starting"
    _state_is_old: bool = False

    async def run(self, stop: asyncio.Event) -> None:
        """Runs the stack until `stop` is set or a signal asks to end. Raises StartFailed when it does not come up."""
        raise_descriptor_limit()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        failure: StartFailed | None = None
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self._bring_up())
                await stop.wait()
                self.say("stopping")
                work.cancel()
        except* StartFailed as failures:
            failure = first_of(failures)
        finally:
            self._status = "stopping"
            self._changed()
            await self._stop_all()
            self.data_dir.forget_state()
        if failure is not None:
            raise failure

    async def _bring_up(self) -> None:
        """Servers and network in parallel, then migrations, then the services in parallel. Never returns."""
        await end_leftover_services(self.data_dir)
        self._check_port()
        self._changed()
        postgres, rabbit = servers_of(self.data_dir)
        network = self.plan_network(self.data_dir)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(self._say_what_is_waited_for())
            servers = [self._keep(group, part, TIER_SERVERS, ()) for part in (postgres, rabbit)]
            self._keep(group, self._service(network), network.tier, ())
            for server in servers:
                await server.ready.wait()
            partitions = await self._agreed_partitions(postgres.dsn)
            self.data_dir.admin_key(self.options.admin_key)
            await self._migrate(postgres.dsn, rabbit.url, partitions)
            if said := standing_by(self.options.workers, partitions):
                self.say(said)
            plans = self.plan_services(self.options, self.data_dir, network, postgres, rabbit)
            self._described = addresses(self.data_dir, network, plans, postgres, rabbit)
            for plan in plans:
                self._keep(group, self._service(plan), plan.tier, servers)
            for keeper in self._keepers:
                await keeper.ready.wait()
            waiting.cancel()
            group.create_task(self._bound_logs())
            group.create_task(self._write_state_again())
            group.create_task(self._restart_after_full_disk(rabbit))
            self._status = "ready"
            self._changed()
            self.ready(self._state())

    def _service(self, plan: ServicePlan) -> Service:
        return Service(plan, self.data_dir.log(plan.name))

    def _keep(self, group: asyncio.TaskGroup, part: Part, tier: int, needs: Sequence[Keeper]) -> Keeper:
        keeper = Keeper(part, tier, needs, self.say, self._changed)
        self._keepers.append(keeper)
        group.create_task(keeper.keep(), name=part.name)
        return keeper

    def _check_port(self) -> None:
        port = self.options.port
        if port != 0 and not port_is_free(port):
            raise StartFailed(f"port {port} of {LOOPBACK} is taken: choose another with --port")

    async def _agreed_partitions(self, owner_dsn: str) -> int:
        """The ledger's partitions; a new one gets as many as asked for, else one per worker. Raises StartFailed."""
        try:
            held = await read_partitions(owner_dsn)
            return agreed_partitions(held, self.options.partitions, of_new=self.options.workers)
        except PartitionsFixed as refusal:
            raise StartFailed(str(refusal), exit_code=REFUSED) from refusal
        except CONNECTION_FAULTS as fault:
            raise StartFailed(f"the number of partitions could not be read: {fault!r}") from fault

    async def _migrate(self, owner_dsn: str, amqp_url: str, partitions: int) -> None:
        begun = asyncio.get_running_loop().time()
        log = self.data_dir.log("migrate")
        environment = migrate_environment(self.data_dir, owner_dsn, amqp_url)
        environment["TELLERLINE_PARTITIONS"] = str(partitions)
        child = Child(program(*self.migrate), environment, log)
        try:
            code = await child.ended()
        finally:
            await child.stop(signal.SIGTERM, STOP_GRACE_S)
        if code == REFUSED:
            refusal = log_tail(log, lines_max=1).strip().removeprefix("tellerline migrate: ")
            raise StartFailed(refusal, exit_code=REFUSED)
        if code != 0:
            raise StartFailed(f"migrate {how_it_ended(code)}\n{log_tail(log)}")
        self.say(f"schema and topology are current ({asyncio.get_running_loop().time() - begun:.1f} s)")

    async def _say_what_is_waited_for(self) -> None:
        begun = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(STILL_WAITING_S)
            waited_for = [keeper.part for keeper in self._keepers if not keeper.ready.is_set()]
            self.say(f"still waiting for {', '.join(part.name for part in waited_for) or 'migrate'}")
            if asyncio.get_running_loop().time() - begun < REASON_AFTER_S:
                continue
            reasons = {part.name: await part.why_not_ready() for part in waited_for}
            for name, reason in (reasons or {"migrate": log_tail(self.data_dir.log("migrate"), 1).strip()}).items():
                if reason:
                    self.say(f"    {name}: {reason}")

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(LOGS_LOOKED_AT_S)
            for log in self.data_dir.log("any").parent.glob("*.log"):
                await asyncio.to_thread(cut, log)

    async def _restart_after_full_disk(self, rabbit: PrivateRabbit) -> None:
        while True:
            await asyncio.sleep(DISK_LOOKED_AT_S)
            if rabbit.end_after_full_disk():
                self.say(
                    "the disk of rabbitmq was full: it is started again, since its queues do not go on by themselves"
                )

    async def _write_state_again(self) -> None:
        while True:
            await asyncio.sleep(STATE_AGAIN_S)
            if self._state_is_old:
                self._changed()

    def _changed(self) -> None:
        """Writes the state. A full disk leaves the old one, and the stack goes on."""
        try:
            self.data_dir.write_state(self._state())
        except OSError as fault:
            if not self._state_is_old:
                self.say(f"the state could not be written and is tried again: {fault.strerror}")
            self._state_is_old = True
        else:
            self._state_is_old = False

    def _state(self) -> dict[str, object]:
        pids = {"supervisor": os.getpid()}
        for keeper in self._keepers:
            pids |= keeper.part.pids
        return self._described | {"pids": pids, "data_dir": str(self.data_dir.path), "status": self._status}

    async def _stop_all(self) -> None:
        for tier in sorted({keeper.tier for keeper in self._keepers}, reverse=True):
            await asyncio.gather(*(keeper.part.stop() for keeper in self._keepers if keeper.tier == tier))


def standing_by(workers: int, partitions: int) -> str | None:
    """What to say when there are more workers than partitions."""
    if (idle := workers - partitions) <= 0:
        return None
    waiting = f"{idle} workers stand by" if idle > 1 else "1 worker stands by"
    return f"{workers} workers, {partitions} partition{'s' * (partitions > 1)}: {waiting}"


def first_of(failures: BaseExceptionGroup[StartFailed]) -> StartFailed:
    """The first of a group, however deep it lies."""
    first = failures.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def end_leftover_services(data_dir: DataDir) -> int:
    """Stops the services that a killed supervisor left running; how many there were."""
    return await end_leftovers(lambda: processes_with(MARK, str(data_dir.path)), signal.SIGTERM, STOP_GRACE_S)


async def end_all_leftovers(data_dir: DataDir) -> int:
    """Stops the leftover services and the private servers; how many processes there were."""
    services = await end_leftover_services(data_dir)
    return services + sum(await asyncio.gather(*(server.end_leftovers() for server in servers_of(data_dir))))


def servers_of(data_dir: DataDir) -> tuple[PrivatePostgres, PrivateRabbit]:
    """The servers of this data dir, not started."""
    postgres = PrivatePostgres(data_dir.path / "postgres", log=data_dir.log("postgres"), ports=data_dir.ports)
    rabbit = PrivateRabbit(data_dir.path / "rabbitmq", log=data_dir.log("rabbitmq"), ports=data_dir.ports)
    return postgres, rabbit


def leftovers(data_dir: DataDir) -> int:
    """How many processes of this stack run. Without a supervisor, these are left from one that was killed."""
    services = list(processes_with(MARK, str(data_dir.path)))
    return len(services) + sum(server.leftovers() for server in servers_of(data_dir))
