"""Commands on their way: what is known of their end, and who waits for it."""

import asyncio
from dataclasses import dataclass, field

from shared.amqp import BusError
from shared.messages import Command, MixCreate, Outcome, Settled
from shared.values import value


@value
class Answer:
    """What the ledger decided; `settled` holds what is known of credits in other partitions."""

    outcome: Outcome
    settled: tuple[Settled, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Whether every leg has landed (or returned)."""
        return len(self.settled) >= len(self.outcome.legs)


@dataclass(slots=True, eq=False)
class Sent:
    """A command on its way. Several callers may wait for the same one.

    `fault`: how its publish ended, if not well. `went_ahead`: a worker may have it all the same, and answer.
    """

    command: Command | MixCreate
    outcome: Outcome | None = None
    settled: tuple[Settled, ...] = ()
    fault: BusError | None = None
    went_ahead: bool = False
    waiting: list["asyncio.Future[None]"] = field(default_factory=list["asyncio.Future[None]"])

    @property
    def is_ended(self) -> bool:
        """Decided with every leg settled, or on no way to a worker."""
        if self.outcome is None:
            return self.fault is not None and not self.went_ahead
        return len(self.settled) >= len(self.outcome.legs)

    async def wait(self, timeout_s: float) -> None:
        """Returns when it is ended or the time is up: requests wait here, since `asyncio.timeout` costs thrice."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self.waiting.append(woken)
        timer = loop.call_later(timeout_s, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()
            self.waiting.remove(woken)

    def wake(self) -> None:
        """Lets everybody who waits look again."""
        if self.is_ended:
            for woken in self.waiting:
                _wake(woken)


class InFlight:
    """What somebody waits for. The same id with other content is another question, with another answer."""

    def __init__(self) -> None:
        self._by_id: dict[str, list[Sent]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, command: Command | MixCreate) -> Sent | None:
        """The same command, sent before, and neither ended nor failed; None when there is none."""
        for sent in self._by_id.get(command.id, ()):
            if sent.command.fingerprint == command.fingerprint and sent.fault is None and not sent.is_ended:
                return sent
        return None

    def went_ahead(self, command: Command | MixCreate) -> bool:
        """Whether a worker may have the same command already, of somebody who waits for it."""
        return any(
            sent.went_ahead
            for sent in self._by_id.get(command.id, ())
            if sent.command.fingerprint == command.fingerprint
        )

    def add(self, sent: Sent) -> None:
        """From here on replies reach it."""
        self._by_id.setdefault(sent.command.id, []).append(sent)
        self._count += 1

    def forget(self, sent: Sent) -> None:
        """Nobody waits for it any more; harmless when repeated."""
        same_id = self._by_id.get(sent.command.id)
        if same_id is not None and sent in same_id:
            self._count -= 1
            same_id.remove(sent)
            if not same_id:
                del self._by_id[sent.command.id]

    def decide(self, outcome: Outcome) -> bool:
        """Takes an outcome in, the first of each. False: nobody waits for it."""
        is_known = False
        for sent in self._by_id.get(outcome.id, ()):
            if sent.command.fingerprint == outcome.fingerprint:
                if sent.outcome is None:
                    # Whoever sent it anew repeats what the first has.
                    sent.outcome = outcome.model_copy(update={"replayed": True}) if is_known else outcome
                    sent.wake()
                is_known = True
        return is_known

    def settle(self, settled: Settled) -> None:
        """Takes in that a leg has landed; that may be told before the outcome, or twice."""
        for sent in self._by_id.get(settled.id, ()):
            if all(settled.partition != known.partition for known in sent.settled):
                sent.settled += (settled,)
                sent.wake()


def _wake(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)
