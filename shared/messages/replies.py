"""What a worker tells the sender of commands: outcomes, and the settlement of credits in other partitions."""

from typing import Final, Literal

from pydantic import Field

from shared.domain.rejections import Rejection
from shared.messages.base import Message

REPLY_KIND: Final = "reply.v1"


class FieldFault(Message):
    """What is wrong with one field of a refused order, such as `destinations[2]`."""

    field: str
    message: str


class Outcome(Message):
    """The decision on one command, after the commit that holds everything it was decided on.

    `balances` are minor units after the operation, for local accounts that the principal may read. `legs` are the
    partitions whose credit is still on its way. `replayed`: decided earlier; the details are in the journal and not
    repeated here.
    """

    id: str
    fingerprint: str
    status: Literal["posted", "rejected"]
    code: Rejection | None = None
    replayed: bool = False
    recorded_at_us: int = 0  # microseconds since 1970 UTC
    balances: dict[str, int] = Field(default_factory=dict)
    legs: tuple[int, ...] = ()
    available: int | None = None  # minor units, with insufficient_funds
    required: int | None = None
    errors: tuple[FieldFault, ...] = ()


class Settled(Message):
    """A credit of operation `id` landed in `partition`; `returned` when it met a closed account and went back."""

    id: str
    partition: int
    account: str
    balance: int | None = None  # minor units after it, where the principal may read the account
    returned: bool = False


class Reply(Message):
    """What a worker tells one sender after a commit."""

    v: Literal[1] = 1
    outcomes: tuple[Outcome, ...] = ()
    settled: tuple[Settled, ...] = ()
