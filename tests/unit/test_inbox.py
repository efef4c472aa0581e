"""The worker's inbox: which envelopes can be read, and in which order what came in is taken and put back."""

from collections.abc import Sequence

import pytest

from services.ledger_worker.engine.intake import Inbox, PendingDelivery
from services.ledger_worker.ports import Delivery
from shared.domain.ids import Partition
from shared.domain.rejections import Rejection
from shared.messages import Command
from shared.messages.envelopes import ENVELOPE_KIND, envelope_body, sign
from tests.builders import SECRET, Commands, account_in
from tests.property.envelopes import MAC_KEY
from tests.twins.clock import LoopClock

MAKE = Commands()
HERE, THERE = Partition(0), Partition(1)
CHANNEL = object()


class FilledInbox:
    """An inbox of two open partitions."""

    def __init__(self) -> None:
        self.inbox = Inbox(4, [SECRET], LoopClock())
        self.tags = dict.fromkeys((HERE, THERE), 0)
        for partition in self.tags:
            self.inbox.open(partition)

    def deliver(self, partition: Partition, *counts: int) -> None:
        """Envelopes with so many commands."""
        for count in counts:
            self.deliver_body(partition, envelope_body([MAKE.deposit(account_in(partition), 1) for _ in range(count)]))

    def deliver_body(
        self, partition: Partition, body: bytes, *, mac: object = None, kind: str | None = ENVELOPE_KIND
    ) -> None:
        self.tags[partition] += 1
        signature = sign(MAC_KEY, body) if mac is None else mac
        tag = self.tags[partition]
        self.inbox.deliver(Delivery(partition, body, signature, "sender", False, CHANNEL, tag, kind))

    def take(self, commands_max: int = 1_000) -> list[PendingDelivery]:
        return self.inbox.take([HERE, THERE], commands_max)

    def suspect_all(self) -> None:
        """All that waits has failed."""
        taken = self.take()
        self.inbox.put_back(taken)
        self.inbox.suspect(taken, 2)

    def refusals(self) -> list[str | None]:
        return [pending.refused for pending in self.take()]


def places(taken: Sequence[PendingDelivery]) -> list[tuple[int, int]]:
    """Partition and tag of each."""
    return [(pending.delivery.partition, pending.delivery.tag) for pending in taken]


async def test_an_envelope_is_read_whole_and_in_order() -> None:
    it = FilledInbox()
    commands = [
        MAKE.deposit(account_in(0), 1),
        MAKE.transfer(account_in(0), account_in(3), 2),
        MAKE.close(account_in(0)),
    ]
    it.deliver_body(HERE, envelope_body(commands))
    [pending] = it.take()
    assert (list(pending.commands), pending.refused, pending.is_last_part) == (commands, None, True)


@pytest.mark.parametrize(
    ("body", "mac", "kind", "reason"),
    [
        (b"{}", None, "cmd.v9", "unknown kind 'cmd.v9'"),
        (b"{}", None, None, "unknown kind None"),
        (b"{}", "00", ENVELOPE_KIND, "the signature does not verify"),
        (b"{}", b"00", ENVELOPE_KIND, "the signature does not verify"),
        (b"{}", "é", ENVELOPE_KIND, "the signature does not verify"),
        (b"{}", 7, ENVELOPE_KIND, "the signature does not verify"),
        (b"{}", None, ENVELOPE_KIND, "not an envelope"),
        (b"\xff\xfe", None, ENVELOPE_KIND, "not an envelope"),
        (b'{"v":1,"commands":[]}', None, ENVELOPE_KIND, "not an envelope"),
        (b'{"v":1,"commands":[{"kind":"transfer.v1"}]}', None, ENVELOPE_KIND, "not an envelope"),
    ],
)
async def test_what_cannot_be_read_is_refused_in_its_turn_with_the_reason(
    body: bytes, mac: object, kind: str | None, reason: str
) -> None:
    it = FilledInbox()
    it.deliver(HERE, 1)
    it.deliver_body(HERE, body, mac=mac, kind=kind)
    it.deliver(HERE, 1)
    before, refused, after = it.refusals()
    assert (before, after) == (None, None)
    assert refused is not None
    assert refused.startswith(reason)


@pytest.mark.parametrize(
    "command",
    [
        MAKE.transfer(account_in(1), account_in(0), 1),
        MAKE.deposit(account_in(1), 1),
        MAKE.open(account_in(1)),
        MAKE.hold(account_in(1), 1),
        MAKE.capture(MAKE.hold(account_in(1), 1), account_in(0)),
    ],
)
async def test_an_envelope_with_a_command_of_another_partition_is_refused_whole(command: Command) -> None:
    it = FilledInbox()
    it.deliver_body(HERE, envelope_body([MAKE.deposit(account_in(0), 1), command]))
    [pending] = it.take()
    assert pending.refused is not None
    assert f"{command.id} belongs to another partition" in pending.refused
    assert pending.commands == ()


@pytest.mark.parametrize(
    "command",
    [MAKE.cancel(MAKE.open(account_in(1)).id), MAKE.refuse(Rejection.ADDRESS_REFUSED), MAKE.asset_create("GOLD", 2)],
)
async def test_a_command_without_an_account_is_decided_by_the_partition_of_its_queue(command: Command) -> None:
    it = FilledInbox()
    it.deliver_body(THERE, envelope_body([command]))
    assert it.refusals() == [None]


