"""Mixes and their payouts as a client reads them."""

from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from services.gateway.store import mixes as store
from shared.database import postgres
from tests.integration.conftest import Served
from tests.integration.gateway import Client
from tests.integration.mixer_rows import JOB, MixerRows


@pytest.fixture
async def rows(served: Served) -> AsyncIterator[MixerRows]:
    connection = await postgres.connect(served.stack.database.owner, application="tests")
    yield MixerRows(connection)
    await connection.close()


async def all_rows(api: Client, path: str) -> list[dict[str, object]]:
    """Every row of a list, as a client follows its pages."""
    found: list[dict[str, object]] = []
    following: object = None
    while True:
        page = await api.get(path if following is None else f"{path}&cursor={following}")
        found += cast("list[dict[str, object]]", page["data"])
        following = page["next"]
        if following is None:
            return found


async def test_the_payouts_of_a_mix_are_pages_of_their_own(
    served: Served, api: Client, rows: MixerRows, name: Callable[[str], str]
) -> None:
    owner = name("owner")
    mix = await rows.mix(owner)
    await rows.payouts(mix, 25, amount=JOB // 2)
    shown = await api.get(f"/v1/mixes/{mix}")
    assert "payouts" not in shown
    links = cast("dict[str, str]", shown["links"])
    payouts = await all_rows(api, f"{links['payouts']}?limit=10")
    assert len(payouts) == 25
    assert payouts == sorted(payouts, key=lambda each: str(each["due_at"]))
    assert set(payouts[0]) == {"destination", "amount", "due_at", "status"}
    assert (payouts[0]["destination"], payouts[0]["amount"], payouts[0]["status"]) == ("anna", "0.5", "planned")
    stranger = Client(api.url, await served.stack.key(name("stranger"), "read"))
    assert (await stranger.call("GET", links["payouts"])).status == 404
    itself = Client(api.url, await served.stack.key(owner, "read"))
    assert len(await itself.rows(links["payouts"])) == 25
    assert (await api.call("GET", f"{links['payouts']}?status=paid")).status == 400


async def test_a_list_of_mixes_with_a_status_reads_a_bounded_number_of_them(
    api: Client, rows: MixerRows, name: Callable[[str], str], served: Served
) -> None:
    owner = name("owner")
    itself = Client(api.url, await served.stack.key(owner, "read"))
    paying = await rows.mix(owner)
    await rows.payouts(paying, 1)
    for _ in range(store.MIXES_READ_TOGETHER + 5):
        await rows.mix(owner)
    assert [each["id"] for each in await all_rows(itself, "/v1/mixes?limit=7&status=paying")] == [paying]
    assert len(await all_rows(itself, "/v1/mixes?limit=7")) == store.MIXES_READ_TOGETHER + 6
    assert await all_rows(itself, "/v1/mixes?limit=7&status=stuck") == []
    page = await itself.get(f"/v1/mixes?limit={store.MIXES_READ_TOGETHER + 6}")
    assert page["next"] is None
