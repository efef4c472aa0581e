"""An operator ends what no time heals. Each decision is journaled, carried out once, and harmless when it is late."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import cast

from shared.mixer.payout_decisions import PayoutVerb
from tests.builders import SECRET
from tests.integration.gateway import Client, Stack, Told
from tests.integration.mixer import HOUSE, MixerScene, mixer_scene
from tests.integration.mixer_rows import JOB
from tests.integration.mixer_stage import Stage
from tests.integration.test_operator import tellerline


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

    async def end(self, payout: object, verb: PayoutVerb, *, key: str | None = None) -> Told:
        """Decides so, as soon as no try of the payout is under way."""
        path, told = f"/v1/operator/payouts/{payout}/{verb}", list[Told]()

        async def decided() -> bool:
            told.append(await self.api.post(path, {"why": "as support case 4711 says"}, key=key))
            return told[-1].status == 200

        await self.here.until(decided)
        return told[-1]

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
        told = await operator.end(first["id"], "cancel", key="cancel-it")
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
            await operator.end(row["id"], "resolve")
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
        told: list[tuple[int, str]] = []

        async def cancelled() -> bool:
            told.append(await tellerline(operator.api, "payouts", "cancel", str(first["id"]), "--why", "a test"))
            return told[-1][0] == 0

        await operator.here.until(cancelled)
        assert '"cancel"' in told[-1][1]
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

        async def may_be_ended() -> bool:
            links = cast("dict[str, str]", (await operator.api.get(path))["links"])
            return set(links) == {"self", "mix", "retry", "resolve", "cancel"}

        await operator.here.until(may_be_ended)


async def test_a_frozen_account_makes_payouts_wait_and_not_stuck(mixer: Stage) -> None:
    async with operated(mixer) as operator:
        account = f"/v1/accounts/mix:{operator.mix}"
        frozen = await operator.api.call("PATCH", account, {"status": "frozen"})
        assert frozen.status == 200, frozen
        rows = await operator.payouts()
        for row in rows:
            await operator.end(row["id"], "cancel")
        await operator.until("cancelled", len(rows))
        assert await operator.account() == (operator.amount, 0)
        await operator.refill("3")
        address = await operator.here.owner.fetchval(
            "SELECT deposit_address FROM mixer.mixes WHERE id = $1", operator.mix
        )
        # A credit is still posted to a frozen account; its payouts find the account frozen.
        await operator.here.pay(address, "2")

        async def frozen_out() -> bool:
            return any("account_frozen" in str(row["reason"]) for row in await operator.payouts("waiting"))

        await operator.here.until(frozen_out)
        assert await operator.payouts("stuck") == []
        assert (await operator.api.call("PATCH", account, {"status": "open"})).status == 200
        for row in await operator.payouts("waiting"):
            await operator.api.post(f"/v1/operator/payouts/{row['id']}/retry", {"why": "it is open again"})
        await operator.here.until_completed(operator.mix, within_s=60)
        head = await operator.here.head(operator.mix)
        assert (head.paid, head.remaining) == (2 * JOB, 3 * JOB)
        assert await operator.here.paid_to(["anna"]) == 2 * JOB
