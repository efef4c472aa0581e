"""/v1/operations: what became of a write, and how an unknown ends for good."""

import asyncio
import time
from typing import Annotated, Final, Literal, NotRequired

from pydantic import Field, StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from services.gateway.auth import ADMIN
from services.gateway.commands import WAIT_S_MAX, anywhere, identify, refuse, submit
from services.gateway.context import not_found
from services.gateway.fields import fingerprint
from services.gateway.problems import Refusal
from services.gateway.rejections import recorded_rejection
from services.gateway.routes import Call, Route
from services.gateway.store.accounts import read_account
from services.gateway.store.keys import read_principals
from services.gateway.store.operations import RecordedOperation, read_operation
from services.gateway.store.transactions import parse_postings
from services.gateway.transactions import TransactionBody, read_body_of
from services.gateway.web.answers import Answer, instant_text
from services.gateway.web.queries import Digits, Query
from shared.api_keys import Scope
from shared.ids import MIXER, UUID_TEXT, CommandId, Principal
from shared.messages import OperationCancel
from shared.rejections import Rejection

CANCEL: Final = "operation.cancel.v1"
COLLECTIONS: Final = {"account": "accounts", "asset": "assets", "mix": "mixes"}
POLL_S_MIN: Final = 0.05
POLL_S_MAX: Final = 0.5


class OperationBody(TypedDict):
    """A command and its state. `code`, and funds, where it was rejected; `transaction` where it moved money."""

    id: str
    kind: str | None
    status: Literal["pending", "posted", "rejected"]
    code: NotRequired[str]
    available: NotRequired[str]
    required: NotRequired[str]
    transaction: NotRequired[TransactionBody]
    recorded_at: NotRequired[str]
    links: dict[str, str]


OPERATION: TypeAdapter[OperationBody] = TypeAdapter(OperationBody)


class OperationQuery(Query):
    """`of` binds the question to what was sent; `wait` is in seconds."""

    of: Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")] | None = None
    wait: Annotated[Digits, Field(ge=0, le=WAIT_S_MAX)] = 0


async def show(call: Call) -> Answer:
    """The operation, once it has an outcome or the wait is over."""
    query = call.query(OperationQuery)
    operation = _named(call)
    until = time.monotonic() + query.wait
    pause_s = POLL_S_MIN
    recorded = await _read(call, operation)
    while recorded is None and time.monotonic() < until and not call.gateway.stopping.begun:
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, POLL_S_MAX)
        recorded = await _read(call, operation)
    if recorded is not None and query.of is not None and not recorded.holds(query.of):
        raise Refusal(Rejection.IDEMPOTENCY_KEY_REUSED, "the id holds the outcome of other content")
    return await _answer(call, operation, recorded)


async def cancel(call: Call) -> Answer:
    """Ends an unknown: writes the id as rejected `cancelled`, or shows the outcome that it already has."""
    operation = _named(call)
    content = fingerprint("POST /v1/operations/{id}/cancel", operation)
    headers, recorded = {"Operation-Id": str(operation)}, await _read(call, operation)
    kept = await _keep_key(call, operation, content)
    if isinstance(kept, Answer):
        return kept
    if kept:
        headers["Idempotency-Replayed"] = "true"
    if recorded is None:
        owner = await _owner(call, operation)
        pending = await _end(call, OperationCancel(id=operation, principal=owner, fingerprint=content, repeat=True))
        if pending is not None:
            return pending
    answer = await _answer(call, operation, await _read(call, operation))
    return Answer(answer.status, answer.body, headers)


async def _keep_key(call: Call, operation: CommandId, content: str) -> Answer | bool:
    """Uses up the key of the cancel itself; whether it was before, for this one. 202 while the ledger has not said.

    Its operation stands in the journal as rejected `cancelled`. Raises Refusal when the key was used for anything else.
    """
    identity = identify(call)
    if not identity.has_key:
        return False
    if identity.id == operation:
        raise Refusal(Rejection.IDEMPOTENCY_KEY_REUSED, "the key is that of the operation to be cancelled")
    try:
        return await refuse(call, identity, CANCEL, content, Refusal(Rejection.CANCELLED))
    except Refusal as refusal:
        if refusal.code is not Rejection.CANCELLED:
            raise
        return "Idempotency-Replayed" in refusal.headers


