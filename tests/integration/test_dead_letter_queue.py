"""A message that is sent back is never lost."""

import aiormq
import pytest

from services.gateway.store.dead_letters import DeadLetterQueue
from tests.integration.dead_letters import QUEUE, add, waiting


class CutOff(Exception):
    """The gateway is gone."""


async def sent_back(broker: str, identity: str) -> None:
    async with DeadLetterQueue(broker).held(identity) as held:
        assert held is not None
        await held.end(send_back=True)


async def test_whoever_is_cut_off_between_confirm_and_acknowledgement_leaves_it_twice_and_never_loses_it(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = await add(broker)

    async def gone(*_: object, **__: object) -> None:
        raise CutOff

    monkeypatch.setattr(aiormq.Channel, "basic_ack", gone)
    with pytest.raises(CutOff):
        await sent_back(broker, identity)
    monkeypatch.undo()
    assert (await waiting(broker), await waiting(broker, QUEUE)) == (1, 1)
