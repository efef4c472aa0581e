"""A client of the HTTP API that keeps an account of what it was told, as a careful customer would."""

import asyncio
import itertools
import json
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.system.stack import Stack

# The longest `Prefer: wait` is 30 s.
ANSWER_MAX_S = 45.0
RETRY_S = 0.2
# Not outcomes: the same request, with the same key, may be sent again (docs/API.md). 0: no answer at all.
UNDECIDED = frozenset({0, 202, 429, 503, 504})
_numbers = itertools.count()


def fresh_key(prefix: str = "key") -> str:
    """An Idempotency-Key that no other test, of this run or another, uses."""
    return f"{prefix}-{os.getpid()}-{next(_numbers)}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Status 0 means that nothing did: the connection was cut, or the time was up."""

    status: int
    body: Mapping[str, object] = field(default_factory=dict[str, object])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def operation_id(self) -> str:
        """Names the command, for whatever became one."""
        return self.headers.get("Operation-Id", "")

    @property
    def code(self) -> str:
        """The problem's code; empty for what is no problem."""
        return str(self.body.get("code", ""))

    @property
    def replayed(self) -> bool:
        """Whether this is the first outcome, told again."""
        return self.headers.get("Idempotency-Replayed") == "true"


@dataclass(slots=True)
class Ledger:
    """What clients were told for good, by operation id. Afterwards all of it must be in the journal, exactly once."""

    posted: dict[str, Answer] = field(default_factory=dict[str, Answer])
    rejected: dict[str, Answer] = field(default_factory=dict[str, Answer])
    undecided: int = 0

    def note(self, answer: Answer) -> None:
        """Keeps an outcome, counts what was none."""
        if answer.status in UNDECIDED:
            self.undecided += 1
        elif answer.operation_id and answer.status < 300:  # success
            self.posted[answer.operation_id] = answer
        elif (
            answer.operation_id and answer.code != "idempotency_key_reused"
        ):  # whose id has the first content's outcome
            self.rejected[answer.operation_id] = answer


@dataclass(slots=True)
class Client:
    """Speaks to a gateway under one API key."""

    session: aiohttp.ClientSession
    base: str
    api_key: str
    told: Ledger = field(default_factory=Ledger)

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        prefer: str | None = None,
        within_s: float = ANSWER_MAX_S,
    ) -> Answer:
        """One request, never sent again. A cut connection or a time-out is an Answer with status 0."""
        headers = {"Authorization": f"Bearer {self.api_key}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        if prefer is not None:
            headers["Prefer"] = prefer
        payload = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            async with (
                asyncio.timeout(within_s),
                self.session.request(method, self.base + path, data=payload, headers=headers) as response,
            ):
                text = await response.text()
                answer = Answer(response.status, json.loads(text) if text else {}, dict(response.headers))
        except (aiohttp.ClientError, TimeoutError):
            answer = Answer(0)
        if method != "GET":
            self.told.note(answer)
        return answer

    async def get(self, path: str) -> Answer:
        """Reads."""
        return await self.request("GET", path)

    async def post(
        self,
        path: str,
        body: object,
        *,
        key: str | None = None,
        prefer: str | None = None,
        within_s: float = ANSWER_MAX_S,
    ) -> Answer:
        """Sends a command once."""
        return await self.request("POST", path, body, key=key, prefer=prefer, within_s=within_s)

    async def post_until_decided(
        self, path: str, body: object, *, key: str | None = None, within_s: float = 90
    ) -> Answer:
        """Sends the same command with the same key until it has an outcome. Raises TimeoutError."""
        key = key or fresh_key()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while (answer := await self.post(path, body, key=key)).status in UNDECIDED:
            if loop.time() > deadline:
                raise TimeoutError(f"{path} {key}: no outcome within {within_s} s, last {answer.status} {answer.body}")
            await asyncio.sleep(RETRY_S)
        return answer

    async def account(self, account: str | None = None, *, asset: str = "USD", funds: str | None = None) -> str:
        """A new account, with `funds` deposited to it; its id."""
        account = account or fresh_key("acc")
        opened = await self.post_until_decided("/v1/accounts", {"id": account, "asset": asset})
        assert opened.status == 201, opened
        if funds is not None:
            paid = await self.post_until_decided("/v1/deposits", {"account": account, "amount": funds, "asset": asset})
            assert paid.status == 201, paid
        return account

    async def accounts(self, count: int, *, asset: str = "USD", funds: str | None = None) -> list[str]:
        """That many new accounts, made side by side."""
        return await asyncio.gather(*(self.account(asset=asset, funds=funds) for _ in range(count)))

    async def transfer(
        self, source: str, destination: str, amount: str, *, asset: str = "USD", key: str | None = None
    ) -> Answer:
        """Sends a transfer once, under a key."""
        body = {"source": source, "destination": destination, "amount": amount, "asset": asset}
        return await self.post("/v1/transfers", body, key=key or fresh_key())

    async def transfer_until_decided(
        self, source: str, destination: str, amount: str, *, asset: str = "USD", key: str | None = None
    ) -> Answer:
        """Sends a transfer until it has an outcome."""
        body = {"source": source, "destination": destination, "amount": amount, "asset": asset}
        return await self.post_until_decided("/v1/transfers", body, key=key)

    async def balance(self, account: str) -> str:
        """The balance that the API shows."""
        answer = await self.get(f"/v1/accounts/{account}")
        assert answer.status == 200, answer
        return str(answer.body["balance"])


@asynccontextmanager
async def client_of(stack: Stack, *, base: str | None = None, api_key: str | None = None) -> AsyncGenerator[Client]:
    """A client of the stack's first gateway, as its admin, unless others are given."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=ANSWER_MAX_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Client(session, base or stack.facts.gateway, api_key or stack.facts.admin_key)


COUNT_OUTCOMES = """
SELECT id::text, outcome, count(*) AS times FROM ledger.operations WHERE id = ANY($1::uuid[]) GROUP BY 1, 2
"""


async def prove(stack: Stack, told: Ledger) -> None:
    """What clients were told is in the journal exactly once, and the whole ledger is sound."""
    ids = [*told.posted, *told.rejected]
    written = {str(row["id"]): row for row in await stack.rows(COUNT_OUTCOMES, ids)}
    missing = [each for each in ids if each not in written]
    assert not missing, f"{len(missing)} of {len(ids)} outcomes that were told are not in the journal: {missing[:3]}"
    for each, row in written.items():
        assert row["times"] == 1
        assert (row["outcome"] != "rejected") == (each in told.posted), (each, row, told.posted.get(each))
    await stack.verify()
