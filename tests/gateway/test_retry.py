from swapline_gateway.retry import Backoff


def test_delays_double_up_to_the_cap_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(delay_s_min=1, delay_s_max=10, uniform=lambda low, high: high)  # noqa: ARG005
    assert [backoff.fail() for _ in range(5)] == [1, 2, 4, 8, 10]
    backoff.succeed()
    assert backoff.fail() == 1
    assert backoff.failures_total == 6


def test_delay_is_shortened_by_half_at_most() -> None:
    backoff = Backoff(delay_s_min=8, delay_s_max=8)
    delays_s = [backoff.fail() for _ in range(200)]
    assert 4 <= min(delays_s) < 5
    assert 7 < max(delays_s) <= 8


def test_only_the_first_failure_of_a_series_is_news() -> None:
    backoff = Backoff()
    backoff.fail()
    assert backoff.is_first()
    backoff.fail()
    assert not backoff.is_first()


def test_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(delay_s_max=30)
    assert max(backoff.fail() for _ in range(2000)) <= 30
