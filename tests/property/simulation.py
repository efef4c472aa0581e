"""The worker's own shell on the twins, in virtual time: one seed, one schedule of commands and faults."""

import asyncio
import random
from collections.abc import Callable
from itertools import count

from shared.ids import AccountId, Partition, partition_of
from shared.messages import Command, HoldPlace, Move, OperationCancel, routed_by
from tests.builders import Commands, command_id
from tests.property.mail import Mail
from tests.property.simulated_worker import PARTITIONS, Worker
from tests.property.told import Told
from tests.twins.bus import Broker, MemoryBus
from tests.twins.clock import LoopClock
from tests.twins.faults import Fault
from tests.twins.journal import Journal
from tests.twins.proof import prove

HEALED_MAX_S = 120.0
RAISES = "breaks the core"
REFUSED = "a NUL: \0"


def _accounts(each: int) -> list[AccountId]:
    """So many accounts in each partition, the same in every run."""
    found: dict[Partition, list[AccountId]] = {Partition(partition): [] for partition in range(PARTITIONS)}
    for account in (AccountId(f"acc-{number}") for number in range(100)):
        found[partition_of(account, PARTITIONS)].append(account)
    return [account for accounts in found.values() for account in accounts[:each]]


class Simulation:
    """A ledger, its clients, its workers and their bad luck."""

    def __init__(self, seed: int) -> None:
        self.lots = random.Random(seed)
        self.clock = LoopClock()
        self.journal = Journal(PARTITIONS, self.clock.now_us)
        self.told = Told(self.journal)
        self.broker = Broker(PARTITIONS, hear=self.told.hear)
        self.is_faulty = True
        self.fault_rate = self.lots.choice((0.0, 0.02, 0.1))
        self.delay_max_s = self.lots.choice((0.0, 0.002, 0.05))
        self.sharing = self.lots.choice((0.0, 0.5, 1.0))  # how often partitions share an envelope (ADR 11)
        self.workers: list[Worker] = []
        self.mail = Mail(self.lots, self.broker, self.journal, self.workers, self.delay)
        self.buses: dict[MemoryBus, str] = {}
        self.names = iter(f"worker-{number}" for number in range(10_000))
        self.make = Commands(partitions=PARTITIONS)
        self.accounts = _accounts(3)
        self.keys = (f"fresh-{number}" for number in count())
        self.sent: list[tuple[Partition, Command]] = []
        self.placed: list[HoldPlace] = []

    def delay(self) -> float:
        """How long the next call takes."""
        return self.lots.random() * self.delay_max_s

    def fault(self, method: str) -> Fault | None:
        """What happens to the next call."""
        if not self.is_faulty or self.lots.random() >= self.fault_rate:
            return None
        if method == "commit":
            return self.lots.choice((Fault.UNAVAILABLE, Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.LATE, Fault.STUCK))
        return Fault.UNAVAILABLE

    async def run(self) -> None:
        """Commands under faults, then none; raises when anything is not as it must be."""
        self.start()
        self.start()
        loop = asyncio.get_running_loop()
        asking, chaos = loop.create_task(self._ask()), loop.create_task(self._chaos())
        await asking
        chaos.cancel()
        self.is_faulty = False
        for worker in self.workers:
            worker.thaw()
        if not self.workers:
            self.start()
        await self._until(self._is_done, "not everything was decided and settled")
        for worker in list(self.workers):
            worker.check()
            await worker.stop()
            worker.kill()
        self.check()

    def start(self) -> None:
        """Another worker."""
        worker = Worker(next(self.names), self)
        self.workers.append(worker)
        self.buses[worker.bus] = worker.name

    async def _until(self, holds: Callable[[], bool], otherwise: str) -> None:
        until = self.clock.monotonic_s() + HEALED_MAX_S
        while not holds():
            for worker in self.workers:
                worker.check()
            assert self.clock.monotonic_s() < until, f"{otherwise}: {self.state()}"
            await asyncio.sleep(0.05)

    def _is_done(self) -> bool:
        return (
            not self.mail.on_their_way
            and self.broker.is_empty
            and self.journal.transit.keys() == self.journal.settlements.keys()
        )

    def state(self) -> str:
        """What a person needs to see why it does not go on."""
        queues = {
            int(partition): (
                len(queue.ready),
                [
                    (
                        self.buses[channel.bus],
                        len(channel.unacknowledged),
                        channel.bus._channels.get(partition) is channel,
                    )
                    for channel in queue.consumers
                ],
            )
            for partition, queue in self.broker.queues.items()
        }
        owners = [(row.owner, row.epoch, row.expires_us - self.clock.now_us()) for row in self.journal.owners]
        tellers = [
            (
                worker.name,
                worker.teller.leases(),
                [line.partition for line in worker.teller.lines.values() if line.is_draining],
                worker.teller._committing,
                worker.teller._open.commands,
                worker.teller._suspects.limit,
                worker.teller._folding.is_suspect,
                worker.teller._folding.due,
                worker.keeper.last_tick_s,
            )
            for worker in self.workers
        ]
        unsettled = sorted(self.journal.transit.keys() - self.journal.settlements.keys())
        return f"\n{queues=}\n{owners=}\n{tellers=}\n{unsettled=}\nlocks={self.journal.locks}"

    # What clients send.

    async def _ask(self) -> None:
        for account in self.accounts:
            self.publish(self.make.open(account, overdraft_limit=self.lots.choice((0, 0, 500)), key=next(self.keys)))
        # So that from here on each of them exists for everybody.
        await self._until(lambda: len(self.journal.operations) >= len(self.accounts), "the accounts are not opened")
        for account in self.accounts:
            self.publish(self.make.deposit(account, self.lots.randrange(1, 2_000), key=next(self.keys)))
        for _ in range(self.lots.randrange(20, 80)):
            by_partition: dict[Partition, list[Command]] = {}
            for _ in range(self.lots.choice((1, 1, 2, 5, 15))):
                command = self._command()
                by_partition.setdefault(self._route(command), []).append(command)
            for partition, commands in self._shared(by_partition).items():
                self.publish(*commands, partition=partition)
            await asyncio.sleep(self.lots.choice((0.0, 0.0, 0.01, 0.3)))

    def _shared(self, by_partition: dict[Partition, list[Command]]) -> dict[Partition, list[Command]]:
        """Sometimes all that an account routes in one envelope; the rest stays with its partition."""
        if self.lots.random() >= self.sharing:
            return by_partition
        queue = self.lots.choice(list(by_partition))
        shared: dict[Partition, list[Command]] = {}
        for partition, commands in by_partition.items():
            for command in commands:
                shared.setdefault(partition if routed_by(command) is None else queue, []).append(command)
        return shared

    def _command(self) -> Command:
        lots, make = self.lots, self.make
        here, there = lots.sample(self.accounts, 2)
        amount = lots.randrange(1, 300)
        # Some keys are used again, with the same or other content. No id is drawn: the seed decides everything.
        fresh = next(self.keys)
        key = f"key-{lots.randrange(60)}" if lots.random() < 0.3 else fresh
        roll = lots.random()
        if roll < 0.03 and self.sent:
            return lots.choice(self.sent)[1].model_copy(update={"repeat": lots.random() < 0.5})
        if roll < 0.06:
            return make.cancel(lots.choice(self.sent)[1].id if lots.random() < 0.5 else command_id(fresh))
        if roll < 0.10:
            return make.update(
                here,
                status=lots.choice(("open", "open", "frozen")),
                overdraft_limit=lots.choice((None, 0, 700)),
                key=fresh,
            )
        if roll < 0.12:
            return make.close(here, key=fresh)
        if roll < 0.16:
            self.placed.append(make.hold(here, amount, destination=lots.choice((None, there)), key=fresh))
            return self.placed[-1]
        if roll < 0.20 and self.placed:
            hold = lots.choice(self.placed)
            return (
                make.void(hold, key=fresh)
                if lots.random() < 0.5 or hold.account == there
                else make.capture(hold, there, key=fresh)
            )
        if roll < 0.25:
            return make.deposit(here, amount, key=key)
        if roll < 0.28:
            return make.withdrawal(here, amount, key=key)
        moved = make.move(here, there, amount, key=key)
        if roll < 0.29:
            return moved.model_copy(update={"reference": REFUSED})
        return moved.model_copy(update={"reference": RAISES}) if roll < 0.30 else moved

    def _route(self, command: Command) -> Partition:
        if isinstance(command, OperationCancel):
            known = [partition for partition, sent in self.sent if sent.id == command.id]
            return known[0] if known else Partition(self.lots.randrange(PARTITIONS))
        account = command.source if isinstance(command, Move) else getattr(command, "account", AccountId(""))
        return partition_of(account, PARTITIONS)

    def publish(self, *commands: Command, partition: Partition | None = None) -> None:
        """One envelope; sometimes with one that nobody can read before it."""
        place = self._route(commands[0]) if partition is None else partition
        if self.lots.random() < 0.02:
            self.mail.post_unreadable(place)
        self.sent.extend((place, command) for command in commands)
        self.mail.post(place, commands)

    # What goes wrong.

    async def _chaos(self) -> None:
        lots = self.lots
        while self.fault_rate:
            await asyncio.sleep(lots.random() * lots.choice((0.02, 0.5, 4.0)))
            worker = lots.choice(self.workers)
            match lots.choice(("channel", "channel", "kill", "stop", "start", "freeze", "lease", "park")):
                case "channel":
                    worker.bus.lose_channel(Partition(lots.randrange(PARTITIONS)))
                case "kill" if len(self.workers) > 1:
                    self.workers.remove(worker)
                    worker.kill()
                case "stop" if len(self.workers) > 1 and not worker.bus.is_frozen:
                    self.workers.remove(worker)
                    try:
                        await worker.stop()
                    finally:
                        worker.kill()
                case "start" if len(self.workers) < 3:
                    self.start()
                case "freeze":
                    worker.freeze()
                    await asyncio.sleep(lots.choice((0.1, 3.0, 15.0)))
                    worker.thaw()
                case "lease":
                    # Somebody else's word in the database: the owner finds out at its next commit or renewal.
                    partition = lots.randrange(PARTITIONS)
                    if partition not in self.journal.locks:
                        self.journal.owners[partition].owner = None
                case "park":
                    worker.bus.parks_refused += 1
                case _:
                    pass

    # What must hold.

    def check(self) -> None:
        """The journal, the order, the answers and the parking queue."""
        assert prove(self.journal) == 0
        self._check_decided()
        for partition in range(PARTITIONS):
            self._check_order(Partition(partition))
        unreadable = [reason for _, _, reason in self.broker.parked if "signature" in reason]
        assert len(unreadable) >= self.mail.unreadable
        assert (len(unreadable) > 0) == (self.mail.unreadable > 0)

    def _check_decided(self) -> None:
        for _, command in self.sent:
            row = self.journal.operations[command.id]
            assert row["code"] != "account_not_found", f"{command} was decided on accounts that were not loaded"
            assert (command.id, command.fingerprint) in self.told.answered, "never answered"
            if row["code"] == "internal_error":
                assert any(sent.id == command.id and sent.reference in {RAISES, REFUSED} for _, sent in self.sent)
            if isinstance(command, Move) and command.reference and str(row["fingerprint"])[2:] == command.fingerprint:
                assert row["code"] in {"internal_error", "cancelled"}

    def _check_order(self, partition: Partition) -> None:
        first: dict[str, Partition] = {}
        elsewhere = set(self.mail.went_ahead)
        order: list[str] = []
        for place, command in self.sent:
            # What came by another's queue, or ahead of its own, has no place in the order of its own.
            if first.setdefault(command.id, place) != place or self._route(command) != place:
                elsewhere.add(command.id)
            elif place == partition and command.id not in order:
                order.append(command.id)
        decided = sorted(
            (int(row["batch"] or 0), int(row["line"] or 0), identity)
            for identity, row in self.journal.operations.items()
            if row["partition"] == str(partition) and row["kind"] != "return.v1"
        )
        expected = [identity for identity in order if identity not in elsewhere]
        assert [identity for _, _, identity in decided if identity not in elsewhere] == expected
