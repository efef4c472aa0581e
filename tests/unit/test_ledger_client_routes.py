"""By which queue the client of the ledger sends a command, and what it does when nobody is heard by it."""

import pytest

from shared import lines
from shared.amqp import Refused
from shared.ids import Partition
from shared.lines import Envelope
from tests.builders import account_in
from tests.unit.ledger_wire import MAKE, Wire, posted


async def test_other_partitions_do_not_wait(wire: Wire) -> None:
    wire.send()
    await wire.left(1)
    wire.client.send(MAKE.move(account_in(1), account_in(0), 1), Partition(1))
    await wire.left(2)


async def test_all_partitions_of_one_worker_share_an_envelope_once_it_has_said_so(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "ANSWER_S_MAX", 3_600.0)
    [first] = wire.send()
    await wire.left(1)
    await wire.tell(posted(first), owned=(0, 1, 2), queue=0)
    routed = [wire.client.send(MAKE.move(account_in(place), account_in(0), 1), Partition(place)) for place in range(4)]
    await wire.left(3)
    assert dict(zip(wire.keys[1:], wire.envelopes[1:], strict=True)) == {
        "p00": [sent.command.id for sent in routed[:3]],
        "p03": [routed[3].command.id],
    }


async def test_what_no_account_routes_goes_to_the_queue_that_decides_it(wire: Wire) -> None:
    [first] = wire.send()
    await wire.left(1)
    await wire.tell(posted(first), owned=(0, 1, 2, 3), queue=0)
    wire.client.send(MAKE.cancel(first.command.id), Partition(2))
    await wire.left(2)
    assert wire.keys == ["p00", "p02"]


async def test_what_the_queue_of_another_partition_does_not_take_goes_by_its_own(wire: Wire) -> None:
    [first] = wire.send()
    await wire.left(1)
    await wire.tell(posted(first), owned=(0, 1), queue=0)
    wire.refusing = "p00"
    [here] = wire.send()
    there = wire.client.send(MAKE.move(account_in(1), account_in(0), 1), Partition(1))
    await wire.left(3)
    assert wire.keys == ["p00", "p00", "p01"]
    assert wire.envelopes[2] == [there.command.id]
    assert isinstance(here.fault, Refused)
    assert there.fault is None
    # And those after it do not try again, though its worker is still heard by what it took before.
    await wire.tell(posted(there), owned=(0, 1), queue=0)
    wire.client.send(MAKE.move(account_in(1), account_in(0), 1), Partition(1))
    await wire.left(4)
    assert wire.keys[3] == "p01"


async def test_a_queue_by_which_nobody_is_heard_keeps_no_other_partition_waiting(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = wire.send()
    await wire.left(1)
    await wire.tell(posted(first), owned=(0, 1), queue=0)
    monkeypatch.setattr(lines, "ANSWER_S_MAX", 0.02)
    wire.send(2)
    await wire.left(2)
    waiting = wire.client.send(MAKE.move(account_in(1), account_in(0), 1), Partition(1))
    await wire.left(3)
    assert wire.keys == ["p00", "p00", "p01"]
    assert wire.envelopes[2] == [waiting.command.id]


async def test_what_goes_to_other_lines_before_the_sender_has_its_turn_leaves_there_alone(wire: Wire) -> None:
    [first] = wire.send()
    await wire.left(1)
    await wire.tell(posted(first), owned=(0, 1), queue=0)
    there = wire.client.send(MAKE.move(account_in(1), account_in(0), 1), Partition(1))
    wire.courier._leave(wire.courier._lines[0], Envelope([first]))  # another one, that is late
    await wire.left(2)
    wire.send()
    await wire.left(3)
    assert wire.keys == ["p00", "p01", "p00"]
    assert wire.envelopes[1] == [there.command.id]
