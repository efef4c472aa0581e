"""What a decision makes of the row of a payout, whatever its state: it is applied once, or changes nothing."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from services.distributor.core.decisions import PayoutDecision
from services.distributor.core.payouts import FUND, Payout, PayoutState, one_shot_address
from services.distributor.store.credits import CreditStore
from services.distributor.store.payouts import PayoutStore
from shared.database import postgres
from shared.mixer.claimed_rows import ClaimLost
from shared.mixer.payout_decisions import PayoutVerb
from tests.backends.databases import Database
from tests.integration.mixer_rows import MixerRows

SET_STATE = """
UPDATE payouts.payouts SET state = $2, stuck_in = $3, reason = $4 WHERE id = $1
"""
SHOWN = "SELECT state, reason FROM payouts.payouts WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Rows:
    """One payout, and both stores of the distributor."""

    owner: postgres.Connection
    credits: CreditStore
    payouts: PayoutStore
    payout: str

    async def decide(self, verb: PayoutVerb, operation: str = "") -> bool | None:
        """The journal's reader finds a decision: whether it was applied; None if it was known before."""
        decision = PayoutDecision(operation or str(uuid.uuid4()), self.payout, verb)
        known = await self.owner.fetchval("SELECT count(*) FROM payouts.decisions")
        await self.credits.record([decision], {})
        if await self.owner.fetchval("SELECT count(*) FROM payouts.decisions") == known:
            return None
        return bool(
            await self.owner.fetchval("SELECT is_applied FROM payouts.decisions WHERE id = $1", decision.operation)
        )

    async def state(self) -> str:
        return str(await self.owner.fetchval("SELECT state FROM payouts.payouts WHERE id = $1", self.payout))


@pytest.fixture
async def rows(database: Database) -> AsyncIterator[Rows]:
    owner = await postgres.connect(database.owner, application="tests")
    written = MixerRows(owner)
    [payout] = await written.payouts(await written.mix(), 1)
    async with await postgres.open_pool(database.distributor, application="tests") as pool:
        yield Rows(owner, CreditStore(pool), PayoutStore(pool), payout)
    await owner.close()


@pytest.mark.parametrize(
    ("state", "stuck_in", "after"),
    [
        ("planned", None, {"resolve": "resolving", "cancel": "cancelling"}),
        ("held", None, {"resolve": "resolving", "cancel": "cancelling"}),
        ("funding", None, {}),
        ("funded", None, {"resolve": "resolving"}),
        ("sending", None, {}),
        ("sent", None, {}),
        ("paid", None, {}),
        ("resolved", None, {}),
        ("cancelled", None, {}),
        ("resolving", None, {}),
        ("cancelling", None, {}),
        ("stuck", "planned", {"retry": "planned", "resolve": "resolving", "cancel": "cancelling"}),
        ("stuck", "held", {"retry": "held", "resolve": "resolving", "cancel": "cancelling"}),
        ("stuck", "funded", {"retry": "funded", "resolve": "resolving"}),
        ("stuck", "sent", {"retry": "sent", "resolve": "resolving"}),
        ("stuck", "resolving", {"retry": "resolving"}),
        ("stuck", "cancelling", {"retry": "cancelling"}),
    ],
)
async def test_a_decision_that_its_payout_does_not_allow_changes_nothing(
    rows: Rows, state: str, stuck_in: str | None, after: dict[str, str]
) -> None:
    for verb in ("retry", "resolve", "cancel"):
        await rows.owner.execute(SET_STATE, rows.payout, state, stuck_in, "why" if stuck_in else None)
        assert await rows.decide(verb) is (verb in after)
        assert await rows.state() == after.get(verb, state)


async def test_a_decision_is_carried_out_once_however_often_it_is_read(rows: Rows) -> None:
    operation = str(uuid.uuid4())
    await rows.owner.execute(SET_STATE, rows.payout, "stuck", "held", "why")
    assert await rows.decide("retry", operation) is True
    await rows.owner.execute(SET_STATE, rows.payout, "stuck", "held", "again")
    assert await rows.decide("retry", operation) is None
    assert await rows.state() == "stuck"


async def test_a_retry_of_what_waits_makes_it_due_and_of_what_is_not_due_yet_does_nothing(rows: Rows) -> None:
    later = "UPDATE payouts.payouts SET next_at = clock_timestamp() + interval '1 day', reason = $2 WHERE id = $1"
    await rows.owner.execute(later, rows.payout, None)
    assert await rows.decide("retry") is False
    assert await rows.payouts.claim(1, 60) == []
    await rows.owner.execute(later, rows.payout, "the house is short")
    assert await rows.decide("retry") is True
    assert [payout.id for payout in await rows.payouts.claim(1, 60)] == [rows.payout]


async def test_nothing_is_sent_for_a_payout_that_was_cancelled_meanwhile(rows: Rows) -> None:
    [claimed] = await rows.payouts.claim(1, 60)
    held = await rows.payouts.move(claimed, replace(claimed, state=PayoutState.HELD, hold=str(uuid.uuid4())))
    assert await rows.decide("cancel") is True
    intent = str(uuid.uuid4())
    under_way = replace(held, state=PayoutState.FUNDING, address=one_shot_address(intent))
    with pytest.raises(ClaimLost):
        await open_funding(rows, held, under_way, intent)
    assert await rows.owner.fetchval("SELECT count(*) FROM payouts.intents") == 0


async def test_a_cancellation_that_comes_after_the_intent_is_too_late(rows: Rows) -> None:
    [claimed] = await rows.payouts.claim(1, 60)
    held = await rows.payouts.move(claimed, replace(claimed, state=PayoutState.HELD, hold=str(uuid.uuid4())))
    intent = str(uuid.uuid4())
    under_way = replace(held, state=PayoutState.FUNDING, address=one_shot_address(intent))
    await open_funding(rows, held, under_way, intent)
    assert await rows.decide("cancel") is False
    assert await rows.state() == "funding"


async def open_funding(rows: Rows, before: Payout, after: Payout, intent: str) -> None:
    await rows.payouts.open_intent(before, after, intent, FUND, after.transfer(FUND, before.destination), 15)