async def test_as_many_commands_are_taken_as_there_is_room_for_and_never_less_than_an_envelope() -> None:
    it = FilledInbox()
    it.deliver(HERE, 3, 3, 3)
    it.deliver(THERE, 1)
    assert places(it.take(7)) == [(0, 1), (0, 2), (1, 1)]
    assert places(it.take(2)) == [(0, 3)]
    assert not it.inbox.has_work([HERE, THERE])


async def test_a_search_takes_envelopes_in_parts_of_which_the_last_is_acknowledged() -> None:
    it = FilledInbox()
    it.deliver(HERE, 5)
    it.suspect_all()
    parts = [it.take(2) for _ in range(3)]
    assert [[len(part.commands) for part in taken] for taken in parts] == [[2], [2], [1]]
    assert [part.is_last_part for [part] in parts] == [False, False, True]


async def test_what_is_put_back_is_taken_again_in_the_same_order_before_what_came_since() -> None:
    it = FilledInbox()
    it.deliver(HERE, 4, 1)
    it.deliver(THERE, 1, 1)
    it.suspect_all()
    taken = [*it.take(2), *it.take(100)]
    it.deliver(HERE, 1)
    it.deliver(THERE, 1)
    it.inbox.put_back(taken)
    again = sorted([*it.take(), *it.take()], key=lambda pending: pending.delivery.partition)
    assert places(again) == [(0, 1), (0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]
    assert [part.is_last_part for part in again] == [False, True, True, True, True, True, True]


async def test_while_suspect_deliveries_wait_only_they_are_taken() -> None:
    it = FilledInbox()
    it.deliver(HERE, 1)
    it.deliver(THERE, 3)
    it.suspect_all()
    it.deliver(HERE, 1)
    it.deliver(THERE, 1)
    assert [it.inbox.suspected_max([HERE, THERE]), places(it.take(2)), places(it.take(2))] == [
        2,
        [(0, 1), (1, 1)],
        [(1, 1)],
    ]
    assert it.inbox.suspected_max([HERE, THERE]) is None
    assert places(it.take()) == [(0, 2), (1, 2)]


async def test_a_partition_with_a_backlog_keeps_no_other_waiting() -> None:
    it = FilledInbox()
    it.deliver(HERE, *[10] * 5)
    assert places(it.take(10)) == [(0, 1)]
    it.deliver(THERE, 10)
    assert [places(it.take(10)), places(it.take(10))] == [[(1, 1)], [(0, 2)]]


async def test_of_a_partition_that_was_closed_nothing_is_kept_taken_in_or_put_back() -> None:
    it = FilledInbox()
    it.deliver(HERE, 1, 1)
    it.deliver(THERE, 1)
    taken = it.take(1)
    it.inbox.close(HERE)
    it.deliver(HERE, 1)
    it.inbox.put_back(taken)
    assert places(it.take()) == [(1, 1)]
    it.inbox.open(HERE)
    assert it.take() == []


async def test_what_waits_is_dropped_with_its_channel_and_no_other_partitions() -> None:
    it = FilledInbox()
    it.deliver(HERE, 1, 1)
    it.deliver(THERE, 1)
    taken = it.take(1)
    it.inbox.channel_lost(HERE)
    it.deliver(HERE, 1)
    it.inbox.put_back(taken)
    assert places(it.take()) == [(1, 1), (0, 1), (0, 3)]


async def test_every_news_wakes_the_loop_and_a_nudge_counts_only_where_there_are_other_partitions() -> None:
    it = FilledInbox()
    it.deliver(HERE, 1)
    assert it.inbox.wake.is_set()
    it.inbox.wake.clear()
    it.inbox.nudge_all()
    assert (it.inbox.wake.is_set(), it.inbox.is_nudged) == (True, True)
    alone = Inbox(1, [SECRET], LoopClock())
    alone.nudge_all()
    assert not alone.is_nudged


async def test_of_several_nudges_only_the_first_wakes_the_loop_which_then_looks_for_all() -> None:
    inbox = Inbox(4, [SECRET], LoopClock())
    inbox.nudge(HERE, Partition(2), 1)
    assert inbox.wake.is_set()
    inbox.wake.clear()
    inbox.nudge(THERE, Partition(2), 1)
    assert not inbox.wake.is_set()
    inbox.take_nudges()
    inbox.nudge(HERE, Partition(2), 2)
    assert inbox.wake.is_set()


async def test_nudges_are_taken_once_with_the_last_batch_of_each_pair_unless_any_pair_may_have_rows() -> None:
    inbox = Inbox(4, [SECRET], LoopClock())
    for source, batch in ((HERE, 3), (HERE, 2), (THERE, 1)):
        inbox.nudge(source, Partition(2), batch)
    assert inbox.is_nudged
    assert inbox.take_nudges() == {(HERE, 2): 3, (THERE, 2): 1}
    assert (inbox.is_nudged, inbox.take_nudges()) == (False, {})
    inbox.nudge(HERE, Partition(2), 3)
    inbox.nudge_all()
    assert (inbox.take_nudges(), inbox.is_nudged) == (None, False)
