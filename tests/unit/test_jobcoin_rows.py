"""What the network says is read exactly, or refused."""

import json

import pytest

from shared.domain.money import format_amount
from shared.mixer.jobcoin_rows import (
    COIN_SCALE,
    Address,
    AddressView,
    ListedRow,
    Transfer,
    Unreadable,
    read_address,
    read_rows,
    read_units,
)

COIN = 10**40
NOON = "2026-11-21T12:00:00.000Z"
HERE, THERE = Address("here"), Address("there")


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("1", COIN),
        ("0", 0),
        (".5", COIN // 2),
        ("5.", 5 * COIN),
        ("1.30", 13 * COIN // 10),
        ("007", 7 * COIN),
        ("250.0", 250 * COIN),
        ("0." + "0" * 39 + "1", 1),
        ("9" * 40, (10**40 - 1) * COIN),
        ("0.5" + "0" * 60, COIN // 2),
    ],
)
def test_amounts_are_exact_however_they_are_written(text: str, units: int) -> None:
    assert read_units(text) == units
    assert read_units(format_amount(units, COIN_SCALE)) == units


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "-1", "+1", "1e5", "NaN", "Infinity", "1,5", " 1", "1\n", "1_0", "\u0661", "²", "0x1"),
        *("9" * 41, "1" + "0" * 99, "0." + "0" * 40 + "1"),
        *(None, 1, 1.5, True, ["1"]),
    ],
)
def test_what_is_no_plain_decimal_is_refused(text: object) -> None:
    with pytest.raises(Unreadable):
        read_units(text)


def listed(**changed: object) -> dict[str, object]:
    return {"timestamp": NOON, "fromAddress": "here", "toAddress": "there", "amount": "1"} | changed


def test_created_coins_have_no_source() -> None:
    row = listed()
    del row["fromAddress"]
    assert read_rows([row]) == (ListedRow(NOON, Address(""), THERE, COIN),)


@pytest.mark.parametrize(
    "row",
    [
        listed(timestamp="2026-13-45T12:00:00.000Z"),
        listed(timestamp="2026-11-21 12:00:00"),
        listed(timestamp=1),
        listed(toAddress=""),
        listed(toAddress=None),
        listed(fromAddress=None),
        listed(fromAddress="x" * 4097),
        listed(amount=1),
        listed(amount="0"),
        listed(amount=None),
        [],
        "row",
        None,
    ],
)
def test_one_row_that_cannot_be_read_makes_the_reading_doubtful(row: object) -> None:
    with pytest.raises(Unreadable):
        read_rows([listed(), row])


def test_unknown_fields_of_any_type_are_ignored_and_long_addresses_are_read() -> None:
    (row,) = read_rows([listed(isRefunded=False, memo={"a": [1]}, toAddress="x" * 4096)])
    assert len(row.destination) == 4096


def view(balance: str, *rows: dict[str, object], address: Address = HERE) -> AddressView:
    return read_address(address, {"balance": balance, "transactions": list(rows)})


def test_an_address_agrees_when_its_balance_is_what_its_transactions_add_up_to() -> None:
    came = listed(fromAddress="there", toAddress="here", amount="3")
    assert view("2", came, listed()).agrees
    assert view(
        "3",
        came,
        listed(toAddress="here"),
    ).agrees, "a transfer to itself is neutral"
    assert not view("3", came, listed()).agrees
    assert not view("6", came).agrees
    assert view("0").is_unused
    assert not view("0", came, listed(amount="3")).is_unused


def test_an_address_that_tells_of_others_is_not_believed() -> None:
    with pytest.raises(Unreadable):
        view("0", listed(fromAddress="a", toAddress="b"))
    with pytest.raises(Unreadable):
        read_address(HERE, json.loads('{"balance": 0, "transactions": []}'))


def test_a_transfer_is_found_unless_it_is_known_to_be_another() -> None:
    twice = view("1", listed(fromAddress="x", toAddress="here", amount="3"), listed(), listed())
    asked = Transfer(HERE, THERE, COIN)
    assert twice.find(asked) == 1
    assert twice.find(asked, {1}) == 2
    assert twice.find(asked, {1, 2}) is None
    assert twice.find(Transfer(HERE, THERE, 2 * COIN)) is None


def test_rows_of_equal_content_are_the_same_whenever_they_were() -> None:
    later = listed(timestamp="2026-11-21T12:00:09.000Z")
    assert view("1", listed(fromAddress="x", toAddress="here", amount="3"), listed(), later).find(
        Transfer(HERE, THERE, COIN), {1}
    )
