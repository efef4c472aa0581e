"""What clients send becomes what the ledger understands, exactly, or is refused."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.gateway.api.mixes import MixNew, ppm_of
from services.gateway.api.transfers import TransferNew
from services.gateway.http.instants import parse_instant
from services.gateway.http.problems import Problem
from services.gateway.http.queries import ListQuery, parse_parameters
from services.gateway.usecases.accounts import limit_units
from services.gateway.usecases.submit import fingerprint
from shared.domain.metadata import canonical_json
from shared.domain.money import AMOUNT_MINOR_MAX, AmountError, format_amount, parse_amount
from shared.runtime import strict_json
from shared.runtime.compact_json import compact_json

GOOD = {"source": "a", "destination": "b", "amount": "1", "asset": "USD"}


@given(st.integers(1, AMOUNT_MINOR_MAX), st.integers(0, 30))
def test_an_amount_comes_back_as_it_was_sent(minor: int, scale: int) -> None:
    text = format_amount(minor, scale)
    if len(text.partition(".")[0]) <= 30:
        assert parse_amount(text, scale) == minor


@given(st.text(max_size=40))
def test_any_text_is_an_amount_or_refused_by_model_or_parser(text: str) -> None:
    try:
        body = TransferNew.model_validate({**GOOD, "amount": text})
        assert parse_amount(body.amount, 2) > 0
    except (ValidationError, AmountError):
        return
    assert text.isascii()
    assert text.replace(".", "", 1).isdigit()


@pytest.mark.parametrize(
    "amount",
    [1, 1.0, True, None, "", " 1", "1\n", "+1", "-1", "1e5", ".5", "5.", "1_0", "\u0661", "\uff11", "1" * 31, "\ud800"],
)
def test_what_is_no_amount_does_not_pass_the_model(amount: object) -> None:
    with pytest.raises(ValidationError):
        TransferNew.model_validate({**GOOD, "amount": amount})


@pytest.mark.parametrize("text", ["0", "0.0", "00.00"])
def test_a_limit_may_be_zero(text: str) -> None:
    assert limit_units(text, 2) == 0
    with pytest.raises(AmountError):
        parse_amount(text, 2)


@pytest.mark.parametrize(
    "name",
    ["", "A", "a b", "a\n", "-a", "a" * 65, "\u0430", "WORLD:USD:1", "world:USD:1000", "world:USD:1:2", "a/b", "a%00"],
)
def test_what_is_no_account_name_does_not_pass(name: str) -> None:
    with pytest.raises(ValidationError):
        TransferNew.model_validate({**GOOD, "source": name})


@pytest.mark.parametrize("name", ["a", "0", "a.b_c:d-e", "a" * 64, "world:USD:0", "transit:USD:1:out:0", "mix:1"])
def test_what_is_an_account_name_passes(name: str) -> None:
    assert TransferNew.model_validate({**GOOD, "source": name}).source == name


def test_a_fingerprint_tells_contents_apart_that_look_alike_when_joined() -> None:
    contents = [
        ("a", "bc"),
        ("ab", "c"),
        ("a", "b", "c"),
        ("a", None, "bc"),
        ("a", "", "bc"),
        ("a", '"bc'),
        ("a", 1),
        ("a", "1"),
    ]
    prints = {fingerprint("POST /v1/transfers", *content) for content in contents}
    assert len(prints) == len(contents)
    assert {len(each) for each in prints} == {32}
    assert fingerprint("POST /v1/deposits", "a", "bc") not in prints


def test_metadata_has_one_text_whatever_the_order_of_its_keys() -> None:
    assert canonical_json({"b": 1, "a": {"d": 1.5, "c": "é"}}) == canonical_json({"a": {"c": "é", "d": 1.5}, "b": 1})


@pytest.mark.parametrize(
    "number",
    [
        *("1.12345678901234567890", "9007199254740993", "-1.0000000000000000001", "1e400", "1e-400", "5.1e-324"),
        *("1" * 5_000, "0." + "1" * 5_000, "1e" + "9" * 400, "123456789012345678901234567890"),
    ],
)
def test_a_number_that_a_double_does_not_hold_is_refused_where_it_stands(number: str) -> None:
    body = strict_json.parse(json.dumps({**GOOD, "metadata": {"a": [0]}}).replace("[0]", f"[{number}]").encode())
    with pytest.raises(ValidationError, match="send it as a string") as refused:
        TransferNew.model_validate(body)
    assert refused.value.errors()[0]["loc"] == ("metadata",)
    amount = strict_json.parse(json.dumps({**GOOD, "amount": 0}).replace("0", number).encode())
    with pytest.raises(ValidationError) as refused:
        TransferNew.model_validate(amount)
    assert refused.value.errors()[0]["loc"] == ("amount",)


@pytest.mark.parametrize(
    "number",
    [
        *("0", "-0.0", "0.1", "1.50", "1e2", "1E-7", "-12.25", "9007199254740992", "1e300", "5e-324", "1" + "0" * 22),
        *("123456789012345", "0.30000000000000004", "1.7976931348623157e308"),
    ],
)
def test_a_number_in_metadata_comes_back_as_the_number_that_was_sent(number: str) -> None:
    body = strict_json.parse(json.dumps({**GOOD, "metadata": {"a": "x"}}).replace('"x"', number).encode())
    metadata = TransferNew.model_validate(body).metadata
    assert metadata is not None
    answered = compact_json({"metadata": json.loads(canonical_json(metadata))})
    [read] = json.loads(answered, parse_float=Decimal, parse_int=Decimal)["metadata"].values()
    assert (read, read.is_signed()) == (Decimal(number), Decimal(number).is_signed())


@pytest.mark.parametrize(("percent", "ppm"), [("0", 0), ("99.9999", 999_999), ("2.5", 25_000), ("00.0001", 1)])
def test_a_percentage_is_whole_parts_per_million(percent: str, ppm: int) -> None:
    assert ppm_of(MixNew.model_validate({"destinations": ["a"], "fee_percent": percent}).fee_percent) == ppm


@pytest.mark.parametrize("percent", ["", "-1", "100", "1e1", "0.00001", ".5", "\u0661", 2, 2.5, None, "1\n"])
def test_what_is_no_percentage_is_refused(percent: object) -> None:
    with pytest.raises(ValidationError):
        MixNew.model_validate({"destinations": ["a"], "fee_percent": percent})


@given(st.text(max_size=60))
def test_any_query_is_read_or_refused(text: str) -> None:
    try:
        query = ListQuery.model_validate(parse_parameters(text))
    except (Problem, ValidationError):
        return
    assert 1 <= query.limit <= 500


@given(st.datetimes(), st.sampled_from(["Z", "+00:00", "-12:30", "+14:00"]))
def test_any_instant_is_read_or_refused(instant: object, zone: str) -> None:
    try:
        parse_instant(f"{instant}".replace(" ", "T") + zone)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("text", "fraction"),
    [
        ("2026-01-31T12:34:56.123456789Z", 123_456),
        ("2026-01-31t12:34:56.1234567z", 123_456),
        ("2026-01-31t13:34:56.99999999+01:00", 999_999),
        ("2026-01-31T12:34:56.5z", 500_000),
        ("2026-01-31T12:34:56Z", 0),
    ],
)
def test_an_instant_is_read_as_any_language_prints_it(text: str, fraction: int) -> None:
    assert parse_instant(text) == datetime(2026, 1, 31, 12, 34, 56, fraction, UTC)


@pytest.mark.parametrize("text", ["2026-01-31T12:34:56.1234567890Z", "2026-01-31 12:34:56Z", "2026-01-31T12:34:56"])
def test_what_is_no_rfc_3339_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_instant(text)
