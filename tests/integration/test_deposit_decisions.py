"""An operator ends what no time heals of deposits, too: each decision is journaled and carried out once."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from services.deposit_poller.core.decisions import SweepDecision
from services.deposit_poller.store.decisions import SweepDecisionStore
from shared.database import postgres
from shared.mixer.sweep_decisions import SweepVerb
from tests.backends.databases import Database
from tests.builders import SECRET
from tests.integration.gateway import Stack
from tests.integration.mixer import MixerScene, mixer_scene
from tests.integration.mixer_rows import JOB, MixerRows
from tests.integration.mixer_stage import Stage
from tests.integration.test_operator import tellerline

SET_STATE = "UPDATE mixer.sweeps SET state = $2, stuck_in = $3, reason = $4, credit_minor = 1 WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Rows:
    """One sweep, and what carries decisions about it out."""

    owner: postgres.Connection
    store: SweepDecisionStore
    sweep: str

    async def decide(self, verb: SweepVerb, operation: str = "") -> bool | None:
        """The journal's reader finds a decision: whether it was applied; None if it was known before."""
        decision = SweepDecision(operation or str(uuid.uuid4()), self.sweep, verb)
        known = await self.owner.fetchval("SELECT count(*) FROM mixer.decisions")
        await self.store.record([decision], {})
        if await self.owner.fetchval("SELECT count(*) FROM mixer.decisions") == known:
            return None
        return bool(
            await self.owner.fetchval("SELECT is_applied FROM mixer.decisions WHERE id = $1", decision.operation)
        )

    async def state(self) -> str:
        return str(await self.owner.fetchval("SELECT state FROM mixer.sweeps WHERE id = $1", self.sweep))


@pytest.fixture
async def rows(database: Database) -> AsyncIterator[Rows]:
    owner = await postgres.connect(database.owner, application="tests")
    sweep = str(uuid.uuid4())
    mix = await MixerRows(owner).mix()
    await owner.execute("INSERT INTO mixer.sweeps (id, mix_id, amount_units) VALUES ($1, $2, 5)", sweep, mix)
    async with await postgres.open_pool(database.poller, application="tests") as pool:
        yield Rows(owner, SweepDecisionStore(pool), sweep)
    await owner.close()


@pytest.mark.parametrize(
    ("state", "stuck_in", "reason", "after"),
    [
        ("planned", None, None, {}),
        ("planned", None, "why", {"retry": "planned", "resolve": "cancelled"}),
        ("sending", None, "why", {"retry": "sending"}),
        ("seen", None, "why", {"retry": "seen"}),
        ("credited", None, None, {}),
        ("cancelled", None, None, {}),
        ("stuck", "planned", "why", {"retry": "planned", "resolve": "cancelled"}),
        ("stuck", "seen", "why", {"retry": "seen", "resolve": "cancelled"}),
    ],
)
async def test_a_decision_that_its_sweep_does_not_allow_changes_nothing(
    rows: Rows, state: str, stuck_in: str | None, reason: str | None, after: dict[str, str]
) -> None:
    for verb in ("retry", "resolve"):
        await rows.owner.execute(SET_STATE, rows.sweep, state, stuck_in, reason)
        assert await rows.decide(verb) is (verb in after)
        assert await rows.state() == after.get(verb, state)


async def test_a_decision_is_carried_out_once_however_often_it_is_read(rows: Rows) -> None:
    operation = str(uuid.uuid4())
    await rows.owner.execute(SET_STATE, rows.sweep, "stuck", "planned", "why")
    assert await rows.decide("retry", operation) is True
    await rows.owner.execute(SET_STATE, rows.sweep, "stuck", "planned", "again")
    assert await rows.decide("retry", operation) is None
    assert await rows.state() == "stuck"


async def stolen(mixer: Stage, here: MixerScene) -> tuple[str, str]:
    """A mix whose deposit was taken by a third party before it was swept; its id and address."""
    poller = mixer.start("deposit_poller")
    mix, address = await here.mix("anna", delay_ms_max=0)
    assert poller.stop() == 0
    await here.pay(address, "3")
    fields = {"fromAddress": address, "toAddress": "a-thief", "amount": "3"}
    async with here.session.post(f"{mixer.jobcoin}/transactions", data=fields) as answer:
        assert answer.status == 200
    await asyncio.to_thread(mixer.start, "deposit_poller")

    async def stuck() -> bool:
        return (await here.head(mix)).status == "stuck"

    await here.until(stuck)
    return mix, address


async def test_deposits_that_somebody_took_are_written_off_and_what_comes_later_is_paid_out(mixer: Stage) -> None:
    stack = Stack(mixer.database, mixer.amqp, mixer.folder)
    api = await asyncio.to_thread(stack.gateway, secret=SECRET)
    try:
        async with mixer_scene(mixer) as here:
            mix, address = await stolen(mixer, here)
            [sweep] = await api.rows("/v1/operator/deposits?status=stuck")
            assert (sweep["mix"], sweep["address"], sweep["amount"]) == (mix, address, "3")
            assert "went elsewhere" in str(sweep["reason"])
            path = f"/v1/operator/deposits/{sweep['id']}"
            told = await api.post(f"{path}/retry", {"why": "it may help"}, key="once")
            assert told.status == 200, told
            assert (await api.post(f"{path}/retry", {"why": "it may help"}, key="once")).replayed

            async def is_stuck_again() -> bool:
                return (await api.get(path))["status"] == "stuck"

            await here.until(is_stuck_again)
            code, printed = await tellerline(api, "deposits", "list")
            assert (code, str(sweep["id"]) in printed) == (0, True), printed
            code, printed = await tellerline(api, "deposits", "resolve", str(sweep["id"]), "--why", "they are gone")
            assert (code, '"resolved"' in printed) == (0, True), printed
            assert (await api.post(f"{path}/resolve", {"why": "once more"})).code == "wrong_state"
            mixer.start("distributor")
            await here.pay(address, "2")
            await here.until_received(mix, 5 * JOB)
            await here.until_completed(mix)
            head = await here.head(mix)
            assert (head.paid, head.remaining) == (2 * JOB, 3 * JOB)
            assert await here.paid_to(["anna"]) == 2 * JOB
            await here.prove()
    finally:
        for process in stack.processes:
            process.stop()
