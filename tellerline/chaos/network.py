"""What a customer of the mixer does on the simulated network."""

import asyncio
from typing import Final

import aiohttp

TRIES_MAX: Final = 20
TRIES_EVERY_S: Final = 0.5
SENT: Final = 200
REFUSED: Final = 422


async def pay(session: aiohttp.ClientSession, jobcoin: str, customer: str, address: str, coins: str) -> None:
    """Makes 50 coins for a new customer and sends some of them on.

    The network has no ids: a request whose answer was lost is sent again: the address may get more than `coins`.
    """
    await _post(session, f"{jobcoin}/create", {"address": customer})
    await _post(session, f"{jobcoin}/transactions", {"fromAddress": customer, "toAddress": address, "amount": coins})


async def _post(session: aiohttp.ClientSession, url: str, fields: dict[str, str]) -> None:
    for _ in range(TRIES_MAX):
        try:
            async with session.post(url, data=fields, timeout=aiohttp.ClientTimeout(total=5)) as answer:
                if answer.status in {SENT, REFUSED}:
                    return
        except (aiohttp.ClientError, TimeoutError):
            pass
        await asyncio.sleep(TRIES_EVERY_S)
