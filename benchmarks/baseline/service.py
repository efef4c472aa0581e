"""The baseline's HTTP: one route, under the gateway's rules for keys, bodies, repeats and answers."""

import hashlib
import itertools
import json
import os
import re
import time
from dataclasses import dataclass, field
from typing import Final

import structlog
from aiohttp import web

from benchmarks.baseline.bodies import BODY_BYTES_MAX, Transfer, parse_transfer
from benchmarks.baseline.connections import Connections
from benchmarks.baseline.forms import FORMS, Caller, Form, Outcome, by_function, recorded
from benchmarks.baseline.problems import STATUS_OF, Refusal
from shared.domain.money import format_amount

log = structlog.get_logger()

IDEMPOTENCY_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)
API_KEY: Final = re.compile(r"[\x21-\x7e]{16,200}", re.ASCII)
KEY_AGE_S_MAX: Final = 5.0
KEYS_KNOWN_MAX: Final = 1_000
READ_KEY: Final = "SELECT principal, admin FROM baseline.keys WHERE hash = $1"
READ_ASSETS: Final = "SELECT code, scale FROM baseline.assets"
TRANSFERS: Final = "/v1/transfers"

_COMPACT: Final = json.JSONEncoder(separators=(",", ":"))


@dataclass(slots=True)
class Baseline:
    """Serves transfers in the form, and with as many connections, as it was told last."""

    connections: Connections
    form: Form = by_function
    scales: dict[str, int] = field(default_factory=dict[str, int])
    _keys: dict[bytes, tuple[float, Caller]] = field(default_factory=dict[bytes, tuple[float, Caller]])
    _prefix: str = field(default_factory=lambda: os.urandom(6).hex())
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def read_assets(self) -> None:
        """Assets never change: they are read once."""
        connection = await self.connections.take()
        with self.connections.given_back(connection):
            self.scales = {row["code"]: row["scale"] for row in await connection.fetch(READ_ASSETS)}

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request."""
        request_id = f"{self._prefix}-{next(self._numbers):x}"
        try:
            if request.path == TRANSFERS and request.method == "POST":
                return await self._transfer(request, request_id)
            if request.path == "/readyz":
                return web.json_response({"status": "ok"})
            if request.path == "/form" and request.method == "PUT":
                return await self._change_form(request)
            raise Refusal(404, "not_found", "there is no such route")
        except Refusal as refusal:
            return _answer(refusal.status, refusal.body(request_id), request_id, refusal.headers)
        except ConnectionError:
            raise  # the client went away
        except Exception:
            log.exception("request.failed", request_id=request_id)
            refusal = Refusal(500, "server_error", "")
            return _answer(500, refusal.body(request_id), request_id, {})

    async def _change_form(self, request: web.BaseRequest) -> web.Response:
        """For the bench alone: the same warm process plays both forms with any number of connections."""
        wanted = json.loads(await request.read())
        await self.connections.open(int(wanted["pool"]))
        self.form = FORMS[wanted["form"]]
        return web.json_response(wanted)

    async def _transfer(self, request: web.BaseRequest, request_id: str) -> web.Response:
        caller = await self._authenticated(request.headers.getall("Authorization", []))
        identity = _identity(caller, request.headers.getall("Idempotency-Key", []))
        transfer = parse_transfer(await _body(request), self.scales)
        connection = await self.connections.take()
        with self.connections.given_back(connection):
            outcome = await self.form(connection, identity, caller, transfer)
            if outcome is None:
                fingerprint, outcome = await recorded(connection, identity)
                if fingerprint != transfer.fingerprint:
                    raise Refusal(422, "idempotency_key_reused", "the key was used for another request")
        headers = {"Operation-Id": identity}
        if outcome.replayed:
            headers["Idempotency-Replayed"] = "true"
        scale = self.scales[transfer.asset]
        if outcome.code is not None:
            raise _rejection(outcome, transfer, scale, headers)
        return _answer(201, _transaction(identity, transfer, outcome, scale), request_id, headers)

    async def _authenticated(self, authorizations: list[str]) -> Caller:
        """The caller with this header; a key is looked up again after KEY_AGE_S_MAX. Raises Refusal."""
        scheme, _, text = authorizations[0].partition(" ") if len(authorizations) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or not API_KEY.fullmatch(text):
            raise Refusal(401, "unauthenticated", "the Authorization header is: Bearer <API key>")
        digest = hashlib.sha256(text.encode()).digest()
        now = time.monotonic()
        known = self._keys.get(digest)
        if known is not None and now - known[0] <= KEY_AGE_S_MAX:
            return known[1]
        connection = await self.connections.take()
        with self.connections.given_back(connection):
            row = await connection.fetchrow(READ_KEY, digest)
        if row is None:
            raise Refusal(401, "unauthenticated", "the API key is unknown")
        if len(self._keys) >= KEYS_KNOWN_MAX:
            self._keys.clear()
        caller = Caller(row["principal"], row["admin"])
        self._keys[digest] = (now, caller)
        return caller


def _identity(caller: Caller, keys: list[str]) -> str:
    """The transaction's id: from principal and Idempotency-Key, else fresh. Raises Refusal."""
    if not keys:
        return os.urandom(16).hex()
    if len(keys) > 1 or not IDEMPOTENCY_KEY.fullmatch(keys[0]):
        raise Refusal(400, "invalid_request", "one key of 1 to 255 printable ASCII characters", field="Idempotency-Key")
    digits = hashlib.sha256(f"{caller.principal}\0{keys[0]}".encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-8{digits[17:20]}-{digits[20:32]}"


async def _body(request: web.BaseRequest) -> bytes:
    if request.headers.get("Content-Type") != "application/json":
        raise Refusal(415, "unsupported_media_type", "a body is application/json in UTF-8")
    if request.content_length is None or request.content_length > BODY_BYTES_MAX:
        raise Refusal(413, "too_large", f"a body has a length of at most {BODY_BYTES_MAX} bytes")
    if request.content.is_eof():
        return request.content.read_nowait(-1)
    return await request.content.read()


def _rejection(outcome: Outcome, transfer: Transfer, scale: int, headers: dict[str, str]) -> Refusal:
    code = str(outcome.code)
    refusal = Refusal(STATUS_OF[code], code, code.replace("_", " "))
    refusal.headers = headers
    if outcome.available is not None:
        refusal.funds["available"] = format_amount(outcome.available, scale)
        refusal.funds["required"] = format_amount(transfer.amount, scale)
    return refusal


def _transaction(identity: str, transfer: Transfer, outcome: Outcome, scale: int) -> dict[str, object]:
    balances = {transfer.source: format_amount(outcome.source_balance or 0, scale)}
    if outcome.is_destination_read:
        balances[transfer.destination] = format_amount(outcome.destination_balance or 0, scale)
    posting = {
        "source": transfer.source,
        "destination": transfer.destination,
        "amount": format_amount(transfer.amount, scale),
        "asset": transfer.asset,
    }
    return {
        "id": identity,
        "kind": "transfer",
        "status": "posted",
        "settled": True,
        "postings": [posting],
        "balances": balances,
        "reference": transfer.reference,
        "metadata": None if transfer.metadata is None else json.loads(transfer.metadata),
        "recorded_at": outcome.recorded_at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z",
        "links": {"self": f"/v1/transactions/{identity}", "operation": f"/v1/operations/{identity}"},
    }


def _answer(status: int, body: dict[str, object], request_id: str, headers: dict[str, str]) -> web.Response:
    return web.Response(
        status=status,
        body=_COMPACT.encode(body).encode(),
        headers={
            "X-Request-Id": request_id,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Server": "baseline",
            "Content-Type": "application/json" if status == 201 else "application/problem+json",  # noqa: PLR2004 - Created
            **headers,
        },
    )
