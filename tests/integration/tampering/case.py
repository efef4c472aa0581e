"""One way of tampering with a journal."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """`found` is the beginning of "table key", a regular expression; {names} are accounts of the scenario."""

    name: str
    statement: str
    found: str
