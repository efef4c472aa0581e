"""Every SQL statement is tried on large tables, or there is a reason why not."""

from tests.integration.statement_uses import NOT_MEASURED, USES
from tests.statements import STATEMENTS


def is_excepted(name: str) -> bool:
    return any(name == excepted or name.startswith((f"{excepted}.", f"{excepted}@")) for excepted in NOT_MEASURED)


def test_every_statement_has_its_uses_or_a_reason_why_it_is_not_measured() -> None:
    assert len(STATEMENTS) >= 90
    assert not [name for name in STATEMENTS if name not in USES and not is_excepted(name)], (
        "add them to USES in tests/integration/statement_uses.py"
    )
    assert not [name for name in USES if name not in STATEMENTS], "there is no such statement"
    unused = [
        each for each in NOT_MEASURED if not any(name == each or name.startswith(f"{each}") for name in STATEMENTS)
    ]
    assert not unused
