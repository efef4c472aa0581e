"""The simulated network as the published Jobcoin clients call it, each in its own way, byte for byte."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

import pytest

from tests.integration.jobcoin import Client, NetworkProcess, client_of, running

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MULTIPART = "multipart/form-data; boundary=----formdata-undici-031"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkProcess]:
    with running(tmp_path_factory.mktemp("jobcoin")) as network:
        yield network


@pytest.fixture
async def client(network: NetworkProcess) -> AsyncIterator[Client]:
    async with client_of(network) as client:
        yield client


async def called(network: NetworkProcess, request: bytes) -> tuple[int, bytes]:
    """Status and body of a request that is sent as it stands."""
    parts = urlsplit(network.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**22)
    writer.write(request)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    if b"transfer-encoding: chunked" in head.lower():
        body = b"".join(body.split(b"\r\n")[1::2])
    return int(head.split()[1]), body


def request(method: str, path: str, body: bytes = b"", kind: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: jobcoin.gemini.com\r\nConnection: close\r\n"
    if body or kind:
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def multipart(fields: dict[str, str], part_type: str = "") -> bytes:
    parts = [
        f'------formdata-undici-031\r\nContent-Disposition: form-data; name="{name}"\r\n{part_type}\r\n{text}\r\n'
        for name, text in fields.items()
    ]
    return "".join([*parts, "------formdata-undici-031--\r\n"]).encode()


def fields(recipient: str, amount: str) -> dict[str, str]:
    return {"fromAddress": "Alice", "toAddress": recipient, "amount": amount}


@dataclass(frozen=True)
class Way:
    """How a client posts, and the amount as the list shows it then."""

    request: bytes
    listed: str


def form(path: str, to: str, amount: str) -> bytes:
    return request("POST", path, urlencode(fields(to, amount)).encode(), FORM)


def as_json(path: str, to: str, amount: str, more: str = "", kind: str = JSON) -> bytes:
    body = f'{{"fromAddress":"Alice", "toAddress":{json.dumps(to)}, "amount":{amount}{more}}}'
    return request("POST", path, body.encode(), kind)


def as_multipart(path: str, sent: dict[str, str], part_type: str = "") -> bytes:
    return request("POST", path, multipart(sent, part_type), MULTIPART)


UNKNOWN = ',"isRefunded":false,"id":7,"tags":["a",{"amount":1,"amount":2}],"at":null,"x":NaN'


def ways(path: str, to: str) -> dict[str, Way]:
    return {
        "a form, as requests and net/http send it": Way(form(path, to, "1.5"), "1.5"),
        "a form to a path with a slash, as the template for Node": Way(form(path + "/", to, "1.5"), "1.5"),
        "a form with a float's dust": Way(form(path, to, "1.3000000000000007"), "1.3000000000000007"),
        "a form with a small float of Python": Way(form(path, to, "5e-05"), "0.00005"),
        "a form with %g of Go": Way(form(path, to, "1e+00"), "1"),
        "a form without a whole part": Way(form(path, to, ".123456789"), ".123456789"),
        "a form with 28 digits": Way(
            form(path, to, "0.1234567890123456789012345678"), "0.1234567890123456789012345678"
        ),
        "a form in raw UTF-8": Way(
            request("POST", path, f"fromAddress=Alice&toAddress={to}&amount=1".encode(), f"{FORM}; charset=UTF-8"), "1"
        ),
        "JSON with a string": Way(as_json(path, to, '"1.50"'), "1.50"),
        "JSON with a charset": Way(as_json(path, to, '"1"', kind="application/json; charset=utf-8"), "1"),
        "JSON with a number": Way(as_json(path, to, "1.3000000000000007"), "1.3000000000000007"),
        "JSON with a small number": Way(as_json(path, to, "5e-05"), "0.00005"),
        "JSON with unknown fields": Way(as_json(path, to, '"1"', UNKNOWN), "1"),
        "multipart": Way(as_multipart(path, fields(to, "1.25")), "1.25"),
        "multipart with types of its parts": Way(
            as_multipart(path, fields(to, "1"), "Content-Type: application/octet-stream\r\n"), "1"
        ),
        "multipart with an unknown file": Way(
            as_multipart(path, {**fields(to, "1"), 'note"; filename="n.txt': "x"}), "1"
        ),
        "the query string": Way(request("POST", f"{path}?{urlencode(fields(to, '0.75'))}"), "0.75"),
        "the query string of a POST with an empty form": Way(
            request("POST", f"{path}?{urlencode(fields(to, '0.75'))}", b"", FORM), "0.75"
        ),
    }


@pytest.mark.parametrize("way", ways("", ""))
@pytest.mark.parametrize("to", ["bob", "Zoë & söhne"], ids=["plain", "with other characters"])
async def test_each_published_client_s_way_of_posting_moves_exactly_its_coins(
    network: NetworkProcess, client: Client, way: str, to: str
) -> None:
    api = f"/w-{uuid.uuid4().hex}/api"
    chosen = ways(f"{api}/transactions", to)[way]
    if "raw UTF-8" in way:
        to = to.split("&", maxsplit=1)[0]
    assert await called(network, chosen.request) == (200, b'{"status":"OK"}')
    row = (await client.listed(api))[-1]
    assert (row["fromAddress"], row["toAddress"], row["amount"]) == ("Alice", to, chosen.listed)


ADDRESSES = {
    "derived from its destinations, as one client does": "deposit:"
    + ",".join(f"{number:0>36}" for number in range(12)),
    "4,096 bytes": "x" * 4_096,
    "4,096 bytes of other characters": "\N{FIRE}" * 1_024,
    "braces": "{instance}",
    "path-like": "../../a/b//c?x=1#y",
    "slash at the end": "ends/",
    "percent signs": "100%25%2F%zz",
    "control characters": "a\x00b\r\nc\x7f",
    "spaces": "  two words ",
    "emoji": "👩\N{ZERO WIDTH JOINER}🚀",
    "JSON": '{"a":"b\\"}',
}


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
@pytest.mark.parametrize("way", ["form", "JSON", "multipart", "query"])
async def test_any_text_of_4096_bytes_is_an_address(
    network: NetworkProcess, client: Client, address: str, way: str
) -> None:
    api = f"/a-{uuid.uuid4().hex}/api"
    sent, path = fields(address, "1"), f"{api}/transactions"
    posted = {
        "form": request("POST", path, urlencode(sent).encode(), FORM),
        "JSON": request("POST", path, json.dumps(sent).encode(), JSON),
        "multipart": request("POST", path, multipart(sent), MULTIPART),
        "query": request("POST", f"{path}?{urlencode(sent)}"),
    }
    assert (await called(network, posted[way]))[0] == 200
    assert (await client.listed(api))[-1]["toAddress"] == address
    status, body = await called(network, request("GET", f"{api}/addresses/{quote(address, safe='')}"))
    shown = json.loads(body)
    assert (status, shown["balance"], shown["transactions"][0]["toAddress"]) == (200, "1", address)
    # Such an address can also send, to one that is as long.
    back = request(
        "POST", path, urlencode({"fromAddress": address, "toAddress": "y" * 4_096, "amount": "1"}).encode(), FORM
    )
    assert await called(network, back) == (200, b'{"status":"OK"}')


@pytest.mark.parametrize("address", ["x" * 4_097, "\N{FIRE}" * 1_024 + "x"])
async def test_a_longer_address_is_refused_by_name(client: Client, address: str) -> None:
    status, body = await client.send("Alice", address, "1")
    assert (status, body) == (400, {"error": {"toAddress": ["An address has at most 4096 bytes."]}})


async def test_a_list_is_read_in_each_published_client_s_way(network: NetworkProcess) -> None:
    for path in ("/reads/api/transactions", "/reads/api/transactions/"):
        status, body = await called(network, request("GET", path))
        assert (status, [row["amount"] for row in json.loads(body)]) == (200, ["50", "12.5"])
    for path in ("/reads/api/addresses/Alice", "/reads/api/addresses/Alice/"):
        status, body = await called(network, request("GET", path))
        assert (status, json.loads(body)["balance"], len(json.loads(body)["transactions"])) == (200, "37.5", 2)
    head = b"GET /reads/api/transactions HTTP/1.0\r\n\r\n"
    assert json.loads((await called(network, head))[1])[0]["toAddress"] == "Alice"
