"""What a proof reports: a row that breaks a rule, and an amount that waits for an operator by design."""

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


@dataclass(frozen=True, slots=True)
class SuspenseFinding:
    """An amount that the ledger put on suspense, as it must when a credit can land nowhere else: no broken rule.

    `key`: its name in shared.journal.suspense, or the transit row that waits to be set aside. `amount`: minor units.
    `acknowledged_by`: the operation with which an operator resolved it; None while it is open.
    """

    key: str
    amount: int
    asset: str
    cause: str
    acknowledged_by: str | None = None
