"""What a decision says, and the rows that it leaves in the journal."""

import json
from collections.abc import Mapping
from dataclasses import field

from services.ledger_worker.core.draft import OperationRow
from shared.messages import Command, FieldError, Move
from shared.rejections import Rejection
from shared.values import value


@value
class Decision:
    """The outcome of one command. `code` None is posted; amounts in minor units; `legs` are credits on their way."""

    id: str
    fingerprint: str
    code: Rejection | None = None
    replayed: bool = False
    balances: Mapping[str, int] = field(default_factory=dict[str, int])
    legs: tuple[int, ...] = ()
    available: int | None = None
    required: int | None = None


@value
class Asking:
    """Who asked and when. `reply_to` hears of credits that land elsewhere."""

    reply_to: str | None
    now_us: int  # microseconds since 1970 UTC, for the end of holds


@value
class Refusal:
    """Why not. The amounts come with insufficient funds, the errors name fields of the request."""

    code: Rejection
    available: int | None = None
    required: int | None = None
    errors: tuple[FieldError, ...] = ()

    def detail(self) -> str | None:
        """What the journal keeps beside the code, JSON text."""
        if self.errors:
            return json.dumps([error.model_dump() for error in self.errors], separators=(",", ":"))
        if self.available is None:
            return None
        return json.dumps({"available": str(self.available), "required": str(self.required)}, separators=(",", ":"))


def posting_text(source: str, destination: str, amount: int, asset: str) -> str:
    """One posting as the journal keeps it: JSON of [[source, destination, minor units as text, asset]]."""
    return f'[["{source}","{destination}","{amount}","{asset}"]]'


def postings_of(command: Command) -> str | None:
    """The postings that the command asks for; None for one that moves no money by itself."""
    if isinstance(command, Move):
        return posting_text(command.source, command.destination, command.amount, command.asset)
    return None


def operation_row(
    command: Command,
    *,
    postings: str | None = None,
    subject: str | None = None,
    metadata: str | None = None,
    accounts: tuple[str, ...] = (),
) -> OperationRow:
    """The row of a posted operation."""
    return OperationRow(
        command.id,
        command.kind,
        command.principal,
        command.fingerprint,
        postings=postings,
        subject=subject,
        reference=command.reference,
        metadata=metadata or command.metadata,
        accounts=accounts,
    )
