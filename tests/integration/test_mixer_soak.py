"""Payouts by the thousand while a fifth of the network's calls fails in every way: none twice, none missing.

MIXER_PAYOUTS says how many, as in `make soak`; without it only the account is tested, which has to find a naive retry.
"""

import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from shared.mixer.jobcoin_rows import read_rows, read_units
from tellerline.network_control import NetworkControl
from tests.integration.jobcoin import running
from tests.integration.mixer import MixerScene, mixer_scene
from tests.integration.mixer_load import (
    FAULTS,
    INSTANCE,
    SETTINGS,
    Account,
    injected,
    order_mixes,
    pay_by_page,
    pay_naively,
    planned,
    until_all_completed,
)
from tests.integration.mixer_stage import Stage

PAYOUTS: Final = int(os.environ.get("MIXER_PAYOUTS", "0"))
PER_S_MIN: Final = 2
START_S_MAX: Final = 90
SEED: Final = 20


@pytest.fixture
async def here(mixer: Stage) -> AsyncIterator[MixerScene]:
    for service in ("deposit_poller", "distributor"):
        mixer.start(service, settings=SETTINGS)
    async with mixer_scene(mixer) as scene:
        yield scene


@pytest.mark.skipif(PAYOUTS == 0, reason="takes minutes: set MIXER_PAYOUTS to the number of payouts")
@pytest.mark.timeout(START_S_MAX + PAYOUTS / PER_S_MIN)
async def test_of_thousands_of_payouts_none_is_doubled_or_missing_though_a_fifth_of_all_calls_fails(
    here: MixerScene, capsys: pytest.CaptureFixture[str]
) -> None:
    url = here.stage.network.url
    control = NetworkControl(here.stage.network.control_url, INSTANCE)
    mixes = await order_mixes(here, PAYOUTS)
    await control.put({"rates": FAULTS, "seed": SEED})
    began_s = time.monotonic()
    for address in mixes.values():
        await pay_by_page(here.session, url, address)
    await until_all_completed(here, mixes, within_s=START_S_MAX / 2 + PAYOUTS / PER_S_MIN)
    took_s = time.monotonic() - began_s
    await control.clear()
    await here.until_quiet()
    account, faults = Account.of(await planned(here), await here.listed()), await injected(control)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{account.paid} payouts in {took_s:.0f} s, {account.paid / took_s:.0f}/s; faults: {faults}\n"
        )
    assert (account.doubled, account.missing) == ({}, {})
    assert account.paid > PAYOUTS / 2
    assert {kind["kind"] for kind in FAULTS} == {name.partition(" ")[0] for name in faults}
    await here.prove()


async def test_the_account_finds_what_a_naive_retry_pays_twice(tmp_path: Path) -> None:
    payouts = [(f"to-{place}", "0.01") for place in range(200)]
    with running(tmp_path) as network:
        control = NetworkControl(network.control_url, INSTANCE)
        async with aiohttp.ClientSession() as session:
            await control.put({"rates": FAULTS, "seed": SEED})
            await pay_naively(network.url, "Alice", payouts)
            await control.clear()
            async with session.get(f"{network.url}/{INSTANCE}/api/transactions") as answer:
                rows = read_rows(await answer.json())
    account = Account.of([(destination, read_units(amount)) for destination, amount in payouts], rows)
    assert account.doubled.total() > 5
