import pytest

from services.jobcoin_network.core.coins import (
    COIN,
    AmountMalformedError,
    AmountNotPositiveError,
    coins_text,
    read_amount,
)

# What clients of the network really sent, and what the network then lists.
SENT_AND_LISTED = [
    ("30.1", "30.1"),
    ("50", "50"),
    ("250.0", "250.0"),
    ("125.00", "125.00"),
    ("3.90625", "3.90625"),
    ("1.3000000000000007", "1.3000000000000007"),
    (".123456789", ".123456789"),
    ("5.", "5."),
    ("007", "007"),
    ("5e-05", "0.00005"),
    ("1e+06", "1000000"),
    ("1.5E2", "150"),
    ("100e-42", "0." + "0" * 39 + "1"),
    ("9" * 40, "9" * 40),
    ("1234567890.123456789012345678", "1234567890.123456789012345678"),
]


@pytest.mark.parametrize(("sent", "listed"), SENT_AND_LISTED)
def test_a_plain_decimal_is_listed_as_sent_and_an_exponent_is_written_out(sent: str, listed: str) -> None:
    assert read_amount(sent).text == listed
    assert read_amount(listed).units == read_amount(sent).units


MALFORMED = [
    *(
        "",
        ".",
        "e5",
        "1e",
        "abc",
        "NaN",
        "Infinity",
        "-Infinity",
        "inf",
        "1_000",
        " 1",
        "1\n",
        "+1",
        "0x10",
        "1,5",
        "1.2.3",
    ),
    *("١٢", "\N{FULLWIDTH DIGIT ONE}2", "²", "1\N{NO-BREAK SPACE}", "--1", "1e1.5", "1e5e5", "1\x00"),
    *(
        "1" * 41,
        "0" * 40 + "1",
        "0." + "1" * 41,
        "1e40",
        "1e-41",
        "1e1000000",
        "1e-1000000",
        "1e" + "9" * 60,
        "9" * 100_000,
    ),
]


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_no_decimal_of_at_most_forty_digits_is_refused(text: str) -> None:
    with pytest.raises(AmountMalformedError):
        read_amount(text)


@pytest.mark.parametrize("text", ["0", "0.000", "-1", "-0", "-.5", "0e999999", "-1e-3"])
def test_zero_and_less_are_refused_as_not_positive(text: str) -> None:
    with pytest.raises(AmountNotPositiveError):
        read_amount(text)


@pytest.mark.parametrize(
    ("units", "text"),
    [(0, "0"), (COIN, "1"), (COIN * 375 // 10, "37.5"), (1, "0." + "0" * 39 + "1"), (100 * COIN, "100")],
)
def test_a_balance_is_canonical(units: int, text: str) -> None:
    assert coins_text(units) == text
