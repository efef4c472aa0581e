"""What is wrong with a row: a value for the report, and the exception that carries it out of a check."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """The first bad row. `key` is the row's primary key, parts joined by `/`; `rule` says what must hold."""

    table: str
    key: str
    rule: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.table} {self.key}: {self.rule}: expected {self.expected}, found {self.found}"


class Violated(Exception):
    """A row breaks a rule of the journal."""

    def __init__(self, table: str, key: object, rule: str, expected: object, found: object) -> None:
        self.violation = Violation(table, str(key), rule, str(expected), str(found))
        super().__init__(str(self.violation))


def expect(table: str, key: object, rule: str, expected: object, found: object) -> None:
    """Raises Violated unless what is found equals what is expected."""
    if expected != found:
        raise Violated(table, key, rule, expected, found)
