"""Rejections of the ledger as problems, alike whether a reply tells of one or the journal; `scale`: of amounts."""

import json
from collections.abc import Sequence
from typing import cast

from services.gateway.problems import FieldError, Refusal
from services.gateway.store.operations import RecordedOperation
from shared.messages import FieldError as MessageFieldError
from shared.messages import Outcome
from shared.money import format_amount
from shared.rejections import Rejection


def _rejected(code: str, available: str | None, required: str | None, scale: int) -> Refusal:
    """A rejection as a problem; amounts as text of minor units."""
    refusal = Refusal(Rejection(code))
    if available is not None and required is not None:
        refusal.available, refusal.required = format_amount(int(available), scale), format_amount(int(required), scale)
    return refusal


def recorded_rejection(recorded: RecordedOperation, scale: int) -> Refusal:
    """The rejection that the journal holds. Raises ValueError when it holds none."""
    if recorded.code is None:
        raise ValueError(f"operation {recorded.id} was not rejected")
    detail: object = json.loads(recorded.detail) if recorded.detail else {}
    if isinstance(detail, list):
        refusal = Refusal(Rejection(recorded.code))
        refusal.errors = cast("list[FieldError]", detail)
        return refusal
    funds = cast("dict[str, str]", detail)
    return _rejected(recorded.code, funds.get("available"), funds.get("required"), scale)


def recorded_refusal(recorded: RecordedOperation, fingerprint: str, scale: int) -> Refusal | None:
    """What the journal says to a command with this content; None when it was posted."""
    if not recorded.holds(fingerprint):
        return Refusal(Rejection.IDEMPOTENCY_KEY_REUSED)
    return None if recorded.outcome == "posted" else recorded_rejection(recorded, scale)


def told_refusal(outcome: Outcome, scale: int) -> Refusal | None:
    """What a reply says; None when it was posted."""
    if outcome.code is None:
        return None
    funds = (outcome.available, outcome.required)
    available, required = (None if amount is None else str(amount) for amount in funds)
    refusal = _rejected(outcome.code, available, required, scale)
    refusal.errors = field_errors(outcome.errors)
    return refusal


def field_errors(errors: Sequence[MessageFieldError]) -> list[FieldError]:
    """What a message says of fields, as a problem says it."""
    return [{"field": error.field, "message": error.message} for error in errors]
