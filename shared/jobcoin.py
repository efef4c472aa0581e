"""A client of the Jobcoin network's API. Its answers are input from outside: bounded, checked, exact.

Reads are repeated with capped exponential backoff and full jitter. A transfer is sent once and never repeated here: the
network knows no ids, so only a read of the list can tell what became of one whose answer was lost.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import structlog
from prometheus_client import Counter, Gauge

from shared.breaker import Breaker, BreakerState, RateAlert
from shared.jobcoin_rows import (
    Address,
    AddressView,
    Row,
    Transfer,
    Unreadable,
    coins_text,
    is_object,
    read_address,
    readable_rows,
)
from shared.values import value

log = structlog.get_logger()

CALLS: Final = Counter("jobcoin_calls", "Calls to the network, by kind and how they ended", ["call", "ended"])
BREAKER_STATE: Final = Gauge("jobcoin_breaker_open", "0 closed, 1 half open, 2 open")
FAULT_PERCENT: Final = Gauge("jobcoin_fault_percent", "Share of calls of the last minute that failed")
ROWS_UNREADABLE: Final = Counter("jobcoin_rows_unreadable", "Rows of the network's list that could not be read")
_BREAKER_NUMBERS: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}

READ_ATTEMPTS_MAX: Final = 4
BACKOFF_MS_MIN: Final = 50
BACKOFF_MS_MAX: Final = 2_000
CONNECTIONS_MAX: Final = 16
REFUSED_MIN, REFUSED_MAX = 400, 499
OK: Final = 200
NOT_MODIFIED: Final = 304

T = TypeVar("T")


class NetworkFault(Exception):
    """A call to the network did not end well."""


class NetworkUnavailable(NetworkFault):
    """Nothing could be read, or nothing was sent: the network was not asked, or gave no answer to a read."""


class TransferRefused(NetworkFault):
    """The network said no, in so many words: this very request moved nothing."""


class TransferUnknown(NetworkFault):
    """It may have been applied, or may yet be: time-out, cut connection, 5xx, an answer that cannot be read."""


@value
class Listing:
    """One reading of the whole list. `extends`: its beginning is, byte for byte, the reading before."""

    rows: tuple[Row, ...]
    extends: bool


@value
class _Answer:
    status: int
    body: bytes
    etag: str | None


def backoff_s(attempt: int) -> float:
    """Seconds before repeat n = 0, 1, …: anything up to a bound that doubles (full jitter)."""
    return random.uniform(0, min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2**attempt)) / 1_000  # noqa: S311 - jitter


class JobcoinNetwork:
    """One instance of the network, by the base URL of its API. Use as an async context manager."""

    def __init__(self, base: str, *, timeout_s: float = 5.0, bytes_max: int = 64 * 1024 * 1024) -> None:
        self._base = base.rstrip("/")
        # The instance is part of what identifies a transaction; the host may change.
        self.instance = urlsplit(self._base).path.strip("/").removesuffix("/api")
        self._bytes_max = bytes_max
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._breaker = Breaker()
        self._alert = RateAlert()
        self._last: tuple[bytes, str | None, tuple[Row, ...]] | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,  # no bombs: we ask for no encoding and read none
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def transactions(self) -> Listing:
        """The whole list, oldest first. Raises NetworkUnavailable."""
        return await self._read("transactions", self._list)

    async def address(self, address: Address) -> AddressView:
        """Balance and transactions of one address. Raises NetworkUnavailable."""

        async def ask() -> AddressView:
            answer = await self._call("GET", f"/addresses/{quote(address, safe='')}")
            return read_address(address, _json_of(answer))

        return await self._read("address", ask)

    async def send(self, transfer: Transfer) -> None:
        """Moves coins; returns when the network said OK.

        Raises TransferRefused, TransferUnknown, or NetworkUnavailable (it was not sent).
        """
        self._admit("send")
        fields = {
            "fromAddress": transfer.source, "toAddress": transfer.destination, "amount": coins_text(transfer.units),
        }  # fmt: skip
        try:
            answer = await self._call("POST", "/transactions", form=fields)
            body = _json_object(answer)
        except (aiohttp.ClientError, TimeoutError, OSError, Unreadable) as fault:
            self._note("send", ok=False)
            raise TransferUnknown(repr(fault)) from fault
        if answer.status == OK and body.get("status") == "OK":
            self._note("send", ok=True)
            return
        if REFUSED_MIN <= answer.status <= REFUSED_MAX and "error" in body:
            self._note("send", ok=True, ended="refused")
            raise TransferRefused(f"{answer.status} {str(body['error'])[:200]}")
        self._note("send", ok=False)
        raise TransferUnknown(f"status {answer.status}")

    async def _list(self) -> Listing:
        last_body, etag, last_rows = self._last or (b"", None, ())
        answer = await self._call("GET", "/transactions", {"If-None-Match": etag} if etag else {})
        if answer.status == NOT_MODIFIED and etag is not None:
            return Listing(last_rows, extends=True)
        if answer.status != OK:
            raise Unreadable(f"status {answer.status}")
        # The list only grows, so most readings are the last one and a few rows more.
        body = answer.body
        extends = last_body.endswith(b"]") and body.startswith(last_body[:-1])
        if extends and last_rows:
            rest = body[len(last_body) - 1 :].lstrip(b",")
            added, unreadable = readable_rows(_parsed(b"[" + rest))
            rows = (*last_rows, *added)
        else:
            rows, unreadable = readable_rows(_parsed(body))
        if unreadable:
            ROWS_UNREADABLE.inc(unreadable)
            log.warning("list.rows_unreadable", rows=unreadable)
        self._last = (body, answer.etag, rows)
        return Listing(rows, extends)

    async def _read(self, call: str, ask: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(READ_ATTEMPTS_MAX):
            self._admit(call)
            try:
                value = await ask()
            except (aiohttp.ClientError, TimeoutError, OSError, Unreadable) as fault:
                self._note(call, ok=False)
                if attempt == READ_ATTEMPTS_MAX - 1:
                    raise NetworkUnavailable(repr(fault)) from fault
                await asyncio.sleep(backoff_s(attempt))
            else:
                self._note(call, ok=True)
                return value
        raise NetworkUnavailable(call)

    async def _call(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None
    ) -> _Answer:
        if self._session is None:
            raise NetworkUnavailable("the client is not open")
        async with self._session.request(
            method, self._base + path, headers=headers, data=form, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(65_536):
                body += chunk
                if len(body) > self._bytes_max:
                    raise Unreadable(f"an answer has at most {self._bytes_max} bytes")
            return _Answer(response.status, bytes(body), response.headers.get("ETag"))

    def _admit(self, call: str) -> None:
        if not self._breaker.admits(asyncio.get_running_loop().time()):
            CALLS.labels(call, "not_sent").inc()
            raise NetworkUnavailable("the circuit breaker is open")

    def _note(self, call: str, *, ok: bool, ended: str | None = None) -> None:
        now_s = asyncio.get_running_loop().time()
        CALLS.labels(call, ended or ("ok" if ok else "fault")).inc()
        before = self._breaker.state
        self._breaker.note(now_s, ok=ok)
        if self._breaker.state is not before:
            log.warning("breaker.changed", before=before.value, after=self._breaker.state.value)
        BREAKER_STATE.set(_BREAKER_NUMBERS[self._breaker.state])
        change = self._alert.note(now_s, ok=ok)
        FAULT_PERCENT.set(self._alert.window.fault_percent)
        if change is not None:
            event = "network.error_rate_high" if change else "network.error_rate_normal"
            (log.error if change else log.info)(event, percent=self._alert.window.fault_percent)


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable("an answer is JSON") from error


def _json_of(answer: _Answer) -> object:
    if answer.status != OK:
        raise Unreadable(f"status {answer.status}")
    return _parsed(answer.body)


def _json_object(answer: _Answer) -> Mapping[str, object]:
    value = _parsed(answer.body)
    if not is_object(value):
        raise Unreadable("an answer is a JSON object")
    return value
