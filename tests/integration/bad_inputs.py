"""Bad input by the table: amounts, bodies, headers, bytes that are no HTTP, paths and queries."""

import json

from tests.integration.gateway import ADMIN_KEY

HEAD = f"Host: a\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
JSON_HEAD = HEAD + "Content-Type: application/json\r\n"
POST = f"POST /v1/transfers HTTP/1.1\r\n{JSON_HEAD}".encode()
GOOD = {"source": "a", "destination": "b", "amount": "1", "asset": "USD"}


def nested(depth: int, open_: str, close: str) -> bytes:
    return b'{"metadata":{"x":' + open_.encode() * depth + b"1" + close.encode() * depth + b"}}"


AMOUNTS = [
    *("1", "1.5", "-1", "1e5", "1E400", "0", "true", "null", "[]", "{}", "NaN", "Infinity", "-Infinity", "1e1000000"),
    *('""', '" 1"', '"1 "', '"1\\n"', '"+1"', '"-1"', '"-0"', '"1e5"', '"1_000"', '"1,5"', '".5"', '"5."', '"0x10"'),
    *(
        '"NaN"',
        '"Infinity"',
        '"١٢"',
        '"\uff11\uff12"',
        '"²"',
        '"1\\u0000"',
        '"\\ud800"',
        '"1.2.3"',
        '"1\u200b"',
        '"0.00"',
        '"0"',
    ),
    *(f'"{"9" * 31}"', f'"{"1" * 100_000}"', f'"0.{"1" * 100_000}"', "1" * 100_000, '"0.001"'),
]

BODIES = {
    "empty": b"",
    "space": b"  ",
    "bom": b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
    "utf-16": json.dumps(GOOD).encode("utf-16"),
    "bad utf-8": b'{"source":"\xff"}',
    "lone surrogate": b'{"reference":"\\ud800"}',
    "nul": b'{"reference":"\\u0000"}',
    "nul in metadata": b'{"source":"a","destination":"b","amount":"1","asset":"USD","metadata":{"a":"\\u0000"}}',
    "surrogate in a key": b'{"source":"a","destination":"b","amount":"1","asset":"USD","metadata":{"\\udc00":1}}',
    "array": b"[]",
    "string": b'"x"',
    "number": b"1",
    "null": b"null",
    "two values": b"{}{}",
    "trailing comma": b'{"a":1,}',
    "comment": b'{"a":1}//x',
    "single quotes": b"{'a':1}",
    "duplicate keys": b'{"source":"a","source":"b","destination":"b","amount":"1","asset":"USD"}',
    "duplicate keys by escape": b'{"source":"a","s\\u006furce":"b","destination":"b","amount":"1","asset":"USD"}',
    "duplicate keys inside": b'{"source":"a","destination":"b","amount":"1","asset":"USD","metadata":{"a":1,"a":2}}',
    "unknown field": json.dumps({**GOOD, "extra": 1}).encode(),
    "no such account name": json.dumps({**GOOD, "source": "A B"}).encode(),
    "a name too long": json.dumps({**GOOD, "source": "a" * 65}).encode(),
    "newline after a name": json.dumps({**GOOD, "source": "a\n"}).encode(),
    "nan in metadata": b'{"source":"a","destination":"b","amount":"1","asset":"USD","metadata":{"a":NaN}}',
    "huge number in metadata": b'{"source":"a","destination":"b","amount":"1","asset":"USD","metadata":{"a":1e400}}',
    "digits in metadata": b'{"source":"a","destination":"b","amount":"1","asset":"USD","metadata":{"a":'
    + b"1" * 5_000
    + b"}}",
    "33 deep": nested(33, "[", "]"),
    "30,000 deep": nested(30_000, "[", "]"),
    "30,000 objects deep": nested(30_000, '{"a":', "}"),
    "unclosed": b"[" * 100_000,
    "10,000 keys": json.dumps({f"k{n}": 1 for n in range(10_000)}).encode(),
    "metadata too long": json.dumps({**GOOD, "metadata": {"a": "x" * 10_000}}).encode(),
    "reference too long": json.dumps({**GOOD, "reference": "x" * 1_000}).encode(),
    "control character": b'{"reference":"\x01"}',
    "null where text": json.dumps({**GOOD, "source": None}).encode(),
}

