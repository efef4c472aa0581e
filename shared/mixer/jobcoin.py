"""A client of the Jobcoin network's API. What the network says is input from outside: bounded, checked, exact.

Reads are repeated. A transfer is sent once and never repeated here: the network knows no ids, so only a reading of its
list can tell what became of a transfer whose answer was lost.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Final
from urllib.parse import quote

import aiohttp
import structlog
from prometheus_client import Counter, Gauge
from yarl import URL

from shared.domain.money import format_amount
from shared.domain.values import value
from shared.mixer.breaker import Breaker, BreakerState, RateAlert
from shared.mixer.jobcoin_rows import (
    COIN_SCALE,
    Address,
    AddressView,
    Transfer,
    Unreadable,
    is_object,
    read_address,
)
from shared.runtime.retry import backoff_s

log = structlog.get_logger()

CALLS: Final = Counter("jobcoin_calls", "Calls to the network, by kind and how they ended", ["call", "ended"])
BREAKER_STATE: Final = Gauge("jobcoin_breaker_open", "0 closed, 1 half open, 2 open, by kind of call", ["call"])
FAULT_PERCENT: Final = Gauge("jobcoin_fault_percent", "Share of calls of the last minute that failed")
_BREAKER_NUMBERS: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}

READ_ATTEMPTS_MAX: Final = 4
BACKOFF_S_MAX: Final = 2.0
CONNECTIONS_MAX: Final = 16
PIECE_BYTES: Final = 65_536
REFUSED_MIN, REFUSED_MAX = 400, 499
OK: Final = 200
NOT_MODIFIED: Final = 304
REQUEST_TIMEOUT: Final = 408
TOO_MANY_REQUESTS: Final = 429
# These statuses say when the request was heard, not that it will not be applied.
UNDECIDED: Final = frozenset({REQUEST_TIMEOUT, TOO_MANY_REQUESTS})
CALLS_MADE: Final = ("list", "address", "send")
CALL_FAULTS: Final = (aiohttp.ClientError, TimeoutError, OSError)


class NetworkFault(Exception):
    """A call to the network failed."""


class NetworkUnavailable(NetworkFault):
    """Nothing was sent, or a read got no usable answer."""


class AddressUnreadable(NetworkUnavailable):
    """The network answers, but says nothing of this address that can be read."""


class TransferRefused(NetworkFault):
    """The network said that this request moved nothing."""


class TransferUnknown(NetworkFault):
    """The transfer may have been applied, or may still be: time-out, lost connection, 5xx, an unreadable answer."""


@value
class Listing:
    """The whole list, oldest first, as it arrives. `pieces` raise NetworkUnavailable."""

    etag: str | None
    pieces: AsyncIterator[bytes]


@value
class _Response:
    status: int
    body: bytes


class JobcoinNetwork:
    """One instance of the network; see `open_network`.

    Each kind of call has a circuit breaker of its own: a list that cannot be read stops no transfer.
    """

    def __init__(
        self, session: aiohttp.ClientSession, base: str, bytes_max: int, list_timeout: aiohttp.ClientTimeout
    ) -> None:
        self._session = session
        self._base = base.rstrip("/")
        self._bytes_max = bytes_max
        self._list_timeout = list_timeout
        self._breakers = {call: Breaker() for call in CALLS_MADE}
        self._alert = RateAlert()

    @contextlib.asynccontextmanager
    async def listing(self, etag: str | None) -> AsyncGenerator[Listing | None]:
        """The whole list; None if it is still the one that had this ETag. Raises NetworkUnavailable.

        What the caller finds unreadable, and raises as Unreadable, is a fault of the network as well.
        """
        self._admit("list")
        headers = {"If-None-Match": etag} if etag else {}
        try:
            response = await self._session.get(
                f"{self._base}/transactions", headers=headers, allow_redirects=False, timeout=self._list_timeout
            )
        except CALL_FAULTS as fault:
            self._note("list", ok=False)
            raise NetworkUnavailable(repr(fault)) from fault
        try:
            if response.status == NOT_MODIFIED and etag is not None:
                yield None
            elif response.status == OK:
                yield Listing(response.headers.get("ETag"), _pieces(response))
            else:
                raise Unreadable(f"status {response.status}")
        except (NetworkUnavailable, Unreadable) as fault:
            self._note("list", ok=False)
            raise NetworkUnavailable(str(fault)) from fault
        finally:
            response.close()
        self._note("list", ok=True)

    async def address(self, address: Address) -> AddressView:
        """Balance and transactions of one address. Raises AddressUnreadable or NetworkUnavailable."""
        for attempt in range(READ_ATTEMPTS_MAX):
            self._admit("address")
            try:
                return await self._address(address)
            except (AddressUnreadable, *CALL_FAULTS) as fault:
                is_unreadable = isinstance(fault, AddressUnreadable)
                # A stranger's address, which may say anything, must not stop the calls for others.
                self._note("address", ok=is_unreadable, ended="unreadable" if is_unreadable else None)
                if attempt == READ_ATTEMPTS_MAX - 1:
                    raise fault if is_unreadable else NetworkUnavailable(repr(fault)) from fault
            await asyncio.sleep(backoff_s(attempt, s_max=BACKOFF_S_MAX))
        raise NetworkUnavailable("address")

    async def _address(self, address: Address) -> AddressView:
        try:
            response = await self._call("GET", f"/addresses/{quote(address, safe='')}")
            if response.status in UNDECIDED or response.status > REFUSED_MAX:
                raise aiohttp.ClientPayloadError(f"status {response.status}")
            if response.status != OK:
                raise Unreadable(f"status {response.status}")
            view = read_address(address, _json(response.body))
        except Unreadable as fault:
            raise AddressUnreadable(str(fault)) from fault
        self._note("address", ok=True)
        return view

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
        except (*CALL_FAULTS, Unreadable) as fault:
            self._note("send", ok=False)
            raise TransferUnknown(repr(fault)) from fault
        if response.status == OK and body.get("status") == "OK":
            self._note("send", ok=True)
            return
        if is_refusal(response.status, body):
            self._note("send", ok=True, ended="refused")
            raise TransferRefused(f"{response.status} {str(body['error'])[:200]}")
        self._note("send", ok=False)
        raise TransferUnknown(f"status {response.status}")

    async def _call(self, method: str, path: str, form: Mapping[str, str] | None = None) -> _Response:
        url = URL(self._base + path, encoded=True)  # else "." and ".." would be resolved, and escapes undone
        async with self._session.request(method, url, data=form, allow_redirects=False) as response:
            body = bytearray()
            async for piece in response.content.iter_chunked(PIECE_BYTES):
                body += piece
                if len(body) > self._bytes_max:
                    raise Unreadable(f"a response has at most {self._bytes_max} bytes")
            return _Response(response.status, bytes(body))

    def _admit(self, call: str) -> None:
        if not self._breakers[call].admits(asyncio.get_running_loop().time()):
            CALLS.labels(call, "not_sent").inc()
            raise NetworkUnavailable("the circuit breaker is open")

    def _note(self, call: str, *, ok: bool, ended: str | None = None) -> None:
        now_s = asyncio.get_running_loop().time()
        CALLS.labels(call, ended or ("ok" if ok else "fault")).inc()
        breaker = self._breakers[call]
        before = breaker.state
        breaker.note(now_s, ok=ok)
        if breaker.state is not before:
            log.warning("breaker.changed", call=call, before=before.value, after=breaker.state.value)
        BREAKER_STATE.labels(call).set(_BREAKER_NUMBERS[breaker.state])
        change = self._alert.note(now_s, ok=ok)
        FAULT_PERCENT.set(self._alert.window.fault_percent)
        if change is not None:
            event = "network.error_rate_high" if change else "network.error_rate_normal"
            (log.error if change else log.info)(event, percent=self._alert.window.fault_percent)


def is_refusal(status: int, body: Mapping[str, object]) -> bool:
    """True if the answer to a transfer says why it moved nothing: a reason in words, or messages by field."""
    error = body.get("error")
    is_reason = (isinstance(error, str) and bool(error.strip())) or (is_object(error) and bool(error))
    return REFUSED_MIN <= status <= REFUSED_MAX and status not in UNDECIDED and is_reason


@contextlib.asynccontextmanager
async def open_network(
    base: str, *, timeout_s: float, list_timeout_s: float, bytes_max: int
) -> AsyncGenerator[JobcoinNetwork]:
    """A client of the instance whose API has this base URL.

    A call takes at most `timeout_s`. The list takes at most `list_timeout_s`, and never rests for `timeout_s`.
    """
    list_timeout = aiohttp.ClientTimeout(total=list_timeout_s, sock_connect=timeout_s, sock_read=timeout_s)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        auto_decompress=False,  # a small body that unpacks to a huge one must not get in
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    ) as session:
        yield JobcoinNetwork(session, base, bytes_max, list_timeout)


async def _pieces(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    try:
        async for piece in response.content.iter_chunked(PIECE_BYTES):
            yield piece
    except CALL_FAULTS as fault:
        raise NetworkUnavailable(repr(fault)) from fault


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable("a response is JSON") from error
