"""The pure checks of `tellerline verify`, on lines as COPY writes them; integration/test_verify has whole journals."""

import hashlib

import pytest

from tellerline.verification.accounts import ACCOUNT, ENTRY, OPEN_HOLDS, AccountProof
from tellerline.verification.batches import Batch, BatchProof
from tellerline.verification.chain import BatchRow, Chain
from tellerline.verification.findings import Violated

ALICE = "alice"  # of partition 0, as everybody where there is one partition


def account(name: str = ALICE, status: str = "open") -> str:
    return f"{name}\t{ACCOUNT}\t0\tUSD\t0\t1\t0\t0\t0\t0\t0\t0\t{status}"


def entry(
    seq: int, delta: int, balance: object, *, held: tuple[int, int] = (0, 0), limit: int = 0, name: str = ALICE
) -> str:
    return f"{name}\t{ENTRY}\t{seq}\tUSD\t0\t{seq}\t0\t{delta}\t{held[0]}\t{balance}\t{held[1]}\t{limit}\topen"


def holds(amount: int) -> str:
    return f"{ALICE}\t{OPEN_HOLDS}\t0\t\t0\t0\t0\t0\t0\t0\t{amount}\t0\t"


def proved(*lines: str) -> AccountProof:
    proof = AccountProof(1, frozenset({"USD"}))
    proof.feed(lines)
    proof.finish()
    return proof


def test_an_account_may_go_below_zero_as_far_as_its_limit() -> None:
    assert proved(account(), entry(1, 0, 0, limit=50), entry(2, -50, -50, limit=50)).totals == {"USD": -50}
    with pytest.raises(Violated, match=r"entries alice/2: .*leaves them at zero or more: expected >= 0, found -1"):
        proved(account(), entry(1, 0, 0, limit=50), entry(2, -51, -51, limit=50))


def test_what_is_held_is_not_available() -> None:
    funded = (account(), entry(1, 100, 100), entry(2, 0, 100, held=(60, 60)))
    assert proved(*funded, entry(3, -40, 60, held=(0, 60)), holds(60)).entries == 3
    with pytest.raises(Violated, match=r"alice/3: .*expected >= 0, found -1"):
        proved(*funded, entry(3, -41, 59, held=(0, 60)), holds(60))


def test_a_hold_that_is_too_large_leaves_less_than_nothing() -> None:
    with pytest.raises(Violated, match=r"alice/2: .*expected >= 0, found -1"):
        proved(account(), entry(1, 100, 100), entry(2, 0, 100, held=(101, 101)), holds(101))


def test_a_lower_limit_leaves_the_available_funds_at_zero_or_more() -> None:
    overdrawn = (account(), entry(1, 0, 0, limit=50), entry(2, -50, -50, limit=50))
    with pytest.raises(Violated, match=r"alice/3: .*expected >= 0, found -1"):
        proved(*overdrawn, entry(3, 0, -50, limit=49))


def test_accounts_of_the_ledger_itself_may_owe_anything() -> None:
    assert proved(account("world:USD:0"), entry(1, -500, -500, name="world:USD:0")).totals == {"USD": -500}
    with pytest.raises(Violated, match="mix:1/1"):  # the mixer's are like a client's
        proved(account("mix:1"), entry(1, -500, -500, name="mix:1"))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1.5", "", "1e3"])
def test_what_is_no_whole_number_is_a_violation_wherever_it_stands(number: str) -> None:
    with pytest.raises(Violated, match="alice/1: balance_after is a whole number"):
        proved(account(), entry(1, 5, number))
    fields = entry(1, 5, 5).split("\t")
    for place in (5, 6, 7, 8, 9, 10, 11):
        with pytest.raises(Violated, match="is a whole number"):
            proved(account(), "\t".join([*fields[:place], number, *fields[place + 1 :]]))


def test_held_funds_are_the_open_holds() -> None:
    with pytest.raises(Violated, match="held_after is the sum of the open holds: expected 59, found 60"):
        proved(account(), entry(1, 100, 100), entry(2, 0, 100, held=(60, 60)), holds(59))


