"""The worker's shell against twins, by the seed.

Whatever fails and whenever: each command is decided once, in order, and only what the journal holds is told.
"""

import logging
import os
from collections.abc import Iterator

import pytest
import structlog

from services.ledger_worker import deciding, folding, teller
from services.ledger_worker.core import decide as core
from services.ledger_worker.core.line import Line
from shared.messages import Command
from tests.property.simulation import RAISES, Simulation
from tests.twins.clock import run_virtually

SEEDS = {"quick": 60}.get(os.environ.get("TEST_PROFILE", "quick"), 3_000)
SEED_FIRST = int(os.environ.get("TEST_SEED", "1"))


@pytest.fixture(autouse=True)
def _core_that_breaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that says so breaks the core half-way; little is remembered."""
    whole = core.decide

    def decide(line: Line, command: Command, asking: core.Asking) -> core.Decision:
        if command.reference == RAISES and command.id not in line.world.recent:
            for account in line.accounts.values():
                account.balance += 1
            raise ZeroDivisionError
        return whole(line, command, asking)

    # One line for each of a hundred thousand faults.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    monkeypatch.setattr(deciding, "decide", decide)
    monkeypatch.setattr(teller, "RECENT_MAX", 25)
    monkeypatch.setattr(teller, "FACTS_MAX", 2)
    # A backlog of transit takes several commits, so that credits that are cleared meet older ones that wait.
    monkeypatch.setattr(folding, "ROWS_PER_COMMIT_MAX", 2)
    monkeypatch.setattr(folding, "CREDITS_PER_COMMIT_MAX", 3)
    yield
    structlog.reset_defaults()


async def simulate(seed: int) -> None:
    await Simulation(seed).run()


@pytest.mark.parametrize("seed", range(SEED_FIRST, SEED_FIRST + SEEDS))
def test_every_command_is_decided_once_in_order_and_told_only_when_it_is_in_the_journal(seed: int) -> None:
    run_virtually(simulate(seed))
