"""The worker's engine on the twins, in virtual time: one seed, one schedule of commands and faults."""

import asyncio
import random
from collections.abc import Callable, Mapping

from shared.domain.ids import Partition
from shared.journal.rows import ANY_CONTENT_FINGERPRINT
from shared.messages import AccountCreate, Command, CommandEnvelope, OperationCancel, PostTransaction
from tests.property.envelopes import NO_SIGNATURE, EnvelopePublisher
from tests.property.random_commands import ACCOUNTS, RAISES, REFUSED, UNWRITABLE, RandomCommands
from tests.property.replies import ReceivedReplies
from tests.property.simulated_worker import SimulatedWorker
from tests.twins.broker import MemoryBroker, Message
from tests.twins.clock import LoopClock
from tests.twins.faults import Fault
from tests.twins.journal import Journal
from tests.twins.proof import prove

HEALED_MAX_S = 120.0
CHAOS = ("channel", "channel", "kill", "stop", "start", "freeze", "lease", "dead letter", "late close")


class Simulation:
    """A ledger, its clients, its workers and their bad luck."""

    def __init__(self, seed: int, *, partitions: int | None = None) -> None:
        self.rng = random.Random(seed)
        self.partitions = partitions or self.rng.choice((1, 2, 4, 4))
        self.clock = LoopClock()
        self.journal = Journal(self.partitions, lambda: self.clock.now_ns() // 1_000)
        self.replies = ReceivedReplies(self.journal)
        self.broker = MemoryBroker(self.partitions, self.replies.receive, self._note_acknowledged)
        self.publisher = EnvelopePublisher(self.broker)
        self.is_faulty = True
        self.fault_rate = self.rng.choice((0.0, 0.02, 0.1))
        self.delay_max_s = self.rng.choice((0.0, 0.002, 0.05))
        self.workers: list[SimulatedWorker] = []
        self.lost: list[Message] = []  # acknowledged before they were decided
        self.failed_callbacks: list[Mapping[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(self._note_fault)
        self.names = iter(f"worker-{number}" for number in range(10_000))
        self.commands = RandomCommands(self.rng, self.partitions, self.journal)
        # Seconds between commands that keep coming while everything heals: not more than a worker can decide.
        self.traffic_s = self.rng.choice((None, 3 * self.delay_max_s + 0.002))

    def delay(self) -> float:
        """How long the next call takes."""
        return self.rng.random() * self.delay_max_s

    def fault(self, method: str) -> Fault | None:
        """What happens to the next call."""
        if not self.is_faulty or self.rng.random() >= self.fault_rate:
            return None
        if method == "commit":
            return self.rng.choice((Fault.UNAVAILABLE, Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.LATE, Fault.STUCK))
        return Fault.UNAVAILABLE

    async def run(self) -> None:
        """Commands under faults, then none; raises when anything is not as it must be."""
        self.start()
        self.start()
        loop = asyncio.get_running_loop()
        sending, chaos = loop.create_task(self._send()), loop.create_task(self._chaos())
        await sending
        chaos.cancel()
        self.is_faulty = False
        for worker in self.workers:
            worker.thaw()
            worker.connection.dead_letters_refused = 0
        await self._decided_under_traffic()
        await self.until(self.is_done, "not everything was decided and settled")
        for worker in list(self.workers):
            worker.check()
            await worker.stop()
            worker.kill()
        self.check()

    def start(self) -> None:
        """Another worker."""
        self.workers.append(SimulatedWorker(next(self.names), self))

    async def until(self, holds: Callable[[], bool], otherwise: str) -> None:
        """Waits, of virtual time at most HEALED_MAX_S."""
        until_s = self.clock.monotonic_s() + HEALED_MAX_S
        while not holds():
            for worker in self.workers:
                worker.check()
            self._check_callbacks()
            assert self.clock.monotonic_s() < until_s, f"{otherwise}: {self.state()}"
            await asyncio.sleep(0.05)

    def is_done(self) -> bool:
        """True when everything was acknowledged and settled."""
        return self.broker.is_empty and self.journal.transit.keys() == self.journal.settlements.keys()

    def state(self) -> str:
        """What a person needs to see why it does not go on."""
        queues = {
            int(partition): (
                len(queue.ready),
                [(self._name_of(channel.connection), len(channel.unacknowledged)) for channel in queue.consumers],
            )
            for partition, queue in self.broker.queues.items()
        }
        owners = [(row.owner, row.epoch, row.expires_us - self.journal.now_us()) for row in self.journal.owners]
        loops = [
            (
                worker.name,
                worker.loop.leases(),
                [partition for partition, state in worker.loop.owned.states.items() if state.is_draining],
                worker.loop._committing,
                len(worker.loop._open.decisions),
                worker.loop._room(),
                worker.loop._transit_in.has_suspected,
                worker.inbox.is_nudged,
                worker.keeper.late(),
            )
            for worker in self.workers
        ]
        unsettled = sorted(self.journal.transit.keys() - self.journal.settlements.keys())
        return f"\n{queues=}\n{owners=}\n{loops=}\n{unsettled=}\nlocks={self.journal.locks}"

    def _name_of(self, connection: object) -> str:
        return next((worker.name for worker in self.workers if worker.connection is connection), "gone")

    # What clients send.

    async def _send(self) -> None:
        for command in self.commands.first():
            self.publish(command)
        # So that from here on each account exists for everybody.
        await self.until(lambda: len(self.journal.operations) >= ACCOUNTS, "the accounts are not opened")
        for command in self.commands.deposits():
            self.publish(command)
        for _ in range(self.rng.randrange(20, 80)):
            by_partition: dict[Partition, list[Command]] = {}
            for _ in range(self.rng.choice((1, 1, 2, 5, 15))):
                command = self.commands.next(self.publisher.sent)
                by_partition.setdefault(self.commands.partition_for(command), []).append(command)
            for partition, commands in by_partition.items():
                self._publish_what_nobody_applies()
                self.publish(*commands, partition=partition)
            await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.01, 0.3)))

    async def _decided_under_traffic(self) -> None:
        """What was sent so far is decided though more keeps coming."""
        if self.traffic_s is None:
            return
        sent = {command.id for _, command in self.publisher.sent} - self.journal.unwritable
        traffic = asyncio.get_running_loop().create_task(self._keep_sending(self.traffic_s))
        await self.until(lambda: sent <= self.journal.operations.keys(), "not everything was decided under traffic")
        traffic.cancel()

    async def _keep_sending(self, every_s: float) -> None:
        while True:
            self.publish(self.commands.between_partitions())
            await asyncio.sleep(every_s)

    def publish(self, *commands: Command, partition: Partition | None = None) -> None:
        """One envelope."""
        self.journal.unwritable.update(command.id for command in commands if command.reference == UNWRITABLE)
        place = self.commands.partition_for(commands[0]) if partition is None else partition
        self.publisher.publish(place, commands)

    def _publish_what_nobody_applies(self) -> None:
        roll, queue = self.rng.random(), Partition(self.rng.randrange(self.partitions))
        if roll < 0.02:
            self.publisher.publish_unsigned(queue)
        elif roll < 0.04 and self.partitions > 1:
            elsewhere = Partition((queue + 1) % self.partitions)
            self.publisher.publish_misplaced(queue, [self.commands.opening(queue), self.commands.opening(elsewhere)])

    # What goes wrong.

    async def _chaos(self) -> None:
        rng = self.rng
        while self.fault_rate:
            await asyncio.sleep(rng.random() * rng.choice((0.02, 0.5, 4.0)))
            worker = rng.choice(self.workers)
            match rng.choice(CHAOS):
                case "channel":
                    worker.connection.lose_channel(Partition(rng.randrange(self.partitions)))
                case "kill" if len(self.workers) > 1:
                    self.workers.remove(worker)
                    worker.kill()
                case "stop" if len(self.workers) > 1 and not worker.connection.is_frozen:
                    self.workers.remove(worker)
                    try:
                        await worker.stop()
                    finally:
                        worker.kill()
                case "start" if len(self.workers) < 3:
                    self.start()
                case "freeze":
                    worker.freeze()
                    await asyncio.sleep(rng.choice((0.1, 3.0, 15.0)))
                    worker.thaw()
                case "lease":
                    # Somebody else's word in the database: the owner finds out at its next commit or renewal.
                    partition = rng.randrange(self.partitions)
                    if partition not in self.journal.locks:
                        self.journal.owners[partition].owner = None
                case "dead letter":
                    worker.connection.dead_letters_refused += rng.choice((1, 3, 100))
                    worker.connection.dead_letters_unconfirmed += rng.choice((0, 1))
                case "late close":
                    worker.connection.close_late_s = rng.choice((None, 0.1, 2.0))
                case _:
                    pass

    # What must hold.

    def _note_acknowledged(self, _: Partition, message: Message) -> None:
        """What has left its queue is in the journal, or is a dead letter."""
        if any(message.body == body for _, body, _ in self.broker.dead_letters):
            return
        is_signed = message.mac != NO_SIGNATURE
        commands = CommandEnvelope.model_validate_json(message.body).commands if is_signed else ()
        if not is_signed or any(command.id not in self.journal.operations for command in commands):
            self.lost.append(message)

    def _note_fault(self, _: object, context: Mapping[str, object]) -> None:
        if "handle" in context:  # else it is the task of a worker that was killed
            self.failed_callbacks.append(context)

    def _check_callbacks(self) -> None:
        """What no task raises: the event loop's callbacks belong to nobody."""
        assert not self.failed_callbacks, f"{self.failed_callbacks}"
        assert not self.lost, "acknowledged before it was decided"

    def check(self) -> None:
        """The journal, the order, the replies and the dead letters."""
        self._check_callbacks()
        assert prove(self.journal) == 0
        self._check_decided()
        for partition in range(self.partitions):
            self._check_order(Partition(partition))
        unsigned = {body for _, body, reason in self.broker.dead_letters if "signature" in reason}
        assert len(unsigned) == self.publisher.unsigned
        misplaced = {(queue, body) for queue, body, reason in self.broker.dead_letters if "partition" in reason}
        assert len(misplaced) == len(self.publisher.misplaced)
        for _, commands in self.publisher.misplaced:
            assert not any(command.id in self.journal.operations for command in commands)

    def _check_decided(self) -> None:
        copies = b"".join(body for _, body, _ in self.broker.dead_letters)
        for _, command in self.publisher.sent:
            if command.id in self.journal.unwritable:
                assert command.id not in self.journal.operations
                assert (command.id, command.fingerprint) not in self.replies.outcomes, "told, but not in the journal"
                assert command.id.encode() in copies
                continue
            row = self.journal.operations[command.id]
            assert row["code"] != "account_not_found", f"{command} was decided on accounts that were not loaded"
            assert (command.id, command.fingerprint) in self.replies.outcomes, "no reply"
            if row["code"] == "internal_error":
                same_id = [sent for _, sent in self.publisher.sent if sent.id == command.id]
                assert any(sent.reference in {RAISES, REFUSED} for sent in same_id)
            if isinstance(command, PostTransaction) and command.reference and _decided_as(row, command):
                assert row["code"] == "internal_error"
            if isinstance(command, AccountCreate) and row["code"] == "unknown_asset":
                # Its creation was published for the same partition, and before.
                assert self.journal.operations[self.commands.created[command.asset].id]["code"] == "cancelled"

    def _check_order(self, partition: Partition) -> None:
        """What a partition decided, it decided in the order in which the publishes were confirmed.

        An id is decided where and when it first comes: later it is a repeat, in this partition and in every other.
        """
        first: dict[str, Command] = {}
        for place, command in self.publisher.sent:
            if place == partition and command.id not in self.journal.unwritable:
                first.setdefault(command.id, command)
        rows = self.journal.operations
        here = [identity for identity, row in rows.items() if row["partition"] == str(partition)]
        here.sort(key=lambda identity: (int(rows[identity]["batch"] or 0), int(rows[identity]["line"] or 0)))
        decided = [identity for identity in here if rows[identity]["kind"] != "return.v1"]
        assert decided == [identity for identity in first if rows[identity]["partition"] == str(partition)]
        assert all(_decided_as(rows[identity], first[identity]) for identity in decided)


def _decided_as(row: dict[str, str | None], command: Command) -> bool:
    """Whether the row is the decision on this very command, and not on another one with its id."""
    fingerprint = ANY_CONTENT_FINGERPRINT if isinstance(command, OperationCancel) else command.fingerprint
    return str(row["fingerprint"])[2:] == fingerprint
