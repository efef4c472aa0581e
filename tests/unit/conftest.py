"""Fixtures of the unit tests."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.ledger_wire import Wire, wired


@pytest.fixture
async def wire(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    async with wired(monkeypatch) as wire:
        yield wire
