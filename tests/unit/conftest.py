"""Fixtures of the unit tests."""

from collections.abc import AsyncIterator

import pytest

from shared.ledger_client import send_queue
from tests.unit.ledger_wire import Wire, wired


@pytest.fixture
async def wire(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    async with wired(monkeypatch, Wire()) as wire:
        yield wire


@pytest.fixture
def no_answer_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_queue, "ANSWER_TIMEOUT_S", 3_600.0)
