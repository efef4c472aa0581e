"""A client of the Jobcoin network's API. What the network says is input from outside: bounded, checked, exact.

Reads are repeated. A transfer is sent once and never repeated here: the network knows no ids, so only a reading of its
list can tell what became of a transfer whose answer was lost.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import structlog
from prometheus_client import Counter, Gauge

from shared.domain.money import format_amount
from shared.domain.values import value
from shared.mixer.breaker import Breaker, BreakerState, RateAlert
from shared.mixer.jobcoin_rows import (
    COIN_SCALE,
    Address,
    AddressView,
    ListedRow,
    Transfer,
    Unreadable,
    is_object,
    read_address,
    readable_rows,
)
from shared.runtime.retry import backoff_s

log = structlog.get_logger()

CALLS: Final = Counter("jobcoin_calls", "Calls to the network, by kind and how they ended", ["call", "ended"])
BREAKER_STATE: Final = Gauge("jobcoin_breaker_open", "0 closed, 1 half open, 2 open")
FAULT_PERCENT: Final = Gauge("jobcoin_fault_percent", "Share of calls of the last minute that failed")
ROWS_UNREADABLE: Final = Counter("jobcoin_rows_unreadable", "Rows of the network's list that could not be read")
_BREAKER_NUMBERS: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}

READ_ATTEMPTS_MAX: Final = 4
BACKOFF_S_MAX: Final = 2.0
CONNECTIONS_MAX: Final = 16
REFUSED_MIN, REFUSED_MAX = 400, 499
OK: Final = 200
NOT_MODIFIED: Final = 304

T = TypeVar("T")


class NetworkFault(Exception):
    """A call to the network failed."""


class NetworkUnavailable(NetworkFault):
    """Nothing was sent, or a read got no usable answer."""


class TransferRefused(NetworkFault):
    """The network said that this request moved nothing."""


class TransferUnknown(NetworkFault):
    """The transfer may have been applied, or may still be: time-out, lost connection, 5xx, an unreadable answer."""


@value
class Listing:
    """One reading of the whole list, oldest first. `extends`: it begins, byte for byte, with the previous reading."""

    rows: tuple[ListedRow, ...]
    extends: bool


@value
class _Response:
    status: int
    body: bytes
    etag: str | None


class JobcoinNetwork:
    """One instance of the network; see `open_network`."""

    def __init__(self, session: aiohttp.ClientSession, base: str, bytes_max: int) -> None:
        self._session = session
        self._base = base.rstrip("/")
        # Identifies the network's transactions together with their content; the host of the URL may change.
        self.instance = urlsplit(self._base).path.strip("/").removesuffix("/api")
        self._bytes_max = bytes_max
        self._breaker = Breaker()
        self._alert = RateAlert()
        self._last: tuple[bytes, str | None, tuple[ListedRow, ...]] | None = None

    async def transactions(self) -> Listing:
        """The whole list, oldest first. Raises NetworkUnavailable."""
        return await self._read("transactions", self._list)

    async def address(self, address: Address) -> AddressView:
        """Balance and transactions of one address. Raises NetworkUnavailable."""

        async def read() -> AddressView:
            response = await self._call("GET", f"/addresses/{quote(address, safe='')}")
            if response.status != OK:
                raise Unreadable(f"status {response.status}")
            return read_address(address, _json(response.body))

        return await self._read("address", read)

    async def send(self, transfer: Transfer) -> None:
        """Moves coins, and returns once the network said that it did.

        Raises TransferRefused, TransferUnknown, or NetworkUnavailable (it was not sent).
        """
        self._admit("send")
        amount = format_amount(transfer.units, COIN_SCALE)
        fields = {"fromAddress": transfer.source, "toAddress": transfer.destination, "amount": amount}
        try:
            response = await self._call("POST", "/transactions", form=fields)
            body = _json(response.body)
            if not is_object(body):
                raise Unreadable("a response is a JSON object")
        except (aiohttp.ClientError, TimeoutError, OSError, Unreadable) as fault:
            self._note("send", ok=False)
            raise TransferUnknown(repr(fault)) from fault
        if response.status == OK and body.get("status") == "OK":
            self._note("send", ok=True)
            return
        if REFUSED_MIN <= response.status <= REFUSED_MAX and "error" in body:
            self._note("send", ok=True, ended="refused")
            raise TransferRefused(f"{response.status} {str(body['error'])[:200]}")
        self._note("send", ok=False)
        raise TransferUnknown(f"status {response.status}")

    async def _list(self) -> Listing:
        last_body, etag, last_rows = self._last or (b"", None, ())
        response = await self._call("GET", "/transactions", {"If-None-Match": etag} if etag else {})
        if response.status == NOT_MODIFIED and etag is not None:
            return Listing(last_rows, extends=True)
        if response.status != OK:
            raise Unreadable(f"status {response.status}")
        # The list only grows: most readings are the previous one and a few rows more, and only these are parsed.
        body = response.body
        extends = last_body.endswith(b"]") and body.startswith(last_body[:-1])
        if extends and last_rows:
            rest = body[len(last_body) - 1 :].lstrip(b",")
            added, unreadable = readable_rows(_json(b"[" + rest))
            rows = (*last_rows, *added)
        else:
            rows, unreadable = readable_rows(_json(body))
        if unreadable:
            ROWS_UNREADABLE.inc(unreadable)
            log.warning("list.rows_unreadable", rows=unreadable)
        self._last = (body, response.etag, rows)
        return Listing(rows, extends)

    async def _read(self, call: str, read: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(READ_ATTEMPTS_MAX):
            self._admit(call)
            try:
                found = await read()
            except (aiohttp.ClientError, TimeoutError, OSError, Unreadable) as fault:
                self._note(call, ok=False)
                if attempt == READ_ATTEMPTS_MAX - 1:
                    raise NetworkUnavailable(repr(fault)) from fault
                await asyncio.sleep(backoff_s(attempt, s_max=BACKOFF_S_MAX))
            else:
                self._note(call, ok=True)
                return found
        raise NetworkUnavailable(call)

    async def _call(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None
    ) -> _Response:
        async with self._session.request(
            method, self._base + path, headers=headers, data=form, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(65_536):
                body += chunk
                if len(body) > self._bytes_max:
                    raise Unreadable(f"a response has at most {self._bytes_max} bytes")
            return _Response(response.status, bytes(body), response.headers.get("ETag"))

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


@contextlib.asynccontextmanager
async def open_network(base: str, *, timeout_s: float, bytes_max: int) -> AsyncGenerator[JobcoinNetwork]:
    """A client of the instance whose API has this base URL. A call takes at most `timeout_s`."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        auto_decompress=False,  # a small body that unpacks to a huge one must not get in
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    ) as session:
        yield JobcoinNetwork(session, base, bytes_max)


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable("a response is JSON") from error
