"""A cursor works for the query that it was made for, at any gateway with the secret."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.http.cursors import Cursors, ForeignCursor

CURSORS = Cursors("a secret of thirty-two characters")
QUERY = {"route": "/v1/accounts", "principal": "alice", "filter.asset": "USD"}


@given(st.lists(st.integers(0, 2**62) | st.text("abc019._:-", max_size=64), min_size=1, max_size=4))
def test_a_cursor_gives_its_position_back_at_another_gateway_too(position: list[int | str]) -> None:
    cursor = CURSORS.encode(QUERY, position)
    assert Cursors("a secret of thirty-two characters").decode(dict(reversed(QUERY.items())), cursor) == position
    assert cursor.isascii()


@pytest.mark.parametrize(
    "query",
    [
        {**QUERY, "principal": "bob"},
        {**QUERY, "route": "/v1/assets"},
        {**QUERY, "filter.asset": "EUR"},
        {**QUERY, "filter.status": "open"},
        {"route": "/v1/accounts", "principal": "alice"},
    ],
)
def test_a_cursor_is_refused_with_another_route_filter_or_principal(query: dict[str, str]) -> None:
    with pytest.raises(ForeignCursor):
        CURSORS.decode(query, CURSORS.encode(QUERY, ["a"]))


@given(st.data())
def test_a_cursor_with_a_changed_character_is_refused(drawn: st.DataObject) -> None:
    cursor = CURSORS.encode(QUERY, ["acc-1"])
    at = drawn.draw(st.integers(0, len(cursor) - 1))
    other = drawn.draw(st.sampled_from("ABCDEFabcdef0123456789-_").filter(lambda letter: letter != cursor[at]))
    with pytest.raises(ForeignCursor):
        CURSORS.decode(QUERY, cursor[:at] + other + cursor[at + 1 :])


@pytest.mark.parametrize("length", range(1, 7))
@pytest.mark.parametrize("more", ["=", "==", "A", " ", "\n"])
def test_a_cursor_with_characters_added_is_refused(length: int, more: str) -> None:
    cursor = CURSORS.encode(QUERY, ["a" * length])
    with pytest.raises(ForeignCursor):
        CURSORS.decode(QUERY, cursor + more)


def test_a_last_character_of_the_same_bytes_is_foreign() -> None:
    cursor = next(each for length in range(1, 4) if len(each := CURSORS.encode(QUERY, ["a" * length])) % 4 == 2)
    twins = [cursor[:-1] + letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"]
    taken = list[str]()
    for twin in twins:
        with contextlib.suppress(ForeignCursor):
            CURSORS.decode(QUERY, twin)
            taken.append(twin)
    assert taken == [cursor]


@given(st.text(max_size=600))
def test_text_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ForeignCursor):
        CURSORS.decode(QUERY, text)


def test_a_cursor_of_the_previous_secret_still_works() -> None:
    cursor = CURSORS.encode(QUERY, [1])
    rotated = Cursors("b" * 32, "a secret of thirty-two characters")
    assert rotated.decode(QUERY, cursor) == [1]
    assert rotated.encode(QUERY, [1]) == Cursors("b" * 32).encode(QUERY, [1]) != cursor


def test_another_secret_makes_other_cursors() -> None:
    with pytest.raises(ForeignCursor):
        Cursors("b" * 32).decode(QUERY, CURSORS.encode(QUERY, [1]))
