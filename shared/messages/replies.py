"""What a worker tells the sender of commands: outcomes, and the settlement of credits in other partitions."""

from typing import Annotated, Literal

from pydantic import Field

from shared.messages.base import Message
from shared.rejections import Rejection


class FieldError(Message):
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
    errors: tuple[FieldError, ...] = ()


class Settled(Message):
    """A credit of operation `id` landed in `partition`; `returned` when it met a closed account and went back."""

    id: str
    partition: int
    account: str
    balance: int | None = None  # minor units after it, where the principal may read the account
    returned: bool = False


class Reply(Message):
    """One message for each sender and commit.

    `owned`: the partitions whose commands `worker` takes at this moment. `queue`: the one whose queue brought the last
    of these commands; by it the sender may send those of the others as well (ADR 11). `direct_at`: the URL where the
    worker is reached without the broker, told to those who have no link to it yet (ADR 14, ADR 15).
    """

    v: Literal[1] = 1
    outcomes: tuple[Outcome, ...] = ()
    settled: tuple[Settled, ...] = ()
    worker: Annotated[str, Field(max_length=128)] = ""
    owned: tuple[int, ...] = ()
    queue: int | None = None
    direct_at: Annotated[str, Field(max_length=512)] = ""
