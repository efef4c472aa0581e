"""Pending commands: who is woken when, turn by turn of the event loop."""

import asyncio

from shared.ledger_client.pending import WOKEN_PER_TURN_MAX, PendingCommand, PendingCommands
from shared.messages import Outcome, Reply, Settled
from tests.unit.ledger_wire import transfer

TURNS_MAX = 20


class Waiters:
    """Commands that somebody waits for."""

    def __init__(self, count: int) -> None:
        self.all = PendingCommands()
        self.each = [PendingCommand(transfer()) for _ in range(count)]
        for pending in self.each:
            self.all.add(pending)

    def reply(self, first: int, last: int, *, legs: tuple[int, ...] = (), settled: bool = False) -> Reply:
        commands = [pending.command for pending in self.each[first:last]]
        return Reply(
            outcomes=tuple(
                Outcome(id=command.id, fingerprint=command.fingerprint, status="posted", legs=legs)
                for command in commands
            ),
            settled=tuple(Settled(id=each.id, partition=1, account="a") for each in commands) if settled else (),
        )

    def decided(self) -> int:
        return sum(pending.outcome is not None for pending in self.each)

    async def each_turn(self) -> list[int]:
        """How many were decided after each turn in which that changed."""
        running = asyncio.get_running_loop().create_task(self.all.run())
        seen = [0]
        for _ in range(TURNS_MAX):
            await asyncio.sleep(0)
            if self.decided() != seen[-1]:
                seen.append(self.decided())
        running.cancel()
        return seen[1:]


async def test_a_single_waiting_command_is_woken_at_once() -> None:
    one = Waiters(1)
    one.all.receive(one.reply(0, 1, legs=(1,), settled=True))
    assert one.each[0].is_ended


async def test_many_are_woken_some_at_each_turn_after_whatever_leaves_first() -> None:
    many = Waiters(2 * WOKEN_PER_TURN_MAX + 3)
    many.all.receive(many.reply(0, len(many.each)))
    assert many.decided() == 0
    assert await many.each_turn() == [WOKEN_PER_TURN_MAX, 2 * WOKEN_PER_TURN_MAX, 2 * WOKEN_PER_TURN_MAX + 3]


async def test_replies_that_come_together_are_all_delivered() -> None:
    many = Waiters(9)
    for first in (0, 3, 6):
        many.all.receive(many.reply(first, first + 3))
    assert await many.each_turn() == [3, 6, 9]


async def test_what_is_settled_counts_for_each_outcome_of_the_reply() -> None:
    many = Waiters(3)
    many.all.receive(many.reply(0, 3, legs=(1,), settled=True))
    assert await many.each_turn() == [3]
    assert all(pending.is_ended for pending in many.each)


async def test_outcomes_that_nobody_waits_for_are_counted() -> None:
    waiting, gone = Waiters(1), Waiters(3)
    waiting.all.receive(gone.reply(0, 1))
    waiting.all.receive(gone.reply(0, 3))
    await waiting.each_turn()
    assert waiting.all.outcomes_unmatched == 4


async def test_of_two_that_sent_the_same_command_the_second_is_told_of_a_repeat() -> None:
    one = Waiters(1)
    again = PendingCommand(one.each[0].command)
    one.all.add(again)
    one.all.receive(one.reply(0, 1))
    outcomes = [pending.outcome for pending in (one.each[0], again)]
    assert [outcome.replayed for outcome in outcomes if outcome is not None] == [False, True]
