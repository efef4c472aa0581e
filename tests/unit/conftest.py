"""Fixtures of the unit tests."""

from collections.abc import AsyncIterator

import pytest

from shared import lines
from tests.unit.ledger_wire import Wire, wired


@pytest.fixture
async def wire(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    async with wired(monkeypatch) as wire:
        yield wire


@pytest.fixture
def no_answer_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "ANSWER_S_MAX", 3_600.0)