MEDIA = {
    "no type": (HEAD, 415),
    "text": (HEAD + "Content-Type: text/plain\r\n", 415),
    "form": (HEAD + "Content-Type: application/x-www-form-urlencoded\r\n", 415),
    "multipart": (HEAD + "Content-Type: multipart/form-data; boundary=x\r\n", 415),
    "json by another name": (HEAD + "Content-Type: text/json\r\n", 415),
    "another charset": (HEAD + "Content-Type: application/json; charset=utf-16\r\n", 415),
    "gzip": (JSON_HEAD + "Content-Encoding: gzip\r\n", 415),
    "brotli": (JSON_HEAD + "Content-Encoding: br\r\n", 415),
    "not acceptable": (JSON_HEAD + "Accept: text/html\r\n", 406),
    "two keys": (JSON_HEAD + "Idempotency-Key: a\r\nIdempotency-Key: b\r\n", 400),
    "empty key": (JSON_HEAD + "Idempotency-Key: \r\n", 400),
    "key too long": (JSON_HEAD + f"Idempotency-Key: {'k' * 256}\r\n", 400),
    "key not ASCII": (JSON_HEAD + "Idempotency-Key: ключ\r\n", 400),
    "two authorizations": (JSON_HEAD + "Authorization: Bearer x\r\n", 401),
    "basic": ("Host: a\r\nContent-Type: application/json\r\nAuthorization: Basic YTpi\r\n", 401),
}

WIRE = {
    "nonsense": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "http/0.9": b"GET /\r\n\r\n",
    "http/0.9 by name": b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    "http/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "http/3.7": b"GET / HTTP/3.7\r\nHost: a\r\n\r\n",
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "signed length": POST + b"Content-Length: +5\r\n\r\n{}",
    "negative length": POST + b"Content-Length: -1\r\n\r\n{}",
    "chunked otherwise": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "bad chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "nul in a header": b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "long line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "long header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X%d: a\r\n" % n for n in range(500)) + b"\r\n",
}

PATHS = {
    "no route": ("/v1/nothing", 404),
    "no version": ("/v2/accounts", 404),
    "up": ("/v1/../metrics", 404),
    "up, encoded": ("/docs/%2e%2e%2fapp.py", 404),
    "doubled": ("//v1/accounts", 404),
    "trailing slash": ("/v1/accounts/", 404),
    "a name that is none": ("/v1/accounts/%00", 404),
    "a code that is none": ("/v1/assets/%00", 404),
    "not UTF-8": ("/v1/accounts/%ff", 404),
    "quote": ("/v1/accounts/'%20OR%201=1--", 404),
    "long name": ("/v1/accounts/" + "a" * 5_000, 404),
    "unknown parameter": ("/v1/accounts?x=1", 400),
    "a parameter twice": ("/v1/accounts?limit=1&limit=2", 400),
    "limit 0": ("/v1/accounts?limit=0", 400),
    "limit 501": ("/v1/accounts?limit=501", 400),
    "limit 1.0": ("/v1/accounts?limit=1.0", 400),
    "limit in another script": ("/v1/accounts?limit=%D9%A1", 400),
    "limit with a sign": ("/v1/accounts?limit=%2B1", 400),
    "limit of many digits": ("/v1/accounts?limit=" + "1" * 5_000, 400),
    "empty cursor": ("/v1/accounts?cursor=", 400),
    "bad percent": ("/v1/accounts?id_prefix=%ff", 400),
    "nul": ("/v1/accounts?id_prefix=%00", 400),
    "no day": ("/v1/transactions?after=2026-02-30T00:00:00Z", 400),
    "no zone": ("/v1/transactions?after=2026-02-01T00:00:00", 400),
    "year 0": ("/v1/transactions?after=0000-01-01T00:00:00Z", 400),
    "out of range": ("/v1/transactions?after=0001-01-01T00:00:00%2B14:00", 400),
    "a parameter where none is": ("/v1/assets/USD?x=1", 400),
    "wait too long": ("/v1/operations/00000000-0000-8000-8000-000000000000?wait=31", 400),
    "kind of nothing": ("/v1/transactions?kind=nothing", 400),
    "many parameters": ("/v1/accounts?" + "&".join(f"a{n}=1" for n in range(1_000)), 400),
}
