"""The baseline is honest only if it keeps the promises that we keep."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest

from benchmarks.baseline.database import read_totals
from benchmarks.baseline_process import BaselineProcess, baseline_process
from benchmarks.scenarios import FORMS, FUNDS_MINOR, account_ids
from tests.backends.servers import PostgresServer

API_KEY = "the-key-of-the-baseline-in-tests"
ONE, OTHER, THIRD = account_ids()[:3]
TRANSFER = {"source": ONE, "destination": OTHER, "amount": "0.01", "asset": "USD"}


@pytest.fixture(params=FORMS)
async def baseline(
    request: pytest.FixtureRequest, postgres: PostgresServer, tmp_path: Path
) -> AsyncGenerator[BaselineProcess]:
    async with baseline_process(postgres.dsn("postgres"), API_KEY, tmp_path / "baseline.log") as running:
        await running.use_form(str(request.param), 8)
        yield running


async def post(
    running: BaselineProcess, body: dict[str, str], key: str | None = None
) -> tuple[int, dict[str, object], bool]:
    headers = {"Authorization": f"Bearer {API_KEY}"} | ({} if key is None else {"Idempotency-Key": key})
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{running.url}/v1/transfers", json=body) as response,
    ):
        return response.status, await response.json(content_type=None), "Idempotency-Replayed" in response.headers


async def test_concurrent_transfers_both_ways_lose_nothing(baseline: BaselineProcess) -> None:
    ways = [
        TRANSFER,
        TRANSFER | {"source": OTHER, "destination": THIRD},
        TRANSFER | {"source": THIRD, "destination": ONE},
    ]
    answers = await asyncio.gather(*(post(baseline, ways[number % 3]) for number in range(150)))
    assert {status for status, _, _ in answers} == {201}
    assert await baseline.is_conserved()
    assert (await read_totals(baseline.dsn))[1] == 150


async def test_one_key_has_one_effect_however_often_it_is_sent_at_once(baseline: BaselineProcess) -> None:
    answers = await asyncio.gather(*(post(baseline, TRANSFER, "once") for _ in range(20)))
    assert {status for status, _, _ in answers} == {201}
    assert len({str(body) for _, body, _ in answers}) == 1
    assert sum(not replayed for _, _, replayed in answers) == 1
    assert (await read_totals(baseline.dsn))[1] == 1


async def test_a_key_with_other_content_is_refused(baseline: BaselineProcess) -> None:
    await post(baseline, TRANSFER, "once")
    status, problem, _ = await post(baseline, TRANSFER | {"amount": "0.02"}, "once")
    assert (status, problem["code"]) == (422, "idempotency_key_reused")


async def test_a_rejection_is_an_outcome_and_replays(baseline: BaselineProcess) -> None:
    too_much = TRANSFER | {"amount": str(FUNDS_MINOR)}
    for is_replay in (False, True):
        status, problem, replayed = await post(baseline, too_much, "poor")
        assert (status, problem["code"], replayed) == (422, "insufficient_funds", is_replay)
        assert problem["available"] == str(FUNDS_MINOR // 100)


async def test_an_account_that_is_not_there_is_a_rejection(baseline: BaselineProcess) -> None:
    for body in (TRANSFER | {"destination": "nobody"}, TRANSFER | {"source": "nobody"}):
        status, problem, _ = await post(baseline, body)
        assert (status, problem["code"]) == (422, "account_not_found")


async def test_the_answer_tells_the_balances_after(baseline: BaselineProcess) -> None:
    _, transaction, _ = await post(baseline, TRANSFER | {"amount": "1.5"})
    assert transaction["balances"] == {ONE: "999998.5", OTHER: "1000001.5"}
    assert transaction["postings"] == [TRANSFER | {"amount": "1.5"}]


async def test_an_unknown_key_is_refused(baseline: BaselineProcess) -> None:
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer somebody-elses-key"}) as session,
        session.post(f"{baseline.url}/v1/transfers", json=TRANSFER) as response,
    ):
        assert response.status == 401
