"""The ledger client sends a partition's commands in order, whatever confirms, faults and replies do meanwhile."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle

import hypothesis.strategies as st
import pytest
from hypothesis import given

from shared.broker.channels import NotPublished, OutgoingMessage, PublishFailed, PublishUnknown, QueueFull, Unroutable
from shared.domain.ids import Partition
from shared.ledger_client import client, send_queue
from shared.messages import Outcome, Reply
from shared.messages.topology import PARTITION_KEYS
from tests.builders import Commands, account_in
from tests.twins.clock import run_virtually
from tests.unit.ledger_wire import Wire, wired

PARTITIONS = 2
MAKE = Commands()
ACCOUNTS = [account_in(partition) for partition in range(PARTITIONS)]
# Longer than any publish takes, any answer is waited for, and all of them together.
ALL_S = 1_000.0

delays_s = st.sampled_from((0.0, 0.0, 0.001, 0.05, 0.3, 2.0))
faults = st.sampled_from((None, None, None, NotPublished("x"), QueueFull("x"), Unroutable("x"), PublishUnknown("x")))


@dataclass(frozen=True, slots=True)
class Ending:
    """How a publish ends, and how long after that the worker answers; None: never."""

    delay_s: float
    fault: PublishFailed | None
    answer_s: float | None


@dataclass(frozen=True, slots=True)
class Send:
    """So many commands are sent at once, and then nothing for a while."""

    partition: int
    count: int
    pause_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens in one example."""

    sends: list[Send]
    endings: list[Ending] = field(default_factory=list[Ending])


plans = st.builds(
    Plan,
    st.lists(st.builds(Send, st.integers(0, PARTITIONS - 1), st.integers(1, 9), delays_s), min_size=1, max_size=20),
    st.lists(st.builds(Ending, delays_s, faults, st.one_of(st.none(), delays_s)), min_size=1, max_size=12),
)


class UnreliableWire(Wire):
    """Ends publishes and answers envelopes as planned, and looks at what is in flight."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.left_of: dict[str, list[str]] = {key: [] for key in PARTITION_KEYS[:PARTITIONS]}
        self.confirmed_of: dict[str, list[str]] = {key: [] for key in PARTITION_KEYS[:PARTITIONS]}
        self.unconfirmed: Counter[str] = Counter()
        self.unconfirmed_max = 0
        self.in_flight_max = 0
        self.outcome_of: dict[str, Outcome] = {}
        self._endings = cycle(plan.endings)

    async def publish(self, channel: object, message: OutgoingMessage) -> None:
        ending = next(self._endings)
        await super().publish(channel, message)
        commands = self.envelopes[-1]
        self.left_of[message.key] += commands
        self.unconfirmed[message.key] += 1
        self.unconfirmed_max = max(self.unconfirmed_max, *self.unconfirmed.values())
        self.in_flight_max = max(self.in_flight_max, *(len(queue._in_flight) for queue in self.client._queues))
        if ending.answer_s is not None and (ending.fault is None or isinstance(ending.fault, PublishUnknown)):
            asyncio.get_running_loop().call_later(ending.delay_s * 0.5 + ending.answer_s, self._answer, commands)
        await asyncio.sleep(ending.delay_s)
        self.unconfirmed[message.key] -= 1
        if ending.fault is not None:
            raise ending.fault
        self.confirmed_of[message.key] += commands

    def _answer(self, commands: list[str]) -> None:
        reply = Reply(outcomes=tuple(self.outcome_of[command] for command in commands))
        self.client._receive(reply.model_dump_json().encode())

    async def play(self, plan: Plan) -> list[list[str]]:
        """Sends as planned; returns the ids of each partition's commands in the order of sending."""
        sent: list[list[str]] = [[] for _ in range(PARTITIONS)]
        for send in plan.sends:
            here, there = ACCOUNTS[send.partition], ACCOUNTS[1 - send.partition]
            for _ in range(send.count):
                command = MAKE.transfer(here, there, 1)
                self.outcome_of[command.id] = Outcome(id=command.id, fingerprint=command.fingerprint, status="posted")
                sent[send.partition].append(command.id)
                self.client.send(command, Partition(send.partition))
            await asyncio.sleep(send.pause_s)
        await asyncio.sleep(ALL_S)
        return sent


async def run(plan: Plan) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Several envelopes of several messages, with few commands.
        patch.setattr(send_queue, "COMMANDS_PER_ENVELOPE_MAX", 5)
        patch.setattr(client, "ENVELOPE_BYTES_MAX", 900)
        async with wired(patch, UnreliableWire(plan)) as wire:
            sent = await wire.play(plan)
    for partition, key in enumerate(PARTITION_KEYS[:PARTITIONS]):
        assert wire.left_of[key] == sent[partition]
        confirmed = set(wire.confirmed_of[key])
        assert wire.confirmed_of[key] == [command for command in sent[partition] if command in confirmed]
    assert wire.unconfirmed_max <= 1
    assert wire.in_flight_max <= send_queue.ENVELOPES_IN_FLIGHT_MAX


@given(plans)
def test_commands_of_a_partition_leave_in_the_order_of_sending_and_one_publish_at_a_time(plan: Plan) -> None:
    run_virtually(run(plan))
