"""An array that arrives in pieces is read whole, in bounded memory, and is known again."""

import json

import pytest

from shared.mixer.jobcoin_rows import Unreadable
from shared.mixer.json_array import VALUE_CHARACTERS_MAX, ArrayReader

VALUES = [{"a": "1"}, {"ä]": '],[{"'}, {"n": [1, {"deep": None}], "e": "\U0001f600"}, "text", 12.5, None, {"z": "\\"}]


def read(text: bytes, size: int, reader: ArrayReader) -> list[object]:
    return [found for at in range(0, len(text), size) for found in reader.feed(text[at : at + size])]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("separators", [(",", ":"), (" ,\n ", " : ")])
def test_an_array_is_read_the_same_in_whatever_pieces_it_arrives(size: int, separators: tuple[str, str]) -> None:
    text = json.dumps(VALUES, separators=separators, ensure_ascii=False).encode()
    reader = ArrayReader()
    assert read(b" " + text + b"\n", size, reader) == VALUES
    assert reader.is_complete
    assert reader.position.rows == len(VALUES)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_longer_array_is_read_on_from_what_is_known_of_it(size: int) -> None:
    reader = ArrayReader()
    read(json.dumps(VALUES).encode(), 1000, reader)
    more = ArrayReader(reader.position)
    assert read(json.dumps([*VALUES, {"new": "1"}]).encode(), size, more) == [{"new": "1"}]
    assert (more.is_complete, more.is_changed, more.position.rows) == (True, False, len(VALUES) + 1)
    again = ArrayReader(more.position)
    assert read(json.dumps([*VALUES, {"new": "1"}]).encode(), size, again) == []
    assert (again.is_complete, again.position) == (True, more.position)


def test_an_array_that_does_not_begin_as_it_did_is_changed() -> None:
    reader = ArrayReader()
    read(json.dumps(VALUES).encode(), 1000, reader)
    changed = ArrayReader(reader.position)
    assert read(json.dumps([{"a": "2"}, *VALUES]).encode(), 8, changed) == []
    assert changed.is_changed
    shorter = ArrayReader(reader.position)
    assert read(json.dumps(VALUES[:2]).encode(), 8, shorter) == []
    assert not shorter.is_complete


@pytest.mark.parametrize("text", ["{}", "<html>", "[1 2]", "[] x", "[1,2]3", "[", "", "[1", '[{"a"', "[1,", '["\\ud8'])
def test_what_is_no_whole_array_is_never_complete(text: str) -> None:
    reader = ArrayReader()
    try:
        read(text.encode(), 1, reader)
    except Unreadable:
        return
    assert not reader.is_complete


@pytest.mark.parametrize(
    "text",
    [
        b"[\xff",
        b"[" * 3_000_000,
        b'["' + b"a" * (VALUE_CHARACTERS_MAX + 10),
        b"[1," + b" " * (2 * VALUE_CHARACTERS_MAX),
    ],
)
def test_a_value_without_end_or_without_sense_costs_no_memory(text: bytes) -> None:
    with pytest.raises(Unreadable):
        read(text, 65_536, ArrayReader())


def test_empty_arrays_are_arrays() -> None:
    for text in (b"[]", b" [ ] "):
        reader = ArrayReader()
        assert read(text, 1, reader) == []
        assert reader.is_complete
