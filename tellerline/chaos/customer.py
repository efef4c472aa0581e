"""What a customer of the mixer does on the simulated network, and what the network says of it."""

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, cast

import aiohttp

TRIES_EVERY_S: Final = 0.5
ANSWER_MAX_S: Final = 5.0
OK: Final = 200


class MixCustomer:
    """Of the network at this address. Requests are sent again until they are answered: the caller bounds the wait."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def pay(self, customer: str, address: str, coins: str) -> None:
        """Makes 50 coins for a new customer and sends some of them on.

        The network has no ids, so what was sent again may have been done twice: the address may get more than `coins`.
        """
        await self._request("POST", "/create", {"address": customer})
        fields = {"fromAddress": customer, "toAddress": address, "amount": coins}
        await self._request("POST", "/transactions", fields)

    async def arrived(self, address: str) -> Decimal:
        """The sum of all coins that ever came to this address."""
        shown = cast("Mapping[str, Sequence[Mapping[str, str]]]", await self._request("GET", f"/addresses/{address}"))
        return sum((Decimal(row["amount"]) for row in shown["transactions"] if row["toAddress"] == address), Decimal(0))

    async def _request(self, method: str, path: str, fields: Mapping[str, str] | None = None) -> object:
        timeout = aiohttp.ClientTimeout(total=ANSWER_MAX_S)
        while True:
            try:
                async with self._session.request(method, self._url + path, data=fields, timeout=timeout) as answer:
                    if answer.status == OK:
                        return cast("object", await answer.json())
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                pass
            await asyncio.sleep(TRIES_EVERY_S)
