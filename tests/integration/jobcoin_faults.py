"""One instance of the simulated network whose faults a test orders, as an operator would."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import aiohttp
from click.testing import CliRunner

from tellerline.cli import main
from tests.integration.jobcoin import Client, NetworkProcess

LATE_S = 5.0


def faults(network: NetworkProcess, instance: str, *arguments: str) -> dict[str, list[dict[str, object]]]:
    """`tellerline network faults` with these arguments, and what it says."""
    options = ("--control-url", network.control_url, "--instance", instance, "--json")
    result = CliRunner().invoke(main, ["network", "faults", *arguments, *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def ordered(network: NetworkProcess, instance: str, *arguments: str) -> dict[str, list[dict[str, object]]]:
    return await asyncio.to_thread(faults, network, instance, *arguments)


async def counts(network: NetworkProcess, instance: str) -> dict[tuple[object, object], object]:
    listed = await ordered(network, instance, "list")
    return {(each["kind"], each["call"]): each["count"] for each in listed["injected"]}


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LATE_S):
        while not await what():
            await asyncio.sleep(0.02)


class Instance:
    """One instance, looked at by the API and set up by the pages, which meet no faults."""

    def __init__(self, client: Client, network: NetworkProcess, name: str) -> None:
        self.client, self.network, self.name, self.api = client, network, name, f"/{name}/api"

    async def script(self, *faults: str) -> None:
        await ordered(self.network, self.name, "set", *(word for fault in faults for word in ("--script", fault)))

    async def send(self, to: str, amount: str = "1") -> tuple[int, object]:
        return await self.client.send("Alice", to, amount, self.api)

    async def sent_blindly(self, to: str, amount: str = "1") -> int:
        """The status, 0 without an answer."""
        fields = {"fromAddress": "Alice", "toAddress": to, "amount": amount}
        try:
            async with self.client.session.post(f"{self.api}/transactions", data=fields) as response:
                await response.read()
                return response.status
        except aiohttp.ClientError:
            return 0

    async def balance(self, address: str) -> str:
        return await self.client.balance(address, self.api)

    async def listed(self) -> list[dict[str, str]]:
        return await self.client.listed(self.api)