def batch(number: int, **changes: object) -> BatchRow:
    empty = hashlib.sha256(b"").digest()
    row = BatchRow(0, number, 1, 0, 0, number, "{}", bytes(32), empty, b"")._replace(**changes)
    return row._replace(hash=row.recomputed())


def test_cursors_only_ever_rise_and_name_what_was_taken_in() -> None:
    chain = Chain(0, 4)
    first = batch(1, cursors='{"1":7}')
    with pytest.raises(Violated, match="the cursor of partition 1 is the last batch taken in: expected 6, found 7"):
        chain.check_cursors(first, {1: [3, 6]})
    chain.advance(first, {}, chain.check_cursors(first, {1: [3, 7]}))
    for cursors, settled in (
        ('{"1":7}', {1: [7]}),
        ('{"1":6}', {}),
        ('{"1":8}', {}),
        ("{}", {}),
        ('{"1":9}', {1: [9, 8]}),
    ):
        with pytest.raises(Violated):
            chain.check_cursors(batch(2, cursors=cursors), settled)


@pytest.mark.parametrize("cursors", ["", "[]", "1", '{"x":1}', '{"1":null}', '{"1":"y"}'])
def test_cursors_that_cannot_be_read_are_a_violation(cursors: str) -> None:
    with pytest.raises(Violated, match="cursors is a JSON object"):
        Chain(0, 4).check_cursors(batch(1, cursors=cursors), {})


def operation_line(kind: str, postings: str, subject: str) -> str:
    return f"op\t0\t1\t0\t{kind}\tp\t\\\\x00\tposted\t\\N\t\\N\t{postings}\t{subject}\t\\N\t\\N"


UPDATE = operation_line("account.update.v1", "\\N", ALICE)
DEPOSIT = operation_line("deposit.v1", f'[["world:USD:0","{ALICE}","5","USD"]]', "\\N")


def in_batch(name: str, seq: int, delta: int, balance: int, operation: str = "op", held: int = 0) -> str:
    return f"{name}\t{seq}\t{operation}\tUSD\t{delta}\t{held}\t{balance}\t{held}\t0\topen\t0\t1\t0"


def checked(operation: str | None, *entries: str) -> None:
    operations = [] if operation is None else [operation]
    row = batch(1, operations=len(operations), entries=len(entries))
    BatchProof(Batch(row, {"operations": operations, "entries": list(entries)}), 1, {}).check()


def test_an_operation_has_one_entry_on_an_account_however_its_entries_add_up() -> None:
    checked(UPDATE, in_batch(ALICE, 1, 0, 0))
    both = in_batch("world:USD:0", 1, -5, -5), in_batch(ALICE, 1, 5, 5)
    checked(DEPOSIT, *both)
    for operation, *entries in (
        (UPDATE, in_batch(ALICE, 1, 0, 0), in_batch(ALICE, 2, 0, 0)),
        (UPDATE, in_batch("bob", 1, 0, 0), in_batch(ALICE, 1, 0, 0)),
        (DEPOSIT, both[0], in_batch(ALICE, 1, 3, 3), in_batch(ALICE, 2, 2, 5)),
        (DEPOSIT, *both, in_batch("bob", 2, 7, 7), in_batch("bob", 3, -7, 0)),
        (DEPOSIT, *both, in_batch("bob", 2, 0, 0, held=7), in_batch("bob", 3, 0, 0, held=-7)),
    ):
        with pytest.raises(Violated, match="an operation has one entry on an account"):
            checked(operation, *entries)


def test_netting_is_believed_only_where_a_transit_account_of_the_asset_is_large() -> None:
    large = 10**33
    for balance in (large, large - 1):
        nets = (
            in_batch("transit:USD:1:out:0", 9, -balance, 0, "\\N"),
            in_batch("transit:USD:1:in:0", 9, balance, 0, "\\N"),
        )
        if balance == large:
            checked(None, *nets)
            continue
        with pytest.raises(Violated, match="entries transit:USD:1:in:0/9: the net entry is the sum of the credits"):
            checked(None, *nets)
