"""A network that hides what it did for a while makes no payout stuck, and none go twice."""

import pytest

from tellerline.network_control import NetworkControl
from tests.integration.mixer import CREDITED, mixer_scene
from tests.integration.mixer_stage import Stage

ONE_PAYOUT = {"TELLERLINE_MIX_PAYOUT_MIN": "10"}
# The funding is seen as it is. The payout goes, its answer is lost, and every reading of its address hides all rows.
HIDDEN = (
    {"kind": "none", "call": "send"},
    {"kind": "none", "call": "address"},
    {"kind": "applied_without_answer", "call": "send"},
    *({"kind": "missing_rows", "call": "address", "rows": 3} for _ in range(200)),
)


@pytest.mark.timeout(180)
async def test_a_payout_that_a_reading_hid_is_found_later_and_neither_stuck_nor_sent_twice(mixer: Stage) -> None:
    mixer.start("deposit_poller")
    control = NetworkControl(mixer.network.control_url, "tellerline")
    async with mixer_scene(mixer) as here:
        mix, address = await here.mix("anna")
        await here.pay(address, "5")

        async def is_credited() -> bool:
            return int(await here.owner.fetchval(CREDITED)) == 5 * 10**18

        async def is_taken_for_absent() -> bool:
            count = "SELECT count(*) FROM payouts.intents WHERE leg = 'pay' AND ended = 'absent'"
            return bool(await here.owner.fetchval(count))

        await here.until(is_credited)
        await control.put({"script": HIDDEN})
        mixer.start("distributor", settings=ONE_PAYOUT)
        await here.until(is_taken_for_absent, within_s=60)
        await control.clear()
        await here.until_completed(mix, within_s=60)
        await here.prove_completed(mix, ["anna"])
        assert [str(row.destination) for row in await here.listed()].count("anna") == 1
