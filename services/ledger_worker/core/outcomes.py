"""What the core answers to a command."""

import json
from collections.abc import Mapping
from dataclasses import field

from shared.domain.rejections import Rejection
from shared.domain.values import value
from shared.messages import FieldFault


@value
class KnownOutcome:
    """The outcome that a command id has already. `code` None is posted."""

    fingerprint: str
    code: Rejection | None


@value
class Decision:
    """The outcome of one command. `code` None is posted. Amounts in minor units.

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
    """Why a command is refused. The amounts, in minor units, come with insufficient funds; errors name fields."""

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
    """What is known of a command beside its content. `reply_to`: the reply queue of whoever sent it."""

    reply_to: str | None
    now_us: int  # microseconds since 1970 UTC; holds expire relative to it
