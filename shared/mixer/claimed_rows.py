"""Rows that the copies of a service share: one process claims a row for a time and takes it step by step. Pure."""

from enum import StrEnum

from shared.domain.values import value


class ClaimLost(Exception):
    """Another process may work on this row by now: nothing more may be sent or written for it."""


@value
class ClaimedRow:
    """A row that this process has claimed.

    `claim` counts the claims of the row. Every change names it, so a process that lost its claim changes nothing.
    `attempts` counts how often the present step failed.
    """

    id: str
    claim: int
    state: StrEnum
    attempts: int


@value
class Leg:
    """One transfer on the network: the states of its row before it, while it is under way, and once it was seen.

    `is_read_at_source` says at which of its two addresses the transfer is looked for: the one with few transactions.
    """

    name: str
    before: StrEnum
    under_way: StrEnum
    after: StrEnum
    is_read_at_source: bool


@value
class Intent:
    """A transfer that was written down before it was sent, and whose end is not known.

    After `settles_in_s` seconds, a reading that does not show it proves that it was not applied.
    """

    id: str
    settles_in_s: float
