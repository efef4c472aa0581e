"""Mixed load: every kind of command that the API has, each recorded with its key and its outcome."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from tellerline.chaos.client import Client, Command
from tellerline.chaos.customer import MixCustomer

ASSET: Final = "USD"
STEADY: Final = 48
FUNDS: Final = "1000"
CLIENTS: Final = 12
REPEAT_EVERY: Final = 8
LOOSE_MAX: Final = 400
MIXES_EVERY_S: Final = 15.0
COINS_OF_MIX: Final = "2.5"

# How often each kind of command comes, among a hundred or so.
WEIGHTS: Final[Mapping[str, int]] = {
    "transfer": 55,
    "deposit": 8,
    "withdrawal": 8,
    "open account": 5,
    "transfer between loose": 8,
    "deposit to loose": 4,
    "close account": 4,
    "freeze or unfreeze": 2,
    "change metadata": 2,
    "change limit": 2,
    "create asset": 1,
}


@dataclass(slots=True)
class Load:
    """What the clients did. Steady accounts are never closed or frozen, so each of their balances is known exactly.

    `loose` accounts come, are frozen and closed while others send to them. `mixes`: their ids.
    """

    client: Client
    run: str
    lots: random.Random
    steady: Sequence[str] = ()
    loose: list[str] = field(default_factory=list[str])
    mixes: list[str] = field(default_factory=list[str])
    stopping: bool = False
    _numbers: int = 0

    async def prepare(self) -> None:
        """Opens and funds the steady accounts."""
        self.steady = [f"chaos-{self.run}-{number}" for number in range(STEADY)]
        async with asyncio.TaskGroup() as group:
            for account in self.steady:
                group.create_task(self._open(account))

    async def _open(self, account: str) -> None:
        await self.client.decide(self._command("open account", "/v1/accounts", {"id": account, "asset": ASSET}))
        await self.client.decide(self._money("deposit", "/v1/deposits", FUNDS, account=account))

    async def play(self) -> None:
        """One client: command after command until `stopping`, each to its end."""
        names, weights = list(WEIGHTS), list(WEIGHTS.values())
        while not self.stopping:
            [name] = self.lots.choices(names, weights)
            command = self._next(name)
            if command is None:
                continue
            await self.client.decide(command)
            if name == "open account" and command.posted:
                self.loose.append(str(command.body["id"]))
            if self.lots.randrange(REPEAT_EVERY) == 0:
                await self.client.repeat(self.lots.choice((command, self.lots.choice(self.client.decided))))

    async def mix(self, customer: MixCustomer) -> None:
        """Orders a mix every few seconds and sends coins to it."""
        while not self.stopping:
            key = self._key()
            body = {"destinations": [f"{key}-a", f"{key}-b"], "delay_s": {"min": 0, "max": 3}}
            order = await self.client.decide(Command("order mix", "POST", "/v1/mixes", body, key))
            if order.posted:
                # The operation, if that was asked, has no address.
                answer = order.answer or (await self.client.repeat(order)).answer
                if answer is not None and order.posted:
                    self.mixes.append(str(answer.body["id"]))
                    await customer.pay(f"{key}-customer", str(answer.body["deposit_address"]), COINS_OF_MIX)
            await asyncio.sleep(MIXES_EVERY_S)

    def expected(self) -> Mapping[str, Decimal]:
        """The balance of each steady account after everything that was told as posted."""
        balances = dict.fromkeys(self.steady, Decimal(0))
        for command in self.client.decided:
            if command.posted and "amount" in command.body:
                amount = Decimal(str(command.body["amount"]))
                if (debited := _debited(command)) in balances:
                    balances[debited] -= amount
                if (credited := _credited(command)) in balances:
                    balances[credited] += amount
        return balances

    def _next(self, name: str) -> Command | None:
        """A command of this kind; None while there is nothing that it could be about."""
        lots = self.lots
        amount = f"0.{lots.randrange(1, 100):02}"
        match name:
            case "transfer":
                source, destination = lots.sample(self.steady, 2)
                return self._money(name, "/v1/transfers", amount, source=source, destination=destination)
            case "deposit" | "withdrawal":
                return self._money(name, f"/v1/{name}s", amount, account=lots.choice(self.steady))
            case "open account" if len(self.loose) < LOOSE_MAX:
                return self._command(name, "/v1/accounts", {"id": f"loose-{self._key()}", "asset": ASSET})
            case "create asset":
                self._numbers += 1
                code = f"C{self._numbers}.{self.run[-8:].upper()}"
                return self._command(name, "/v1/assets", {"code": code, "scale": 2, "name": "made in a chaos run"})
            case "change metadata" | "change limit":
                change = {"metadata": {"n": self._key()}} if name == "change metadata" else {"overdraft_limit": amount}
                return self._command(name, f"/v1/accounts/{lots.choice(self.steady)}", change, "PATCH")
            case _ if len(self.loose) > 1:
                return self._about_loose(name, amount)
            case _:
                return None

    def _about_loose(self, name: str, amount: str) -> Command | None:
        source, destination = self.lots.sample(self.loose, 2)
        match name:
            case "transfer between loose":
                return self._money(name, "/v1/transfers", amount, source=source, destination=destination)
            case "deposit to loose":
                return self._money(name, "/v1/deposits", "1", account=source)
            case "close account":
                return self._command(name, f"/v1/accounts/{source}", {}, "DELETE")
            case "freeze or unfreeze":
                status = self.lots.choice(("open", "frozen"))
                return self._command(name, f"/v1/accounts/{source}", {"status": status}, "PATCH")
            case _:
                return None

    def _money(self, name: str, path: str, amount: str, **accounts: str) -> Command:
        key = self._key()
        return Command(name, "POST", path, {**accounts, "amount": amount, "asset": ASSET, "reference": key}, key)

    def _command(self, name: str, path: str, body: Mapping[str, object], method: str = "POST") -> Command:
        return Command(name, method, path, body, self._key())

    def _key(self) -> str:
        self._numbers += 1
        return f"{self.run}-{self._numbers}"


def _debited(command: Command) -> str:
    return str(command.body.get("source") or (command.path == "/v1/withdrawals" and command.body["account"]) or "")


def _credited(command: Command) -> str:
    return str(command.body.get("destination") or (command.path == "/v1/deposits" and command.body["account"]) or "")
