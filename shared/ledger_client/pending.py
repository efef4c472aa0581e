"""Pending commands: those that wait to be sent or are being sent, and those whose outcome somebody waits for."""

import asyncio
from collections import deque
from typing import Final

from shared.broker.channels import PublishFailed
from shared.domain.values import value
from shared.messages import Command, MixCreate, Outcome, Reply, Settled

# At most this many waiters are woken in one turn of the event loop. More would delay the broker's client, which needs
# several turns to publish the next envelopes.
WOKEN_PER_TURN_MAX: Final = 32


@value
class CommandResult:
    """What the ledger decided. `settled`: the credits in other partitions that are known to have landed."""

    outcome: Outcome
    settled: tuple[Settled, ...] = ()

    @property
    def is_settled(self) -> bool:
        """True once every credit in another partition has landed or was returned."""
        return len(self.settled) >= len(self.outcome.legs)


class PendingCommand:
    """One command, sent once, and all tasks that wait for it. `fault`: why its publish failed; None if it did not.

    `has_left`: its publish has ended, whether it was confirmed or not. `is_abandoned`: nobody waits for it any more.
    `waiters` wait for its end, `publishing` wait until its publish has ended.
    """

    __slots__ = ("command", "fault", "has_left", "is_abandoned", "outcome", "publishing", "settled", "waiters")

    def __init__(self, command: Command | MixCreate) -> None:
        self.command = command
        self.has_left = False
        self.is_abandoned = False
        self.outcome: Outcome | None = None
        self.settled: tuple[Settled, ...] = ()
        self.fault: PublishFailed | None = None
        self.waiters: list[asyncio.Future[None]] = []
        self.publishing: list[asyncio.Future[None]] = []

    @property
    def is_ended(self) -> bool:
        """True when it was decided and every credit has landed, or when its publish failed."""
        if self.outcome is None:
            return self.fault is not None
        return len(self.settled) >= len(self.outcome.legs)

    def wake(self) -> None:
        """Wakes everybody who waits for what has happened."""
        if self.is_ended:
            for waiter in self.waiters:
                _wake(waiter)
        for waiter in self.publishing:
            _wake(waiter)


class PendingCommands:
    """All pending commands of a client. Commands with the same id and another fingerprint are different commands.

    A command is kept, and counted, until it has left and nobody waits for it: `count` bounds the memory of all of them.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, list[PendingCommand]] = {}
        self.count = 0
        self._replies: deque[Reply] = deque()
        self._received = asyncio.Event()
        self.outcomes_unmatched = 0  # outcomes that nobody waited for

    def find(self, command: Command | MixCreate) -> PendingCommand | None:
        """The same command for somebody else to wait for, if it is pending and can still get its outcome."""
        for pending in self._by_id.get(command.id, ()):
            if pending.command.fingerprint == command.fingerprint and pending.fault is None and not pending.is_ended:
                pending.is_abandoned = False
                return pending
        return None

    def add(self, pending: PendingCommand) -> None:
        """Registers the command, so that replies reach it."""
        self._by_id.setdefault(pending.command.id, []).append(pending)
        self.count += 1

    def abandon(self, pending: PendingCommand) -> None:
        """Nobody waits for the command any more: it is forgotten, but not before it has left."""
        pending.is_abandoned = True
        if pending.has_left:
            self.forget(pending)

    def end_publish(self, pending: PendingCommand) -> None:
        """Notes that the command has left. It is forgotten if it was abandoned before."""
        pending.has_left = True
        if pending.publishing:
            pending.wake()
        if pending.is_abandoned:
            self.forget(pending)

    def forget(self, pending: PendingCommand) -> None:
        """Removes the command: replies no longer reach it. Harmless when repeated."""
        same_id = self._by_id.get(pending.command.id)
        if same_id is not None and pending in same_id:
            self.count -= 1
            same_id.remove(pending)
            if not same_id:
                del self._by_id[pending.command.id]

    def receive(self, reply: Reply) -> None:
        """Takes in a worker's reply. A single outcome is delivered at once, several in the turns of `run`."""
        if len(reply.outcomes) > 1:
            self._replies.append(reply)
            self._received.set()
        else:
            self._decide(reply.outcomes)
            self._settle(reply.settled)

    async def run(self) -> None:
        """Delivers outcomes until cancelled."""
        while True:
            await self._received.wait()
            self._received.clear()
            while self._replies:
                reply = self._replies.popleft()
                for first in range(0, len(reply.outcomes), WOKEN_PER_TURN_MAX):
                    self._decide(reply.outcomes[first : first + WOKEN_PER_TURN_MAX])
                    await asyncio.sleep(0)
                self._settle(reply.settled)

    def _decide(self, outcomes: tuple[Outcome, ...]) -> None:
        """Keeps the first outcome that comes for each command."""
        for outcome in outcomes:
            is_matched = False
            for pending in self._by_id.get(outcome.id, ()):
                if pending.command.fingerprint == outcome.fingerprint:
                    if pending.outcome is None:
                        # If the same command was sent several times, all but the first are repeats.
                        pending.outcome = outcome.model_copy(update={"replayed": True}) if is_matched else outcome
                        pending.wake()
                    is_matched = True
            if not is_matched:
                self.outcomes_unmatched += 1

    def _settle(self, settled: tuple[Settled, ...]) -> None:
        """Notes that credits have landed. That may be told before the outcome, or twice."""
        for landed in settled:
            for pending in self._by_id.get(landed.id, ()):
                if all(landed.partition != known.partition for known in pending.settled):
                    pending.settled += (landed,)
                    pending.wake()


async def wait_in(waiters: list["asyncio.Future[None]"], timeout_s: float) -> None:
    """Returns when the time is up, or when somebody wakes those in the list.

    `asyncio.timeout` would cost three times as much.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    waiters.append(waiter)
    timer = loop.call_later(timeout_s, _wake, waiter)
    try:
        await waiter
    finally:
        timer.cancel()
        waiters.remove(waiter)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
