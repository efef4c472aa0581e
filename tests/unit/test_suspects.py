"""The search for the one command that the database refuses."""

import pytest

from services.ledger_worker.ports import RowRefused
from services.ledger_worker.suspects import Suspects
from tests.builders import Commands, account_in

MAKE = Commands()
REFUSED = RowRefused("a NUL")


@pytest.mark.parametrize("commands_max", [1, 3, 4, 4_000])
@pytest.mark.parametrize("count", [2, 15, 1_000])
def test_the_search_ends_however_large_an_envelope_is_against_the_limit(commands_max: int, count: int) -> None:
    """Takes as the inbox does: a whole envelope unless it searches, and then up to the limit."""
    suspects = Suspects(commands_max)
    envelope = [MAKE.move(account_in(0), account_in(1), 1) for _ in range(count)]
    guilty = envelope[count // 2]
    waiting = list(envelope)
    for _ in range(4 * count):
        taken = waiting[: suspects.limit] if suspects.is_searching else waiting
        if suspects.reason(guilty) is not None:
            break
        if guilty in taken:
            suspects.narrow(REFUSED, taken)
        else:
            waiting = waiting[len(taken) :]
            suspects.ease(command.id for command in taken)
    reason = suspects.reason(guilty)
    assert reason is not None
    assert "a NUL" in reason
    assert all(suspects.reason(command) is None for command in envelope if command is not guilty)
