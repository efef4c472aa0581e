"""Who is woken when, turn by turn of the loop."""

import asyncio

from shared.messages import Outcome, Reply, Settled
from shared.sending import InFlight, Sent
from shared.waking import WOKEN_AT_ONCE_MAX, Waking
from tests.builders import Commands, account_in

MAKE = Commands()
TURNS_MAX = 20


class Waiters:
    """Commands that somebody waits for."""

    def __init__(self, count: int) -> None:
        in_flight = InFlight()
        self.sent = [Sent(MAKE.move(account_in(0), account_in(1), 1)) for _ in range(count)]
        for each in self.sent:
            in_flight.add(each)
        self.waking = Waking(in_flight)

    def reply(self, first: int, last: int, *, legs: tuple[int, ...] = (), settled: bool = False) -> Reply:
        commands = [each.command for each in self.sent[first:last]]
        return Reply(
            outcomes=tuple(
                Outcome(id=command.id, fingerprint=command.fingerprint, status="posted", legs=legs)
                for command in commands
            ),
            settled=tuple(Settled(id=each.id, partition=1, account="a") for each in commands) if settled else (),
        )

    def decided(self) -> int:
        return sum(each.outcome is not None for each in self.sent)

    async def each_turn(self) -> list[int]:
        """How many were decided after each turn in which that changed."""
        running = asyncio.get_running_loop().create_task(self.waking.run())
        seen = [0]
        for _ in range(TURNS_MAX):
            await asyncio.sleep(0)
            if self.decided() != seen[-1]:
                seen.append(self.decided())
        running.cancel()
        return seen[1:]


async def test_who_is_alone_is_woken_at_once() -> None:
    one = Waiters(1)
    one.waking.give(one.reply(0, 1, legs=(1,), settled=True))
    assert one.sent[0].is_ended


async def test_many_are_woken_some_at_each_turn_after_whatever_leaves_first() -> None:
    many = Waiters(2 * WOKEN_AT_ONCE_MAX + 3)
    many.waking.give(many.reply(0, len(many.sent)))
    assert many.decided() == 0
    assert await many.each_turn() == [WOKEN_AT_ONCE_MAX, 2 * WOKEN_AT_ONCE_MAX, 2 * WOKEN_AT_ONCE_MAX + 3]


async def test_replies_that_come_together_are_all_given_out() -> None:
    many = Waiters(9)
    for first in (0, 3, 6):
        many.waking.give(many.reply(first, first + 3))
    assert await many.each_turn() == [3, 6, 9]


async def test_what_is_settled_counts_for_each_outcome_of_the_reply() -> None:
    many = Waiters(3)
    many.waking.give(many.reply(0, 3, legs=(1,), settled=True))
    assert await many.each_turn() == [3]
    assert all(each.is_ended for each in many.sent)


async def test_outcomes_that_nobody_waits_for_are_counted() -> None:
    waiting, gone = Waiters(1), Waiters(3)
    waiting.waking.give(gone.reply(0, 1))
    waiting.waking.give(gone.reply(0, 3))
    await waiting.each_turn()
    assert waiting.waking.unmatched == 4
