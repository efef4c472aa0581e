"""Rows as lines of COPY's text format. A number stays text until a check needs it; then it must be whole."""

from typing import NamedTuple

from shared.journal.rows import copy_fields
from tellerline.verification.findings import Violated


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
    """A line of `entries`, in the order of shared.journal.rows, split as far as the checks of a batch need it."""

    account_id: str
    seq: str
    operation_id: str
    asset: str
    delta: str
    held_delta: str
    rest: str

    @property
    def balance_after(self) -> str:
        """The account's balance after it, in minor units."""
        return self.rest.split("\t", 1)[0]

    @property
    def status_after(self) -> str:
        """The account's status after it."""
        return self.rest.split("\t", 4)[3]

    def breaks(self, rule: str, expected: object, found: object) -> Violated:
        """The exception for an entry that breaks this rule."""
        return Violated("entries", f"{self.account_id}/{self.seq}", rule, expected, found)


def entry_of(line: str) -> EntryLine:
    """The entry in a line of `entries`."""
    return EntryLine._make(line.split("\t", 6))


def is_transit(account: str) -> bool:
    """Whether it is a transit account."""
    return account.startswith("transit:")


def text_of(field: str) -> str:
    """The text of a field, with COPY's escapes undone; empty for null."""
    return copy_fields(field)[0] or ""


def whole(field: str, table: str, key: object, column: str) -> int:
    """The field as an int. Raises Violated if it is no whole number: `numeric` also has NaN and Infinity."""
    try:
        return int(field)
    except ValueError:
        raise Violated(table, key, f"{column} is a whole number", "digits", field) from None
