"""An operator ends what no time heals. Each decision is journaled, carried out once, and harmless when it is late."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import cast

import pytest

from services.distributor.core.decisions import PayoutDecision
from services.distributor.core.payouts import FUND, Payout, PayoutState, one_shot_address
from services.distributor.store.credits import CreditStore
from services.distributor.store.payouts import PayoutStore
from shared.database import postgres
from shared.mixer.claimed_rows import ClaimLost
from shared.mixer.payout_decisions import PayoutVerb
from tests.backends.databases import Database
from tests.builders import SECRET
from tests.integration.gateway import Client, Stack
from tests.integration.mixer import HOUSE, MixerScene, mixer_scene
from tests.integration.mixer_rows import JOB, MixerRows
from tests.integration.mixer_stage import Stage
from tests.integration.test_operator import tellerline

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


@dataclass(frozen=True, slots=True)
class Operated:
    """A mixer whose house is empty, so that its payouts wait, and an operator's way to it."""

    here: MixerScene
    api: Client
    mix: str
    amount: int

    async def payouts(self, status: str = "") -> list[dict[str, object]]:
        query = f"?status={status}" if status else ""
        rows = await self.api.rows(f"/v1/operator/payouts{query}")
        return [row for row in rows if row["mix"] == self.mix]

    async def until(self, status: str, count: int) -> None:
        async def so_many() -> bool:
            return len(await self.payouts(status)) == count

        await self.here.until(so_many)

    async def account(self) -> tuple[int, int]:
        row = await self.here.owner.fetchrow(
            "SELECT balance, held FROM ledger.account_heads WHERE id = $1", f"mix:{self.mix}"
        )
        assert row is not None
        return int(row["balance"]), int(row["held"])

    async def refill(self, coins: str) -> None:
        await self.here.pay(HOUSE, coins)


@asynccontextmanager
async def operated(mixer: Stage) -> AsyncGenerator[Operated]:
    """A mix of 3 coins that were taken from the house before they could be paid out."""
    stack = Stack(mixer.database, mixer.amqp, mixer.folder)
    api = await asyncio.to_thread(stack.gateway, secret=SECRET)
    try:
        mixer.start("deposit_poller")
        async with mixer_scene(mixer) as here:
            mix, address = await here.mix("anna", delay_ms_max=0)
            await here.pay(address, "3")
            await here.until_received(mix, 3 * JOB)

            async def credited() -> bool:
                return (
                    await here.owner.fetchval("SELECT count(*) FROM ledger.account_heads WHERE id LIKE 'house:JOB:%'")
                    > 0
                )

            await here.until(credited)
            fields = {"fromAddress": HOUSE, "toAddress": "a-thief", "amount": await here.balance(HOUSE)}
            async with here.session.post(f"{mixer.jobcoin}/transactions", data=fields) as answer:
                assert answer.status == 200
            mixer.start("distributor")
            opened = Operated(here, api, mix, 3 * JOB)

            async def waiting() -> bool:
                rows = await opened.payouts()
                return bool(rows) and {row["status"] for row in rows} <= {"waiting", "stuck"}

            await here.until(waiting)
            yield opened
    finally:
        for process in stack.processes:
            process.stop()


async def test_a_house_that_was_empty_leaves_no_payout_stuck(mixer: Stage) -> None:
    async with operated(mixer) as operator:
        [*rows] = await operator.payouts("waiting")
        assert rows
        assert await operator.payouts("stuck") == []
        assert "Insufficient" in str(rows[0]["reason"]) or "refused" in str(rows[0]["reason"])
        shown = await operator.api.get(f"/v1/mixes/{operator.mix}")
        assert shown["reason"] == rows[0]["reason"]
        await operator.refill("3")
        for row in rows:
            await operator.api.post(f"/v1/operator/payouts/{row['id']}/retry", {"why": "the house has coins again"})
        await operator.here.until_completed(operator.mix)
        await operator.here.prove_completed(operator.mix, ["anna"])
        assert "reason" not in await operator.api.get(f"/v1/mixes/{operator.mix}")


