"""The results of deciding a command, and what the core is told about it."""

import json
from collections.abc import Mapping
from dataclasses import field

from shared.domain.rejections import Rejection
from shared.domain.values import value
from shared.messages import FieldFault


@value
class KnownOutcome:
    """The outcome that a command id already has. `code` is None if it was posted."""

    fingerprint: str
    code: Rejection | None


@value
class Decision:
    """The outcome of one command. `code` is None if it was posted. Amounts in minor units.

    `legs`: the partitions where a credit is still to land. `balances`: after the command, of accounts that the
    principal may see.
    """

    id: str
    fingerprint: str
    code: Rejection | None = None
    replayed: bool = False
    balances: Mapping[str, int] = field(default_factory=dict[str, int])
    legs: tuple[int, ...] = ()
    available: int | None = None
    required: int | None = None


@value
class Rejected:
    """Why a command is refused. Amounts, in minor units, only with insufficient_funds; `errors` name request fields."""

    code: Rejection
    available: int | None = None
    required: int | None = None
    errors: tuple[FieldFault, ...] = ()

    def detail(self) -> str | None:
        """What the journal keeps beside the code, as JSON."""
        if self.errors:
            return json.dumps([error.model_dump() for error in self.errors], separators=(",", ":"))
        if self.available is None:
            return None
        return json.dumps({"available": str(self.available), "required": str(self.required)}, separators=(",", ":"))


@value
class CommandContext:
    """What the core needs to know beyond the command itself. `reply_to`: the sender's reply queue."""

    reply_to: str | None
    now_us: int  # microseconds since 1970 UTC; holds expire relative to it
