"""What clients send becomes what the ledger understands, exactly, or is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.gateway.api.fields import canonical_json
from services.gateway.api.mixes import ppm_of
from services.gateway.api.transfers import TransferNew
from services.gateway.http.problems import Problem
from services.gateway.http.queries import ListQuery, parse_instant, parse_parameters
from services.gateway.usecases.accounts import limit_units
from services.gateway.usecases.submit import fingerprint
from shared.domain.money import AMOUNT_MINOR_MAX, AmountError, format_amount, parse_amount

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


@pytest.mark.parametrize(("text", "ppm"), [("0", 0), ("100", 1_000_000), ("2.5", 25_000), ("0.0001", 1)])
def test_a_percentage_is_whole_parts_per_million(text: str, ppm: int) -> None:
    assert ppm_of(text) == ppm


@pytest.mark.parametrize("text", ["", "-1", "100.0001", "101", "1e1", "0.00001", ".5", "\u0661"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="percentage"):
        ppm_of(text)


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
