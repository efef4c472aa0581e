"""The ledger worker's engine under faults, in virtual time: a thousand schedules, each the same whenever it runs.

Whatever crashes, is lost, comes late or twice: every command that was sent is decided, once; those of one partition in
the order in which their publishes were confirmed, without exemption; the journal passes `verify`; and nothing is told
or acknowledged before the journal holds it.
"""

import logging
import os
import random
from collections.abc import Iterator

import pytest
import structlog

from services.ledger_worker.core import decide as core
from services.ledger_worker.core import transit
from services.ledger_worker.core.outcomes import CommandContext, Decision
from services.ledger_worker.core.state import PartitionState
from services.ledger_worker.engine import apply, commit_loop, transit_in
from shared.messages import Command
from tellerline.verification import transit as verification
from tests.property.random_commands import RAISES
from tests.property.simulation import Simulation
from tests.twins.clock import run_virtually

SEEDS = {"quick": 60}.get(os.environ.get("TEST_PROFILE", "quick"), 3_000)
SEED_FIRST = int(os.environ.get("TEST_SEED", "1"))


@pytest.fixture(autouse=True)
def _core_that_breaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that says so breaks the core half-way; little is remembered."""
    whole = core.decide

    def decide(partition: PartitionState, command: Command, context: CommandContext) -> Decision:
        if command.reference == RAISES and command.id not in partition.ledger.recent:
            for account in partition.accounts.values():
                account.balance += 1
            raise ZeroDivisionError
        return whole(partition, command, context)

    # One line for each of a hundred thousand faults.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    monkeypatch.setattr(apply, "decide", decide)
    monkeypatch.setattr(commit_loop, "RECENT_MAX", 25)
    monkeypatch.setattr(commit_loop, "FACTS_MAX", 2)
    # Each batch nets the transit accounts, which else are netted only when they are very large.
    for module in (transit, verification):
        monkeypatch.setattr(module, "NETTED_FROM", 1)
    # A backlog of transit takes several commits.
    monkeypatch.setattr(transit_in, "ROWS_PER_COMMIT_MAX", 2)
    monkeypatch.setattr(transit_in, "SIZE_PER_COMMIT_MAX", 300)
    yield
    structlog.reset_defaults()


async def simulate(seed: int) -> None:
    random.seed(seed)  # backoff draws from it
    await Simulation(seed).run()


@pytest.mark.parametrize("seed", range(SEED_FIRST, SEED_FIRST + SEEDS))
def test_every_command_is_decided_once_in_order_and_told_only_when_it_is_in_the_journal(seed: int) -> None:
    run_virtually(simulate(seed))
