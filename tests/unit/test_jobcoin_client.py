"""What an answer of the network proves."""

import pytest

from shared.mixer.jobcoin import is_refusal


@pytest.mark.parametrize(
    ("status", "body"),
    [(422, {"error": "Insufficient Funds"}), (400, {"error": {"amount": ["too long"]}}), (404, {"error": "no"})],
)
def test_a_refusal_that_names_its_reason_means_that_nothing_moved(status: int, body: dict[str, object]) -> None:
    assert is_refusal(status, body)


@pytest.mark.parametrize("status", [408, 429, 500, 503, 200, 302])
def test_a_status_that_says_when_and_not_what_is_no_proof(status: int) -> None:
    assert not is_refusal(status, {"error": "try later"})


@pytest.mark.parametrize("error", [None, "", " ", {}, [], ["x"], 0, True])
def test_a_refusal_without_a_reason_is_no_proof(error: object) -> None:
    assert not is_refusal(422, {"error": error})
    assert not is_refusal(422, {})
