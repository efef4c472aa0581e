"""Where a request comes from, and how often that source may fail to authenticate."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import Final, TypeAlias, cast

from aiohttp import web

from services.gateway.http.problems import Problem, RequestFault

SOURCES_KNOWN_MAX: Final = 10_000
# A network provider gives one customer a whole /64.
IPV6_PREFIX: Final = 64

Network: TypeAlias = IPv4Network | IPv6Network


def parse_networks(text: str) -> Sequence[Network]:
    """The networks of a list such as `10.0.0.0/8, 192.0.2.7`. Raises ValueError."""
    return [ip_network(each.strip()) for each in text.split(",") if each.strip()]


def source_of(request: web.BaseRequest, trusted: Sequence[Network]) -> str:
    """The address of the client: the peer's, or the one that a trusted balancer says in the last X-Forwarded-For.

    Addresses of IPv6 are cut to their network.
    """
    peer = cast("object", request.transport.get_extra_info("peername") if request.transport is not None else None)
    address = str(cast("tuple[object, ...]", peer)[0]) if isinstance(peer, tuple) else ""
    said = request.headers.getall("X-Forwarded-For", [])
    if said and _is_in(address, trusted):
        address = said[-1].rpartition(",")[2].strip()
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or ip_network((parsed, IPV6_PREFIX), strict=False))


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


@dataclass(slots=True, eq=False)
class TokenBucket:
    """Allows `burst` at once and `per_s` a second on average. `refilled_s`: when `tokens` was counted last."""

    per_s: float
    burst: float
    tokens: float
    refilled_s: float

    def wait_s(self, now: float) -> float:
        """In how many seconds there will be a token; 0.0 if there is one."""
        self.tokens = min(self.tokens + (now - self.refilled_s) * self.per_s, self.burst)
        self.refilled_s = now
        return 0.0 if self.tokens >= 1 else (1 - self.tokens) / self.per_s

    def take(self, now: float) -> float:
        """Takes a token; returns 0.0, or, without a token, in how many seconds there will be one."""
        wait_s = self.wait_s(now)
        if wait_s == 0.0:
            self.tokens -= 1
        return wait_s


def rate_limited(detail: str, wait_s: float) -> Problem:
    """The answer to whoever has to wait so long."""
    return Problem(RequestFault.RATE_LIMITED, detail, headers={"Retry-After": str(math.ceil(wait_s))})


class FailureLimit:
    """How many API keys of a source may turn out unknown: `burst` at once, `per_s` a second."""

    def __init__(self, *, per_s: float, burst: int, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}

    def check(self, source: str) -> None:
        """Raises Problem rate_limited when the source has had too many failures."""
        bucket = self._buckets.get(source)
        if bucket is not None and (wait_s := bucket.wait_s(self._clock())):
            raise rate_limited("too many unknown API keys came from this address", wait_s)

    def note(self, source: str) -> None:
        """Counts a failure of the source; forgets the sources that have had none for the longest time."""
        now = self._clock()
        bucket = self._buckets.pop(source, None) or TokenBucket(self._per_s, self._burst, self._burst, now)
        self._buckets[source] = bucket  # now the newest
        bucket.take(now)
        if len(self._buckets) > SOURCES_KNOWN_MAX:
            for oldest in list(islice(self._buckets, SOURCES_KNOWN_MAX // 10)):
                del self._buckets[oldest]
