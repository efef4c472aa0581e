"""A row's way into the journal: COPY text, its fields, and JSON for small groups say the same."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from shared.journal.rows import copy_fields, copy_text, json_rows

# What could be taken for an escape, a separator, a quote or NULL, more often than chance would have it.
pieces = st.sampled_from(
    ("\\", '"', "\t", "\n", "\v", "\\N", "N", "\x01", "\x1f", "\x7f", "v", "x", ",", '","', "é", "😀")
)
texts = st.one_of(st.none(), st.lists(pieces, max_size=6).map("".join), st.text(max_size=10))
rows = st.lists(st.lists(texts, min_size=1, max_size=5), max_size=5)


def copied(row: list[str | None]) -> str:
    return "\t".join(map(copy_text, row)) + "\n"


@given(rows)
@example([["\\N", None, "\\\\N", '"\\N"', '"', "\\"], [None, None]])
def test_the_json_of_rows_is_what_was_written(written: list[list[str | None]]) -> None:
    assert json.loads(json_rows([copied(row) for row in written])) == written


@given(st.lists(texts, min_size=1, max_size=5))
def test_the_fields_of_a_line_are_what_was_written(row: list[str | None]) -> None:
    assert copy_fields(copied(row)) == row


@pytest.mark.parametrize("text", ["\v", "\x01", "\\v", "plain"])
def test_what_json_escapes_in_another_way_is_written_as_well(text: str) -> None:
    assert json.loads(json_rows([copied([text, None])])) == [[text, None]]
