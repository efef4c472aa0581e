"""The migrations of this version, as files."""

from shared.database.migrate import known_migrations


def test_the_numbers_of_the_migrations_have_no_gap_and_no_double() -> None:
    assert [each.version for each in known_migrations()] == list(range(1, len(known_migrations()) + 1))