async def _end(call: Call, command: OperationCancel) -> Answer | None:
    """202 while it is not decided; None once the journal can tell. Raises Refusal when it could not be sent."""
    try:
        posted = await submit(call, command, anywhere(command.id, call.gateway.partitions))
    except Refusal as refusal:
        if not isinstance(refusal.code, Rejection):
            raise
        return None
    return posted if isinstance(posted, Answer) else None


def _named(call: Call) -> CommandId:
    operation = call.path["id"]
    if not UUID_TEXT.fullmatch(operation):
        raise not_found("operation")
    return CommandId(operation)


async def _read(call: Call, operation: CommandId) -> RecordedOperation | None:
    """The operation, if it has an outcome. Raises Refusal `not_found` when it is another's, or was never issued."""
    recorded = await read_operation(call.gateway.database, operation)
    if recorded is None:
        await _owner(call, operation)
        return None
    if not (call.caller.admin or recorded.principal == call.caller.principal):
        raise not_found("operation")
    return None if recorded.outcome == "started" else recorded


async def _owner(call: Call, operation: CommandId) -> Principal:
    """Whose command a gateway gave this id to. Raises Refusal `not_found` unless the caller may know."""
    issued = call.gateway.ids.is_issued
    if issued(operation, call.caller.principal):
        return call.caller.principal
    if call.caller.admin:
        for principal in (ADMIN, MIXER, *await read_principals(call.gateway.database)):
            if issued(operation, principal):
                return principal
    raise not_found("operation")


async def _answer(call: Call, operation: CommandId, recorded: RecordedOperation | None) -> Answer:
    path = f"/v1/operations/{operation}"
    if recorded is None:
        body: OperationBody = {
            "id": operation,
            "kind": None,
            "status": "pending",
            "links": {"self": path, "cancel": f"{path}/cancel"},
        }
        return Answer(200, OPERATION.dump_json(body))
    is_posted = recorded.outcome == "posted"
    body = {
        "id": operation,
        # What was cancelled before it was decided, nobody knows.
        "kind": None if recorded.kind == CANCEL else recorded.kind.removesuffix(".v1"),
        "status": "posted" if is_posted else "rejected",
        "recorded_at": instant_text(recorded.recorded_at_us),
        "links": {"self": path},
    }
    if not is_posted:
        scale = await _scale(call, recorded)
        rejection = recorded_rejection(recorded, scale or 0)
        body["code"] = rejection.code.value
        if scale is not None and rejection.available is not None and rejection.required is not None:
            body["available"], body["required"] = rejection.available, rejection.required
    elif recorded.postings is not None:
        transaction = await read_body_of(call, operation)
        if transaction is not None:
            body["transaction"] = transaction
            body["links"]["transaction"] = f"/v1/transactions/{operation}"
    elif recorded.subject is not None:
        noun = recorded.kind.partition(".")[0]
        if noun in COLLECTIONS:
            # The subject of an order is the account of its mix.
            named = recorded.subject.removeprefix("mix:") if noun == "mix" else recorded.subject
            body["links"][noun] = f"/v1/{COLLECTIONS[noun]}/{named}"
    return Answer(200, OPERATION.dump_json(body))


async def _scale(call: Call, recorded: RecordedOperation) -> int | None:
    """That of the amounts in a refusal; None where the operation does not lead to an asset."""
    code: str | None = None
    if recorded.postings is not None:
        code = parse_postings(recorded.postings)[0].asset
    elif recorded.kind.startswith("account.") and recorded.subject is not None:
        account = await read_account(call.gateway.database, recorded.subject)
        code = account and account.asset
    asset = None if code is None else await call.gateway.assets.find(code)
    return None if asset is None else asset.scale


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/operations/{id}",
        handler=show,
        scope=Scope.READ,
        query=OperationQuery,
        answers={200: OperationBody},
        summary="What became of a write",
    ),
    Route(
        method="POST",
        path="/v1/operations/{id}/cancel",
        handler=cancel,
        scope=frozenset({Scope.WRITE, Scope.PAYOUT}),
        answers={200: OperationBody},
        summary="End an operation without an outcome for good",
        writes=True,
    ),
)
