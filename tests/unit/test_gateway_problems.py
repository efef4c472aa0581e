"""One code has one status, and every code of the HTTP contract is there."""

import pytest

from services.gateway.http.problems import PROBLEM_TYPES, Problem, ProblemCode, RequestFault, problem_code
from shared.domain.rejections import Rejection
from shared.runtime.compact_json import compact_json

STATUS_OF = {
    400: ("invalid_request", "amount_scale", "amount_not_positive"),
    401: ("unauthenticated",),
    403: ("forbidden",),
    404: ("not_found",),
    405: ("method_not_allowed",),
    406: ("not_acceptable",),
    409: ("already_exists", "hold_not_open", "account_not_empty", "cancelled"),
    413: ("too_large",),
    415: ("unsupported_media_type",),
    422: (
        *("insufficient_funds", "asset_mismatch", "unknown_asset", "account_not_found", "account_frozen"),
        *("account_closed", "same_account", "idempotency_key_reused", "limit_exceeded", "address_refused"),
    ),
    429: ("rate_limited",),
    503: ("overloaded", "unavailable"),
    504: ("outcome_unknown",),
}
CODES: tuple[ProblemCode, ...] = (*RequestFault, *Rejection)


@pytest.mark.parametrize(("status", "name"), [(status, name) for status, names in STATUS_OF.items() for name in names])
def test_every_code_of_the_contract_has_its_status(status: int, name: str) -> None:
    assert PROBLEM_TYPES[problem_code(name)].status == status


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_total_and_names_itself(code: ProblemCode) -> None:
    body = Problem(code).body("r1")
    assert body["type"] == f"/problems/{code.value}"
    assert body["status"] == PROBLEM_TYPES[code].status
    assert body["title"]
    assert body["detail"]
    assert b'"request_id":"r1"' in compact_json(body)


def test_every_fault_has_a_problem_and_no_name_means_two_things() -> None:
    assert set(PROBLEM_TYPES) == set(CODES)
    assert not {fault.value for fault in RequestFault} & {rejection.value for rejection in Rejection}
    with pytest.raises(KeyError):
        problem_code("nothing")
