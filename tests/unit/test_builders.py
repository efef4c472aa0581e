"""What the builders of the tests promise."""

from shared.domain.ids import partition_of
from shared.messages import CommandEnvelope
from tests.builders import Commands, account_in, envelope


def test_the_same_key_and_content_make_the_same_command() -> None:
    commands, account = Commands(), account_in(1)
    assert commands.deposit(account, 5, key="k") == commands.deposit(account, 5, key="k")
    assert commands.deposit(account, 5, key="k").fingerprint != commands.deposit(account, 6, key="k").fingerprint
    assert commands.deposit(account, 5).id != commands.deposit(account, 5).id


def test_a_deposit_lies_in_one_partition() -> None:
    [posting] = Commands().deposit(account_in(3), 1).postings
    assert partition_of(posting.source, 4) == partition_of(posting.destination, 4) == 3


def test_every_command_survives_the_wire() -> None:
    commands, account, other = Commands(), account_in(0), account_in(0)
    placed = commands.hold(account, 3, destination=other, expires_in_s=60)
    sent = envelope(
        commands.open(account, overdraft_limit=7),
        commands.update(account, status="frozen"),
        commands.close(other),
        commands.asset_create("XAU", 6),
        commands.withdrawal(account, 10**30),
        placed,
        commands.capture(placed, other),
        commands.void(placed),
        commands.cancel(placed.id),
    )
    assert CommandEnvelope.model_validate_json(sent.model_dump_json()) == sent
