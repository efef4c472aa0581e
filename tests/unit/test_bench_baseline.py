import pytest

from benchmarks.baseline.bodies import parse_transfer
from benchmarks.baseline.forms import Caller, refusal_of
from benchmarks.baseline.problems import STATUS_OF, Refusal

SCALES = {"USD": 2}
BODY = b'{"source":"alice","destination":"bob","amount":"12.5","asset":"USD"}'
ADMIN = Caller("admin", admin=True)


def test_the_baseline_takes_what_the_gateway_takes() -> None:
    transfer = parse_transfer(BODY, SCALES)
    assert (transfer.source, transfer.destination, transfer.amount, transfer.asset) == ("alice", "bob", 1250, "USD")


def test_amounts_that_mean_the_same_have_one_fingerprint() -> None:
    again = parse_transfer(BODY.replace(b"12.5", b"12.50"), SCALES)
    other = parse_transfer(BODY.replace(b"12.5", b"12.51"), SCALES)
    assert parse_transfer(BODY, SCALES).fingerprint == again.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b'"12.5"', b"12.5", "invalid_request"),
        (b'"12.5"', b'"12.567"', "amount_scale"),
        (b'"12.5"', b'"0"', "amount_not_positive"),
        (b'"12.5"', b'"1e3"', "invalid_request"),
        (b'"12.5"', '"१२"'.encode(), "invalid_request"),
        (b'"12.5"', b"NaN", "invalid_request"),
        (b'"12.5"', b'"1","amount":"2"', "invalid_request"),
        (b'"bob"', b'"Bob"', "invalid_request"),
        (b'"bob"', b'"b\\u0000b"', "invalid_request"),
        (b'"USD"', b'"USD","x":1', "invalid_request"),
        (b'"USD"', b'"USD","reference":""', "invalid_request"),
        (b'"USD"', b'"USD","metadata":{"a":"\\ud800"}', "invalid_request"),
        (b'"USD"', b'"XXX"', "unknown_asset"),
        (b"{", b"[" * 40, "invalid_request"),
        (b"{", b"\xff{", "invalid_request"),
    ],
)
def test_the_baseline_refuses_what_the_gateway_refuses(old: bytes, new: bytes, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_transfer(BODY.replace(old, new, 1), SCALES)
    assert refused.value.code == code


def test_the_baseline_spares_itself_no_check_of_the_gateways_parser() -> None:
    many = BODY.replace(b"{", b'{"metadata":[' + b"1," * 20_000 + b"1],")
    with pytest.raises(Refusal) as refused:
        parse_transfer(many, SCALES)
    assert refused.value.detail == "the body holds too many values"


def account(**changed: object) -> dict[str, object]:
    return {"owner": "alice", "asset": "USD", "status": "open", "balance": "2000", "overdraft_limit": "0"} | changed


@pytest.mark.parametrize(
    ("source", "destination", "code"),
    [
        (account(), account(), None),
        (account(), None, "account_not_found"),
        (account(asset="EUR"), account(), "asset_mismatch"),
        (account(status="frozen"), account(), "account_frozen"),
        (account(), account(status="frozen"), None),
        (account(), account(status="closed"), "account_closed"),
        (account(balance="1249"), account(), "insufficient_funds"),
        (account(balance="1249", overdraft_limit="1"), account(), None),
        (account(), account(balance=str(10**36)), "limit_exceeded"),
    ],
)
def test_the_baseline_decides_by_the_rules_of_the_ledger(
    source: dict[str, object], destination: dict[str, object] | None, code: str | None
) -> None:
    accounts = {"alice": source} | ({} if destination is None else {"bob": destination})
    assert refusal_of(ADMIN, parse_transfer(BODY, SCALES), accounts) == code
    assert code is None or code in STATUS_OF


def test_another_ones_account_is_not_there() -> None:
    accounts = {"alice": account(), "bob": account()}
    assert refusal_of(Caller("bob", admin=False), parse_transfer(BODY, SCALES), accounts) == "account_not_found"
