"""Where a request comes from: the peer, or what a balancer says that is trusted."""

import asyncio
from dataclasses import dataclass
from typing import cast

import pytest
from aiohttp import web
from multidict import CIMultiDict

from services.gateway.http import sources
from services.gateway.http.problems import Problem
from services.gateway.http.sources import FailureLimit, parse_networks, source_of

TRUSTED = parse_networks("10.0.0.0/8, 2001:db8::1")


@dataclass(slots=True)
class Request:
    transport: asyncio.BaseTransport | None
    headers: CIMultiDict[str]


def source(peer: object, *said: str) -> str:
    headers = CIMultiDict([("X-Forwarded-For", each) for each in said])
    request = Request(None if peer is None else asyncio.BaseTransport({"peername": peer}), headers)
    return source_of(cast("web.BaseRequest", request), TRUSTED)


@pytest.mark.parametrize(
    ("peer", "said", "expected"),
    [
        (("192.0.2.1", 5), (), "192.0.2.1"),
        (("192.0.2.1", 5), ("203.0.113.9",), "192.0.2.1"),
        (("10.1.2.3", 5), ("203.0.113.9",), "203.0.113.9"),
        (("10.1.2.3", 5), ("198.51.100.1, 203.0.113.9",), "203.0.113.9"),
        (("10.1.2.3", 5), ("198.51.100.1", "203.0.113.9"), "203.0.113.9"),
        (("10.1.2.3", 5), (), "10.1.2.3"),
        (("2001:db8::1", 5, 0, 0), ("2001:db8:1:2:3::4",), "2001:db8:1:2::/64"),
        (("2001:db8:9:9:1::2", 5, 0, 0), (), "2001:db8:9:9::/64"),
        (("::ffff:192.0.2.1", 5, 0, 0), (), "192.0.2.1"),
        (("10.1.2.3", 5), ("x" * 500,), "x" * 64),
        ("", (), ""),
        (None, (), ""),
    ],
)
def test_a_source_is_the_peer_unless_a_trusted_balancer_says_another(
    peer: object, said: tuple[str, ...], expected: str
) -> None:
    assert source(peer, *said) == expected


def test_sources_are_bounded_and_the_busiest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SOURCES_KNOWN_MAX", 20)
    limit = FailureLimit(per_s=1.0, burst=100, clock=lambda: 0.0)
    for number in range(100):
        limit.check("busy")
        limit.note("busy")
        limit.note(f"other {number}")
    with pytest.raises(Problem):
        limit.check("busy")
    limit.check("other 99")
