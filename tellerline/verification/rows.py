"""Rows as COPY writes them. Numbers stay text until a check needs them: whole, or a violation."""

from typing import NamedTuple

from shared.journal import copy_fields
from tellerline.verification.findings import Violated


class OperationRow(NamedTuple):
    """A line of `operations`, in the order of shared.journal."""

    id: str
    partition: str
    batch: str
    line: str
    kind: str
    principal: str
    fingerprint: str
    outcome: str
    code: str
    detail: str
    postings: str
    subject: str
    reference: str
    metadata: str


class EntryRow(NamedTuple):
    """A line of `entries`, in the order of shared.journal."""

    account_id: str
    seq: str
    operation_id: str
    asset: str
    delta: str
    held_delta: str
    balance_after: str
    held_after: str
    limit_after: str
    status_after: str
    partition: str
    batch: str
    line: str


class TransitRow(NamedTuple):
    """A line of `transit`."""

    source: str
    batch: str
    destination: str
    credits: str


class HoldRow(NamedTuple):
    """A line of `holds`."""

    id: str
    account_id: str
    asset: str
    amount: str
    destination: str
    operation_id: str
    expires_at_us: str
    partition: str
    batch: str


class AccountRow(NamedTuple):
    """A line of `accounts`: the hashed columns."""

    id: str
    asset: str
    owner: str
    partition: str
    batch: str


def text_of(field: str) -> str:
    """What a field says that is not null: COPY's escapes undone."""
    return copy_fields(field)[0] or ""


def whole(field: str, table: str, key: object, column: str) -> int:
    """A whole number. Raises Violated for anything else: NaN and Infinity are values of `numeric`."""
    try:
        return int(field)
    except ValueError:
        raise Violated(table, key, f"{column} is a whole number", "digits", field) from None
