"""Life cycles as tables, and the exception for what cannot be."""

from collections.abc import Mapping
from typing import Generic, TypeVar

State = TypeVar("State")


class InvariantBroken(Exception):
    """Something that cannot be is: nothing may be written on top of it."""


class Lifecycle(Generic[State]):
    """Which states may follow each state of a `noun`."""

    def __init__(self, noun: str, next_states: Mapping[State, frozenset[State]]) -> None:
        self.next_states = next_states
        self.noun = noun

    def check(self, before: State, after: State) -> None:
        """Raises InvariantBroken unless the table allows the step."""
        if after not in self.next_states[before]:
            raise InvariantBroken(f"a {self.noun} does not go from {before} to {after}")
