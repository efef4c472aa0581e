"""The search for the one command that the database refuses."""

import pytest

from services.ledger_worker.engine.poison import STALE_READS_MAX, PoisonIsolation
from services.ledger_worker.ports import RowRefused, StaleRead
from tests.builders import Commands, account_in

MAKE = Commands()
REFUSED = RowRefused("a NUL")


@pytest.mark.parametrize("commands_max", [1, 3, 4, 4_000])
@pytest.mark.parametrize("count", [2, 15, 1_000])
def test_the_search_ends_however_large_an_envelope_is_against_the_limit(commands_max: int, count: int) -> None:
    """Takes as the inbox does: a whole envelope unless it searches, and then up to the limit."""
    poison = PoisonIsolation(commands_max)
    envelope = [MAKE.transfer(account_in(0), account_in(1), 1) for _ in range(count)]
    guilty = envelope[count // 2]
    waiting = list(envelope)
    for _ in range(4 * count):
        taken = waiting[: poison.limit] if poison.is_searching else waiting
        if poison.reason(guilty) is not None:
            break
        if guilty in taken:
            poison.narrow(REFUSED, taken)
        else:
            waiting = waiting[len(taken) :]
            poison.ease(command.id for command in taken)
    reason = poison.reason(guilty)
    assert reason is not None
    assert "a NUL" in reason
    assert poison.is_active
    assert all(poison.reason(command) is None for command in envelope if command is not guilty)
    poison.ease(command.id for command in envelope)
    assert (poison.reason(guilty), poison.is_active) == (None, poison.limit < commands_max)


def test_a_stale_read_is_a_commands_fault_only_when_it_stays_stale() -> None:
    poison = PoisonIsolation(10)
    stale = StaleRead("entries_pkey")
    assert not any(poison.is_commands_fault(stale) for _ in range(STALE_READS_MAX))
    assert poison.is_commands_fault(stale)
    poison.ease(())
    assert not poison.is_commands_fault(stale)