async def test_a_cancelled_payout_sends_nothing_and_leaves_its_amount_on_the_account(mixer: Stage) -> None:
    async with operated(mixer) as operator:
        [first, *others] = await operator.payouts()
        path = f"/v1/operator/payouts/{first['id']}"
        told = await operator.api.post(f"{path}/cancel", {"why": "as support case 4711 says"}, key="cancel-it")
        assert told.status == 200, told
        again = await operator.api.post(f"{path}/cancel", {"why": "as support case 4711 says"}, key="cancel-it")
        assert (again.status, again.replayed) == (200, True)
        assert (await operator.api.post(f"{path}/cancel", {"why": "once more"})).code == "wrong_state"
        await operator.until("cancelled", 1)
        await operator.refill("3")
        for row in others:
            await operator.api.post(f"/v1/operator/payouts/{row['id']}/retry", {"why": "the house has coins again"})
        await operator.here.until_completed(operator.mix)
        row = await operator.here.owner.fetchrow("SELECT amount FROM payouts.payouts WHERE state = 'cancelled'")
        assert row is not None
        head = await operator.here.head(operator.mix)
        assert head.remaining == int(row["amount"]) == operator.amount - head.paid
        assert await operator.account() == (head.remaining, 0)
        assert await operator.here.paid_to(["anna"]) == head.paid
        kept = await operator.here.owner.fetchrow(
            "SELECT principal, metadata FROM ledger.operations WHERE id = $1", told.headers["Operation-Id"]
        )
        assert kept is not None
        assert (kept["principal"], "4711" in kept["metadata"]) == ("admin", True)
        assert await operator.here.owner.fetchval("SELECT count(*) FROM payouts.decisions WHERE verb = 'cancel'") == 1


async def test_a_resolved_payout_is_captured_and_never_sent(mixer: Stage) -> None:
    async with operated(mixer) as operator:
        for row in await operator.payouts():
            path = f"/v1/operator/payouts/{row['id']}"
            told = await operator.api.post(f"{path}/resolve", {"why": "paid from the other house"})
            assert told.status == 200, told
        await operator.here.until_completed(operator.mix)
        assert {row["status"] for row in await operator.payouts()} == {"resolved"}
        assert await operator.account() == (0, 0)
        await operator.refill("3")
        head = await operator.here.head(operator.mix)
        assert (head.paid, head.remaining) == (operator.amount, 0)
        assert await operator.here.paid_to(["anna"]) == 0
        assert {row["status"] for row in await operator.api.rows(f"/v1/mixes/{operator.mix}/payouts")} == {"resolved"}


async def test_the_command_line_lists_shows_and_ends_payouts(mixer: Stage) -> None:
    async with operated(mixer) as operator:
        code, printed = await tellerline(operator.api, "payouts", "list")
        assert code == 0, printed
        [first, *_] = await operator.payouts()
        assert str(first["id"]) in printed
        code, printed = await tellerline(operator.api, "payouts", "cancel", str(first["id"]), "--why", "a test")
        assert (code, '"cancel"' in printed) == (0, True), printed
        await operator.until("cancelled", 1)
        code, printed = await tellerline(operator.api, "payouts", "show", str(first["id"]))
        assert (code, '"cancelled"' in printed) == (0, True), printed
        code, printed = await tellerline(operator.api, "payouts", "retry", str(first["id"]), "--why", "a test")
        assert (code, "the payout is cancelled" in printed) == (1, True), printed


async def test_only_an_admin_sees_and_ends_payouts(mixer: Stage) -> None:
    async with operated(mixer) as operator:
        stack = Stack(mixer.database, mixer.amqp, mixer.folder)
        stranger = replace(operator.api, key=await stack.key("somebody", "read", "write", "payout"))
        [first, *_] = await operator.payouts()
        path = f"/v1/operator/payouts/{first['id']}"
        assert (await stranger.call("GET", "/v1/operator/payouts")).code == "forbidden"
        assert (await stranger.call("GET", path)).code == "forbidden"
        for verb in ("retry", "resolve", "cancel"):
            assert (await stranger.post(f"{path}/{verb}", {"why": "mine"})).code == "forbidden"
            assert (await operator.api.post(f"{path}/{verb}", {})).code == "invalid_request"
        assert (await operator.api.post("/v1/operator/payouts/x/retry", {"why": "?"})).code == "not_found"
        links = cast("dict[str, str]", first["links"])
        assert {"self", "mix", "retry", "resolve", "cancel"} == set(links)
