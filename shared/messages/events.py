"""Events and nudges, which a worker publishes after a commit. A consumer that misses one reads the journal."""

from typing import Annotated, Final, Literal

from pydantic import Field

from shared.messages.base import Message

NUDGE_KIND: Final = "nudge.v2"


class EventOutcome(Message):
    """One operation of a batch, as the journal holds it."""

    id: str
    kind: str
    status: Literal["posted", "rejected", "started"]
    code: str | None = None
    accounts: tuple[str, ...] = ()


class BatchEvent(Message):
    """All operations of batch number `batch` of the message's partition."""

    batch: int
    recorded_at_us: int  # microseconds since 1970 UTC
    outcomes: tuple[EventOutcome, ...]


class EventMessage(Message):
    """One or more consecutive batches of one partition; the routing key is `p00` and so on."""

    v: Literal[1] = 1
    partition: Annotated[int, Field(ge=0, lt=256)]
    batches: Annotated[tuple[BatchEvent, ...], Field(min_length=1)]


class Nudge(Message):
    """Tells a partition's owner that the transit row of a batch waits; the routing key is `nudge.p00` and so on."""

    v: Literal[2] = 2
    source: Annotated[int, Field(ge=0, lt=256)]
    destination: Annotated[int, Field(ge=0, lt=256)]
    batch: Annotated[int, Field(ge=1)]
