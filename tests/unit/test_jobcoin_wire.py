import json

import pytest

from services.jobcoin_network import pages
from services.jobcoin_network.core.coins import read_amount
from services.jobcoin_network.core.instances import Instance, creation, genesis
from services.jobcoin_network.core.rows import CHUNK_BYTES, RenderedRows
from services.jobcoin_network.core.transactions import (
    CoinAddress,
    CoinMovement,
    InstanceName,
    Transaction,
    timestamp_text,
)
from services.jobcoin_network.core.wire import (
    ADDRESS_BYTES_MAX,
    REQUIRED,
    RequestRefusedError,
    address_head,
    read_creation,
    read_transfer,
)

GOOD = {"fromAddress": "Alice", "toAddress": "Bob", "amount": "1.50"}
NOW_MS = 1_398_172_201_210
PUPPY = InstanceName("puppy")
HOSTILE = CoinAddress("\"><script>alert(1)</script><img src=x onerror='y'>&amp;\u202e")


def fresh() -> Instance:
    return Instance(PUPPY, genesis(PUPPY, NOW_MS))


def listed(rows: RenderedRows) -> bytes:
    return b"".join(rows.list_chunks(rows.list_bytes()))


@pytest.mark.parametrize(
    ("timestamp_ms", "text"),
    [
        (1_398_172_201_210, "2014-04-22T13:10:01.210Z"),
        (1_489_031_507_000, "2017-03-09T03:51:47.000Z"),
        (1_489_031_507_007, "2017-03-09T03:51:47.007Z"),
    ],
)
def test_a_timestamp_always_has_three_fraction_digits(timestamp_ms: int, text: str) -> None:
    assert timestamp_text(timestamp_ms) == text


def test_created_coins_have_no_sender_at_all() -> None:
    created, sent = json.loads(listed(fresh().rows))
    assert created == {"timestamp": "2014-04-22T13:10:01.150Z", "toAddress": "Alice", "amount": "50"}
    assert sent == {
        "timestamp": "2014-04-22T13:10:01.210Z",
        "fromAddress": "Alice",
        "toAddress": "Bob",
        "amount": "12.5",
    }


def test_an_unused_address_has_exactly_zero() -> None:
    assert address_head(Instance(PUPPY), CoinAddress("Alice")) == b'{"balance":"0","transactions":['


def test_an_address_has_its_own_transactions_oldest_first_as_they_are_added() -> None:
    instance = fresh()
    bob = CoinAddress("Bob")
    assert address_head(instance, bob).startswith(b'{"balance":"12.5"')
    instance.append(Transaction(PUPPY, 2, NOW_MS, creation(bob)))
    assert address_head(instance, bob).startswith(b'{"balance":"62.5"')
    assert [json.loads(instance.rows.row(place))["amount"] for place in instance.positions(bob)] == ["12.5", "50"]


def test_a_list_is_that_of_its_time_whatever_is_added_while_it_is_read() -> None:
    rows = RenderedRows()
    assert listed(rows) == b"[]"
    given = [b'{"n":%d}' % number for number in range(CHUNK_BYTES // 4)]
    for row in given:
        rows.append(row)
    chunks = rows.list_chunks(rows.list_bytes())
    parts = [next(chunks), next(chunks)]
    rows.append(b'{"late":1}')
    assert b"".join([*parts, *chunks]) == b"[" + b",".join(given) + b"]"
    assert (rows.row(0), rows.row(len(given) - 1), len(rows)) == (given[0], given[-1], len(given) + 1)
    assert rows.list_bytes() == len(listed(rows))


def test_a_good_transfer_is_read() -> None:
    assert read_transfer(GOOD) == CoinMovement(CoinAddress("Alice"), CoinAddress("Bob"), read_amount("1.50"))


@pytest.mark.parametrize("name", ["fromAddress", "toAddress", "amount"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_field_is_named(name: str, value: str | None) -> None:
    fields = {key: text for key, text in {**GOOD, name: value}.items() if text is not None}
    with pytest.raises(RequestRefusedError) as refused:
        read_transfer(fields)
    assert refused.value.error == {name: [REQUIRED]}


def test_all_missing_fields_are_named_at_once() -> None:
    with pytest.raises(RequestRefusedError) as refused:
        read_transfer({})
    assert isinstance(refused.value.error, dict)
    assert set(refused.value.error) == {"fromAddress", "toAddress", "amount"}


def test_an_amount_of_zero_is_answered_with_a_sentence() -> None:
    with pytest.raises(RequestRefusedError) as refused:
        read_transfer({**GOOD, "amount": "0"})
    assert refused.value.error == "Amount must be over 0!"


@pytest.mark.parametrize("address", ["x" * (ADDRESS_BYTES_MAX + 1), "é" * (ADDRESS_BYTES_MAX // 2 + 1), "\ud800"])
def test_an_address_that_could_not_be_kept_is_refused(address: str) -> None:
    for read, fields, name in (
        (read_transfer, {**GOOD, "toAddress": address}, "toAddress"),
        (read_creation, {}, "address"),
    ):
        with pytest.raises(RequestRefusedError) as refused:
            read({**fields, name: address})
        assert isinstance(refused.value.error, dict)
        assert list(refused.value.error) == [name]


def test_a_hostile_address_is_only_ever_text_on_a_page() -> None:
    instance = Instance(PUPPY, [Transaction(PUPPY, 0, NOW_MS, creation(HOSTILE))])
    page = pages.viewer(instance, {str(HOSTILE): [str(HOSTILE)]})
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_viewer_shows_both_forms_the_addresses_and_the_log() -> None:
    name = InstanceName("deputize-green")
    page = pages.viewer(Instance(name, genesis(name, NOW_MS)))
    for text in ("Jobcoin Viewer for Deputize Green", "API docs", "Send Jobcoins", "Create 50 New Jobcoins"):
        assert text in page
    for text in ("Create 50 Coins", "2 Addresses", "(new)", "37.5", 'action="/deputize-green/send"'):
        assert text in page
