"""Many payouts on a network that fails on purpose, and the account of what truly arrived."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from shared.mixer.jobcoin_rows import UNITS_PER_MINOR, ListedRow
from tellerline.network_control import NetworkControl
from tests.integration.mixer import MixerScene

INSTANCE: Final = "tellerline"
DESTINATIONS: Final = 20
# What the plan makes of one destination, on average.
PAYOUTS_PER_DESTINATION: Final = 3
COINS: Final = "40"
ORDERS_AT_ONCE: Final = 8
LOOK_S: Final = 0.5
# Together a fifth of the calls of each kind. What is delayed is applied within the settle time of `SETTINGS`.
FAULTS: Final[Sequence[Mapping[str, object]]] = (
    {"kind": "latency", "rate": 0.03, "seconds": (0.05, 0.6)},
    {"kind": "reset", "rate": 0.02},
    {"kind": "refused", "rate": 0.002, "seconds": (0.05, 0.3)},
    {"kind": "error", "rate": 0.02},
    {"kind": "error", "rate": 0.01, "status": 429},
    {"kind": "html", "rate": 0.01},
    {"kind": "large_body", "rate": 0.005},
    {"kind": "wrong_types", "rate": 0.01},
    {"kind": "applied_without_answer", "rate": 0.04},
    {"kind": "applied_without_answer", "rate": 0.01, "status": 408},
    {"kind": "delayed_apply", "rate": 0.03, "seconds": (0.1, 1)},
    {"kind": "answered_without_applying", "rate": 0.01},
    {"kind": "duplicate_rows", "rate": 0.02},
    {"kind": "missing_rows", "rate": 0.03, "rows": 3},
    {"kind": "reordered_rows", "rate": 0.02, "rows": 3},
    {"kind": "clock_skew", "rate": 0.02, "seconds": (-60, 60)},
)
SETTINGS: Final = {"TELLERLINE_SETTLE_S": "3", "TELLERLINE_NETWORK_TIMEOUT_S": "1"}


@dataclass(frozen=True, slots=True)
class Account:
    """What should have arrived at the receivers, and what did: each (destination, 10^-40 of a coin) as often."""

    doubled: Counter[tuple[str, int]]
    missing: Counter[tuple[str, int]]
    paid: int

    @classmethod
    def of(cls, planned: Sequence[tuple[str, int]], rows: Sequence[ListedRow]) -> "Account":
        """The account of these payouts by the network's own list."""
        receivers = {destination for destination, _ in planned}
        wanted = Counter(planned)
        arrived = Counter((str(row.destination), row.units) for row in rows if row.destination in receivers)
        return cls(arrived - wanted, wanted - arrived, arrived.total())


async def order_mixes(here: MixerScene, payouts: int) -> dict[str, str]:
    """So many mixes that they have some such number of payouts: id → deposit address."""
    few = asyncio.Semaphore(ORDERS_AT_ONCE)

    async def order(mix: int) -> tuple[str, str]:
        async with few:
            return await here.mix(*(f"to-{mix}-{place}" for place in range(DESTINATIONS)))

    count = max(1, round(payouts / DESTINATIONS / PAYOUTS_PER_DESTINATION))
    return dict(await asyncio.gather(*map(order, range(count))))


async def until_all_completed(here: MixerScene, mixes: Iterable[str], within_s: float) -> None:
    """Raises AssertionError with what is left then."""
    left = list(mixes)

    async def completed() -> bool:
        left[:] = [mix for mix in left if (await here.head(mix)).status != "completed"]
        await asyncio.sleep(LOOK_S)
        return not left

    await here.until(completed, within_s)


async def pay_by_page(session: aiohttp.ClientSession, url: str, address: str) -> None:
    """Coins from a new customer, by the network's page, which has no faults."""
    for path, fields in (
        ("create", {"address": f"for-{address}"}),
        ("send", {"fromAddress": f"for-{address}", "toAddress": address, "amount": COINS}),
    ):
        async with session.post(f"{url}/{INSTANCE}/{path}", data=fields) as answer:
            assert answer.status == 200, await answer.text()


async def planned(here: MixerScene) -> list[tuple[str, int]]:
    """What the distributor has planned."""
    rows = await here.owner.fetch("SELECT destination, amount FROM payouts.payouts")
    return [(str(row["destination"]), int(row["amount"]) * UNITS_PER_MINOR) for row in rows]


async def injected(control: NetworkControl) -> dict[str, int]:
    """How often each fault happened."""
    return {f"{each.kind} ({each.call})": each.count for each in (await control.faults()).injected}


async def pay_naively(url: str, source: str, payouts: Sequence[tuple[str, str]]) -> None:
    """Pays straight from the source and sends again whatever was not answered with OK: what nobody may do."""
    many = asyncio.Semaphore(16)

    async def pay(session: aiohttp.ClientSession, destination: str, amount: str) -> None:
        fields = {"fromAddress": source, "toAddress": destination, "amount": amount}
        async with many:
            while True:
                try:
                    async with session.post(f"{url}/{INSTANCE}/api/transactions", data=fields) as answer:
                        if answer.status == 200 and await answer.json() == {"status": "OK"}:
                            return
                except (aiohttp.ClientError, TimeoutError, ValueError):
                    continue

    timeout = aiohttp.ClientTimeout(total=1)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        await asyncio.gather(*(pay(session, destination, amount) for destination, amount in payouts))
