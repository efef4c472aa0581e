"""Life cycles as tables of permitted steps, and the exception for a broken invariant."""

from collections.abc import Mapping
from typing import Generic, TypeVar

State = TypeVar("State")


class InvariantBroken(Exception):
    """A state that must never occur has occurred. Nothing may be written that builds on it."""


class Lifecycle(Generic[State]):
    """Which states may follow each state. `noun` names what has them, for the error message."""

    def __init__(self, noun: str, next_states: Mapping[State, frozenset[State]]) -> None:
        self.next_states = next_states
        self.noun = noun

    def check(self, before: State, after: State) -> None:
        """Raises InvariantBroken unless the table allows the step."""
        if after not in self.next_states[before]:
            raise InvariantBroken(f"a {self.noun} does not go from {before} to {after}")
