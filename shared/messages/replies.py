"""Replies from a worker to the sender of commands: outcomes, and settlements of credits in other partitions."""

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
    """The decision on one command, sent after the commit of everything that it builds on.

    `balances` are minor units after the operation, for local accounts that the principal may read. `legs` are the
    other partitions where a credit is still to land. `replayed`: the command is a repeat; the reply leaves out balances
    and amounts, which the journal has.
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
    """A credit of operation `id` landed in `partition`, or was `returned`: account closed, or balance at its limit."""

    id: str
    partition: int
    account: str
    balance: int | None = None  # minor units after it, where the principal may read the account
    returned: bool = False


class Reply(Message):
    """All that one commit has to tell one sender."""

    v: Literal[1] = 1
    outcomes: tuple[Outcome, ...] = ()
    settled: tuple[Settled, ...] = ()
