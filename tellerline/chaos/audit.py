"""After a run: what clients were told, against the journal and the balances."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, cast

from shared.database.postgres import TRANSIENT_FAULTS, Connection, connect
from tellerline.chaos.client import Command
from tellerline.chaos.customer import MixCustomer
from tellerline.chaos.load import Load
from tellerline.chaos.stack import Stack

IDS_PER_QUERY_MAX: Final = 5_000
SHOWN_MAX: Final = 5
CONNECT_MAX_S: Final = 60.0
READ_TRIES_MAX: Final = 100
MIXES_MAX_S: Final = 120.0
NETWORK_MAX_S: Final = 30.0
POLL_S: Final = 0.3
OK: Final = 200

# What this load may meet. Any other refusal is a fault of the stack.
REFUSALS: Final = frozenset(
    {"account_closed", "account_frozen", "account_not_empty", "address_refused", "already_exists", "cancelled"}
    | {"insufficient_funds", "not_found", "account_not_found"}
)

READ_OUTCOMES = "SELECT id::text, outcome, code FROM ledger.operations WHERE id = ANY($1::uuid[])"
COUNT_TWICE = """
SELECT reference, count(*) AS times FROM ledger.operations
 WHERE reference = ANY($1::text[]) AND outcome = 'posted' GROUP BY reference HAVING count(*) > 1
"""


class Audit:
    """The findings, each one sentence. Empty lists mean that nothing is wrong."""

    def __init__(self, stack: Stack, load: Load, customer: MixCustomer) -> None:
        self._stack = stack
        self._load = load
        self._client = load.client
        self._customer = customer
        self.lost: list[str] = []
        self.doubled: list[str] = []
        self.wrong: list[str] = []
        self.mixes: Counter[str] = Counter()
        # Amounts in suspense, where by design a credit goes that cannot land: no fault of the run.
        self.open_findings = 0

    async def audit(self) -> None:
        """Reads everything. Raises what is in TRANSIENT_FAULTS when the database stays away."""
        await self._mixes()
        session = await connected(self._stack.postgres)
        try:
            await self._outcomes(session)
            await self._twice(session)
        finally:
            await session.close()
        await self._balances()
        await self._verify()
        self.wrong += [
            f"{_named(command)} was refused {command.code}"
            for command in self._client.decided
            if not command.posted and command.code not in REFUSALS
        ]
        self.wrong += [f"a repeat was answered otherwise: {each}" for each in self._client.unlike]
        self.wrong += [f"a gateway broke: {each}" for each in self._client.broken]

    async def _outcomes(self, session: Connection) -> None:
        """What was told as posted or refused stands so in the journal."""
        told = {command.operation: command for command in self._client.decided if command.operation}
        ids = list(told)
        for begin in range(0, len(ids), IDS_PER_QUERY_MAX):
            some = ids[begin : begin + IDS_PER_QUERY_MAX]
            written = {str(row["id"]): row for row in await session.fetch(READ_OUTCOMES, some)}
            for each in some:
                row = written.get(each)
                code = (
                    None if row is None else str(row["code"] or "" if row["outcome"] != "started" else "no outcome yet")
                )
                if code != told[each].code:
                    self.lost.append(f"{_named(told[each])} was told {told[each].code!r}, the journal has {code!r}")

    async def _twice(self, session: Connection) -> None:
        """No key has moved money twice: its reference stands on one operation."""
        keys = [command.key for command in (*self._client.decided, *self._client.open)]
        for begin in range(0, len(keys), IDS_PER_QUERY_MAX):
            for row in await session.fetch(COUNT_TWICE, keys[begin : begin + IDS_PER_QUERY_MAX]):
                self.doubled.append(f"{row['reference']} was posted {row['times']} times")

    async def _balances(self) -> None:
        """The balance of each steady account is the sum of what was told."""
        for account, expected in self._load.expected().items():
            found = await self._balance(account)
            if found != expected:
                self.wrong.append(f"{account} holds {found}, after all that was told {expected}")

    async def _balance(self, account: str) -> Decimal | None:
        for _ in range(READ_TRIES_MAX):
            answer = await self._client.get(f"/v1/accounts/{account}")
            if answer.status == OK:
                return Decimal(str(answer.body["balance"]))
            await asyncio.sleep(POLL_S)
        return None

    async def _mixes(self) -> None:
        """Waits until all mixes are completed, and each has received and paid what the network shows."""
        clock = asyncio.get_running_loop().time
        until_s = clock() + MIXES_MAX_S
        for mix in self._load.mixes:
            while True:
                answer = await self._client.get(f"/v1/mixes/{mix}")
                fault = f"answers {answer.status}" if answer.status != OK else await self._fault_of_mix(answer.body)
                if not fault or clock() > until_s:
                    break
                await asyncio.sleep(POLL_S)
            self.mixes[str(answer.body.get("status"))] += 1
            if fault:
                self.wrong.append(f"mix {mix} {fault}")

    async def _fault_of_mix(self, mix: Mapping[str, object]) -> str:
        try:
            async with asyncio.timeout(NETWORK_MAX_S):
                came = await self._customer.arrived(str(mix["deposit_address"]))
                went = [await self._customer.arrived(each) for each in cast("Sequence[str]", mix["destinations"])]
        except TimeoutError:
            return "cannot be compared: the network does not answer"
        return fault_of_mix(mix, came, sum(went, Decimal(0)))

    async def _verify(self) -> None:
        command = (sys.executable, "-m", "tellerline", "verify", "--json", "--data-dir", str(self._stack.data_dir.path))
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        printed, _ = await process.communicate()
        found = cast("Mapping[str, object]", json.loads(printed or "{}"))
        self.open_findings, fault = judged(process.returncode, found)
        self.wrong += [fault] * bool(fault)


async def connected(dsn: str) -> Connection:
    """A connection to a database that may still be starting. Raises TimeoutError."""
    async with asyncio.timeout(CONNECT_MAX_S):
        while True:
            try:
                return await connect(dsn, application="tellerline-chaos", command_timeout_s=CONNECT_MAX_S)
            except TRANSIENT_FAULTS:
                await asyncio.sleep(POLL_S)


def fault_of_mix(mix: Mapping[str, object], came: Decimal, went: Decimal) -> str:
    """What is wrong with a mix that should have ended; "" when nothing is.

    `came`, `went`: the coins that the network shows at its deposit address and at its destinations.
    """
    received, fee, paid, remaining = (Decimal(str(mix[name])) for name in ("received", "fee", "paid", "remaining"))
    if (mix["status"], received, paid, remaining) == ("completed", came, went, 0) and received == fee + paid:
        return ""
    amounts = f"received {received}, fee {fee}, paid {paid}, remaining {remaining}"
    return f"is {mix['status']}: {amounts}; the network shows {came} and {went}"


def judged(code: int | None, found: Mapping[str, object]) -> tuple[int, str]:
    """By the exit code and the JSON of `verify`: how many findings are open, and what is wrong; "" when nothing is."""
    if found.get("ok"):
        return int(str(found["open_findings"])), ""
    return 0, f"verify ended with {code}: {found.get('first_violation')}"


def _named(command: Command) -> str:
    return f"{command.name} {command.key} ({command.operation})"


def shown(findings: Sequence[str]) -> Sequence[str]:
    """The first findings, and how many more there are."""
    more = len(findings) - SHOWN_MAX
    return [*findings[:SHOWN_MAX], *([f"and {more} more"] if more > 0 else [])]
