"""Which faults strike when: a plan that a seed decides, made before the first one."""

import random
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final

from shared.domain.values import value

STRIKES_EVERY_S: Final = 4.5
STRIKES_JITTER_S: Final = 0.5
DOUBLE_EVERY: Final = 4  # one strike in so many is two faults at once


class Action(StrEnum):
    """What is done to a target. All but the first two last for a while and are undone."""

    KILL = "kill"  # SIGKILL
    TERMINATE = "terminate"  # SIGTERM: a clean stop
    STOP = "stop"  # SIGSTOP, later SIGCONT: it keeps its connections and locks, and answers nothing
    SLOW = "slow"  # stopped for most of the time, in turns
    CUT = "cut"  # its connections are closed from the other side
    SHUT_OUT = "shut out"  # its connections are closed, and it cannot connect for a while
    READ_ONLY = "read-only"  # its sessions begin in read-only transactions
    LOCK = "lock"  # another session holds a lock on what it writes
    MISBEHAVE = "misbehave"  # the network answers late, wrongly or not at all, whatever it did


@value
class Kind:
    """One kind of fault. `for_s`: how long it lasts, at least and at most; 0 for what is over at once."""

    action: Action
    target: str
    for_s: tuple[float, float] = (0.0, 0.0)

    @property
    def name(self) -> str:
        """As the report shows it."""
        return f"{self.action} {self.target}"


@value
class Fault:
    """One fault of a plan. `at_s`: since the start. `pick` chooses among several processes of its target: 0 to 1."""

    kind: Kind
    at_s: float
    for_s: float
    pick: float


GATEWAY, WORKER, POLLER, DISTRIBUTOR = "gateway", "ledger_worker", "deposit_poller", "distributor"
NETWORK, BROKER, DATABASE, BACKEND = "jobcoin_network", "rabbitmq", "postgres", "database backend"
SERVICES: Final = (GATEWAY, WORKER, POLLER, DISTRIBUTOR, NETWORK)

KINDS: Final[Sequence[Kind]] = (
    *(Kind(Action.KILL, target) for target in (*SERVICES, BROKER, DATABASE, BACKEND)),
    *(Kind(Action.TERMINATE, target) for target in SERVICES),
    Kind(Action.STOP, GATEWAY, (1, 4)),
    Kind(Action.STOP, WORKER, (1, 12)),
    Kind(Action.STOP, POLLER, (1, 8)),
    Kind(Action.STOP, DISTRIBUTOR, (1, 8)),
    Kind(Action.STOP, NETWORK, (1, 8)),
    Kind(Action.STOP, BROKER, (1, 6)),
    Kind(Action.STOP, BACKEND, (1, 4)),
    Kind(Action.SLOW, WORKER, (3, 6)),
    Kind(Action.SLOW, BROKER, (3, 6)),
    Kind(Action.SLOW, DATABASE, (3, 6)),
    Kind(Action.CUT, BROKER),
    Kind(Action.CUT, DATABASE),
    Kind(Action.SHUT_OUT, GATEWAY, (2, 6)),
    Kind(Action.SHUT_OUT, WORKER, (2, 6)),
    Kind(Action.READ_ONLY, DATABASE, (3, 12)),
    Kind(Action.LOCK, DATABASE, (1, 3)),
    Kind(Action.MISBEHAVE, NETWORK, (4, 12)),
)


def plan(seed: int, minutes: float) -> Sequence[Fault]:
    """The faults of a run, in their order. Every kind comes once before any comes twice."""
    lots = random.Random(seed)  # noqa: S311 - a plan that can be repeated is wanted
    kinds = _shuffled_for_ever(lots)
    faults: list[Fault] = []
    at_s = STRIKES_EVERY_S
    strikes = 0
    while at_s < minutes * 60:
        strikes += 1
        for _ in range(2 if strikes % DOUBLE_EVERY == 0 else 1):
            kind = next(kinds)
            faults.append(Fault(kind, round(at_s, 2), round(lots.uniform(*kind.for_s), 2), lots.random()))
        at_s += STRIKES_EVERY_S + lots.uniform(-STRIKES_JITTER_S, STRIKES_JITTER_S)
    return faults


def _shuffled_for_ever(lots: random.Random) -> Iterator[Kind]:
    while True:
        yield from lots.sample(KINDS, len(KINDS))
