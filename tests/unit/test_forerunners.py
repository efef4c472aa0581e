"""What a worker takes in once, though it comes both straight from its sender and by the broker."""

from typing import Any

import pytest

from services.ledger_worker import forerunners, intake
from services.ledger_worker.core.line import World
from services.ledger_worker.intake import EnvelopeReader, Intake, Opened
from services.ledger_worker.ports import Inbound
from shared.envelopes import ENVELOPE_KIND, envelope_body, envelope_mac
from shared.ids import Partition, subkey
from tests.builders import SECRET, Commands, account_in

MAKE = Commands()
HERE, THERE = Partition(0), Partition(1)
CHANNEL = object()


class Line:
    """The deliveries of one partition, as a worker takes them in."""

    def __init__(self) -> None:
        self.intake = Intake(EnvelopeReader(World(4), SECRET))
        self.tag = 0

    def ahead(self, body: bytes, *, name: str = "m", reply_to: str = "sender", partition: Partition = HERE) -> None:
        inbound = Inbound(partition, body, mac_of(body), reply_to, False, None, 0, ENVELOPE_KIND, name)
        assert self.intake.add(inbound, 0.0) is None

    def copy(self, body: bytes, *, name: str = "m", mac: str | None = None) -> tuple[Inbound, Inbound | None]:
        """By the broker; returns the delivery, and what can be acknowledged of it."""
        self.tag += 1
        mac = mac or mac_of(body)
        inbound = Inbound(HERE, body, mac, "sender", False, CHANNEL, self.tag, ENVELOPE_KIND, name)
        return inbound, self.intake.add(inbound, 0.0)

    def taken(self) -> list[Opened]:
        """What is to be decided."""
        return self.intake.inbox.take([HERE, THERE], 1_000, split=False)


def mac_of(body: bytes) -> str:
    return envelope_mac(subkey(SECRET, "envelope"), body)


def body() -> bytes:
    return envelope_body([MAKE.move(account_in(0), account_in(1), 1)])


def test_the_copy_that_comes_before_its_forerunner_is_finished_is_acknowledged_with_it() -> None:
    line, one = Line(), body()
    line.ahead(one)
    copy, finished = line.copy(one)
    assert finished is None
    [opened] = line.taken()
    assert opened.finish() is copy


def test_the_copy_that_comes_after_its_forerunner_was_finished_is_acknowledged_at_once() -> None:
    line, one = Line(), body()
    line.ahead(one)
    [opened] = line.taken()
    assert opened.finish() is None
    copy, finished = line.copy(one)
    assert finished is copy
    assert line.taken() == []


def test_a_forerunner_that_the_broker_overtook_is_not_decided() -> None:
    line, one = Line(), body()
    copy, _ = line.copy(one)
    line.ahead(one)
    [opened] = line.taken()
    assert opened.inbound is copy
    assert opened.finish() is copy


def test_the_same_commands_sent_again_are_another_envelope() -> None:
    line, one = Line(), body()
    line.ahead(one)
    [opened] = line.taken()
    opened.finish()
    again, finished = line.copy(one, name="another")
    assert finished is None
    assert [opened.inbound for opened in line.taken()] == [again]
    copy, finished = line.copy(one)
    assert finished is copy


@pytest.mark.parametrize("other", [{"reply_to": "another"}, {"partition": THERE}, {"name": "another"}])
def test_an_envelope_of_another_sender_queue_or_name_is_another(other: dict[str, Any]) -> None:
    line, one = Line(), body()
    line.ahead(one, **other)
    copy, finished = line.copy(one)
    assert finished is None
    assert copy in [opened.inbound for opened in line.taken()]


def test_what_waited_in_a_line_that_was_dropped_is_decided_when_the_broker_delivers_it() -> None:
    line, one, other = Line(), body(), body()
    line.ahead(one)
    line.ahead(other, name="other", partition=THERE)
    line.intake.drop(HERE)
    _, finished = line.copy(one)
    assert finished is None
    assert {opened.inbound.partition for opened in line.taken()} == {HERE, THERE}


def test_what_came_ahead_outlives_the_channel_and_meets_what_is_delivered_anew() -> None:
    line, one, other = Line(), body(), body()
    line.ahead(one)
    line.copy(other, name="other")
    line.intake.inbox.drop_delivered(HERE)
    [opened] = line.taken()
    assert opened.inbound.is_ahead
    copy, _ = line.copy(one)
    assert opened.finish() is copy
    again, finished = line.copy(other, name="other")
    assert finished is None
    assert [taken.inbound for taken in line.taken()] == [again]


def test_a_line_that_is_long_takes_nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "DEPTH_AHEAD_MAX", 2)
    line, envelopes = Line(), [body() for _ in range(3)]
    for number, each in enumerate(envelopes):
        line.ahead(each, name=str(number))
    assert len(line.taken()) == 2
    left, finished = line.copy(envelopes[2], name="2")
    assert finished is None
    assert [opened.inbound for opened in line.taken()] == [left]


def test_a_part_of_an_envelope_acknowledges_nothing_and_the_last_part_all_of_it() -> None:
    line, one = Line(), envelope_body([MAKE.move(account_in(0), account_in(1), 1) for _ in range(3)])
    line.ahead(one)
    copy, _ = line.copy(one)
    [opened] = line.taken()
    first, rest = opened.split(1)
    assert first.finish() is None
    assert rest.finish() is copy


@pytest.mark.parametrize("wrong", [b"{}", b"rubbish"])
def test_a_forerunner_that_cannot_be_read_is_left_to_the_broker(wrong: bytes) -> None:
    line = Line()
    line.ahead(wrong)
    assert line.taken() == []
    copy, finished = line.copy(wrong)
    assert finished is None
    [opened] = line.taken()
    assert opened.inbound is copy
    assert opened.parked is not None


def test_a_copy_whose_signature_does_not_verify_stands_for_no_forerunner() -> None:
    line, one = Line(), body()
    line.ahead(one)
    tampered, finished = line.copy(one + b" ", mac=mac_of(one))
    assert finished is None
    assert [opened.parked is not None for opened in line.taken() if opened.inbound is tampered] == [True]


def test_what_is_known_is_bounded_and_forgetting_means_deciding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forerunners, "KNOWN_MAX", 2)
    line, envelopes = Line(), [body() for _ in range(3)]
    for each in envelopes:
        line.ahead(each)
    for opened in line.taken():
        opened.finish()
    assert [finished is copy for copy, finished in map(line.copy, reversed(envelopes))] == [True, True, False]
    assert len(line.taken()) == 1
