"""JSON with one meaning, or none."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.strict_json import DEPTH_MAX, NotStrictJson, parse

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), inner)
    ),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_one_meaning_has_is_read_as_every_parser_reads_it(value: object, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert parse(body) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        value = parse(body)
    except NotStrictJson:
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False, default=lambda number: number.text).encode()


@pytest.mark.parametrize("depth", [DEPTH_MAX, DEPTH_MAX + 1])
@pytest.mark.parametrize(("open_", "close"), [("[", "]"), ('{"a":', "}")])
def test_the_depth_is_bounded_to_the_level(depth: int, open_: str, close: str) -> None:
    body = (open_ * depth + "1" + close * depth).encode()
    if depth <= DEPTH_MAX:
        assert parse(body)
    else:
        with pytest.raises(NotStrictJson, match="nests deeper"):
            parse(body)


def test_brackets_in_texts_and_side_by_side_do_not_count_as_depth() -> None:
    assert parse(json.dumps({"a": "[{" * 1_000, "b": [[]] * 1_000, 'c"[': "\\"}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b"[" + b"1," * 500_000 + b"1]",
        b"[" + b"[]," * 300_000 + b"1]",
        b"{" + b",".join(b'"%d":1' % number for number in range(90_000)) + b"}",
        b'{"a":1,"\\u0061":1}',
        b'[{"b":{"a":1,"a":2}}]',
        b"NaN",
        b"[-Infinity]",
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'"\\ud800"',
        b'"\\udFFF"',
        b'{"\\uD800":1}',
        b'"\\u0000"',
        b'{"\\u0000":1}',
        b"",
        b"{",
        b"[" * 1_000_000,
        b"{}x",
        b"'a'",
        b'"\n"',
        "{\u00a0}".encode(),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_parsers_disagree_about_is_refused(body: bytes) -> None:
    with pytest.raises(NotStrictJson):
        parse(body)


def test_an_escaped_backslash_before_u0000_is_six_harmless_characters() -> None:
    assert parse(b'"\\\\u0000"') == "\\u0000"
    assert parse(b'"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' + b"[]" * (DEPTH_MAX + 1) + b'"' + b'\\"' * 400_000,
        b"[" * 19_000,
        b'{"a":' * 9_000,
        b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
        b'["' + b'\\"' * 400_000,
        b"[1." + b"1" * 900_000 + b"]",
        b"[" + b"1" * 900_000 + b"]",
        b"1e" + b"0" * 900_000,
        b"[" + b'"\\ud800\\udc00",' * 9_000 + b"1]",
    ],
    ids=lambda body: repr(body[:8]),
)
def test_no_body_takes_longer_than_its_size_explains(body: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(NotStrictJson):
        parse(body)
    assert time.process_time() - began < 0.5
