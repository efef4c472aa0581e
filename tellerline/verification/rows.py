"""Lines as COPY writes them. Numbers stay text until a check needs them: whole, or a violation."""

from typing import Final, NamedTuple

from shared.journal.rows import copy_fields
from tellerline.verification.findings import Violated

TRANSIT: Final = "transit:"


class OperationLine(NamedTuple):
    """A line of `operations`, in the order of shared.journal.rows."""

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


class EntryLine(NamedTuple):
    """A line of `entries`, in the order of shared.journal.rows."""

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

    @property
    def key(self) -> str:
        """The row's key."""
        return f"{self.account_id}/{self.seq}"


class TransitLine(NamedTuple):
    """A line of `transit`."""

    source: str
    batch: str
    destination: str
    credits: str


class HoldLine(NamedTuple):
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


def is_transit(account: str) -> bool:
    """Whether it is a transit account."""
    return account.startswith(TRANSIT)


def text_of(field: str) -> str:
    """What a field says that is not null: COPY's escapes undone."""
    return copy_fields(field)[0] or ""


def whole(field: str, table: str, key: object, column: str) -> int:
    """A whole number. Raises Violated for anything else: NaN and Infinity are values of `numeric`."""
    try:
        return int(field)
    except ValueError:
        raise Violated(table, key, f"{column} is a whole number", "digits", field) from None
