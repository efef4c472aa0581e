"""What may befall a call of a twin."""

from collections.abc import Callable
from enum import Enum, auto


class Fault(Enum):
    """What may happen to one call. The last four only at `commit`."""

    UNAVAILABLE = auto()
    LOST_BEFORE = auto()  # the connection is lost, nothing was written: CommitUnknown
    LOST_AFTER = auto()  # written, then the connection is lost: CommitUnknown
    LATE = auto()  # the connection is lost, and the server goes on with what it was sent: CommitUnknown
    STUCK = auto()  # as LATE, and it holds its locks until it is ended


Faults = Callable[[str], Fault | None]
Delay = Callable[[], float]
