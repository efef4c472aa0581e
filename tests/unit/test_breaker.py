"""The breaker opens on faults, probes once and closes; the alert speaks once for each episode."""

from shared.mixer.breaker import Breaker, BreakerState, RateAlert


def failing(breaker: Breaker, times: int, now_s: float = 0.0) -> Breaker:
    for _ in range(times):
        breaker.note(now_s, ok=False)
    return breaker


def test_it_opens_after_so_many_faults_in_a_row_and_lets_nothing_through() -> None:
    breaker = failing(Breaker(), 4)
    assert breaker.admits(0.0)
    failing(breaker, 1)
    assert breaker.state is BreakerState.OPEN
    assert not breaker.admits(4.9)


def test_it_opens_when_half_of_enough_calls_fail_though_never_in_a_row() -> None:
    breaker = Breaker()
    for number in range(10):
        breaker.note(number, ok=number % 2 == 0)
    assert breaker.state is BreakerState.OPEN


def test_faults_outside_the_window_do_not_open_the_breaker() -> None:
    breaker = Breaker()
    for number in range(20):
        breaker.note(number * 31.0, ok=number % 2 == 0)
    assert breaker.state is BreakerState.CLOSED


def test_half_open_admits_one_probe_whose_end_decides() -> None:
    breaker = failing(Breaker(), 5)
    assert breaker.admits(5.0)
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.admits(5.1)
    breaker.note(5.2, ok=False)
    assert not breaker.admits(10.1)
    assert breaker.admits(10.3)
    breaker.note(10.4, ok=True)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.admits(10.4)


def test_a_probe_that_never_ended_is_made_again() -> None:
    breaker = failing(Breaker(), 5)
    assert breaker.admits(5.0)
    assert breaker.admits(10.0)
    assert not breaker.admits(10.1)


def test_the_alert_is_raised_once_and_cleared_once() -> None:
    alert = RateAlert()
    changes = [alert.note(float(number), ok=number >= 10) for number in range(200)]
    assert [change for change in changes if change is not None] == [True, False]


def test_no_alert_is_raised_before_enough_calls() -> None:
    alert = RateAlert()
    assert all(alert.note(float(number), ok=False) is None for number in range(9))
