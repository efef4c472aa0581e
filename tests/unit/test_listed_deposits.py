"""Which rows of the list are deposits, and which of equal ones is which."""

from services.deposit_poller.core.deposits import (
    ContentKey,
    UnconfirmedDeposit,
    content_key,
    deposit_id,
    is_confirmed,
    numbered,
    our_rows,
    stored,
)
from shared.mixer.jobcoin_rows import Address, ListedRow, Transfer

NOON = "2026-11-21T12:00:00.000Z"
OURS, HOUSE = Address("0123456789abcdef" * 2), Address("house")


def listed(source: object, destination: object, amount: object = "1", **more: object) -> dict[str, object]:
    return {"timestamp": NOON, "fromAddress": source, "toAddress": destination, "amount": amount} | more


def test_a_transfer_of_an_address_to_itself_is_no_deposit() -> None:
    assert our_rows([listed(OURS, OURS)], HOUSE).deposits == []


def test_what_strangers_write_is_neither_read_nor_hides_another_row() -> None:
    values: list[object] = [
        *(None, 1, "row", [], {}, listed("a", "b", amount=1), listed("a", None), listed({}, OURS + "0")),
        *(listed("a", OURS, amount=1), listed("a", OURS), listed(OURS, "house", memo=[]), listed("a", "house")),
    ]
    found = our_rows(values, HOUSE)
    assert [row.transfer for row in found.deposits] == [Transfer(Address("a"), OURS, 10**40)]
    assert [row.transfer for row in found.sweeps] == [Transfer(OURS, HOUSE, 10**40)]
    assert found.unreadable == 1


def test_twins_are_two_wherever_they_stand_and_whenever_they_were() -> None:
    rows = [ListedRow(f"2026-11-21T12:00:0{second}.000Z", Address("a"), OURS, 5) for second in range(3)]
    other = ListedRow(NOON, Address("b"), OURS, 5)
    counts: dict[ContentKey, int] = {}
    found = numbered([rows[0], other, *rows[1:]], {OURS: "m"}, counts)
    assert [deposit.occurrence for deposit in found] == [1, 1, 2, 3]
    more = numbered([rows[0]], {OURS: "m"}, counts)
    assert [deposit.occurrence for deposit in more] == [4]
    assert numbered(rows, {}, counts) == []


def test_an_identity_hangs_on_the_network_and_the_content_and_on_nothing_else() -> None:
    transfer = Transfer(Address("a"), OURS, 5)
    ids = {
        *(deposit_id("jobcoin", transfer, number) for number in (1, 2)),
        deposit_id("other", transfer, 1),
        deposit_id("jobcoin", Transfer(Address("b"), OURS, 5), 1),
        deposit_id("jobcoin", Transfer(Address("a"), OURS, 50), 1),
    }
    assert len(ids) == 5
    assert deposit_id("jobcoin", transfer, 1) == deposit_id("jobcoin", transfer, 1)
    assert content_key('a","b', "c", 1) != content_key("a", 'b","c', 1)


def test_a_deposit_counts_once_its_address_lists_so_many_equal_ones() -> None:
    counts = {content_key(stored("a\0"), OURS, 5): 2}
    deposits = [UnconfirmedDeposit("d", "m", stored("a\0"), OURS, 5, number) for number in (1, 2, 3)]
    assert [is_confirmed(counts, deposit) for deposit in deposits] == [True, True, False]
