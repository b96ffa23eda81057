from swapline_gateway.config import QuotaConfig
from swapline_gateway.ingest import Sender
from swapline_gateway.quota import Quota

ONE, TWO, THREE = (Sender("f", name) for name in ("one", "two", "three"))


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_burst_is_allowed_then_the_rate() -> None:
    clock = Clock()
    quota = Quota(QuotaConfig(frames_per_s=10, bytes_per_s=1e6, burst_s=2), monotonic_s=clock)
    assert [quota.allow(ONE, frame_count=10, size_bytes=1) for _ in range(3)] == ["", "", "over_rate"]
    clock.now_s = 1.0
    assert quota.allow(ONE, frame_count=10, size_bytes=1) == ""
    assert quota.allow(ONE, frame_count=1, size_bytes=1) == "over_rate"


def test_bytes_count_as_well_and_other_nodes_are_not_touched() -> None:
    quota = Quota(QuotaConfig(frames_per_s=1000, bytes_per_s=100, burst_s=1), monotonic_s=Clock())
    assert quota.allow(ONE, frame_count=1, size_bytes=101) == "over_rate"
    assert quota.allow(TWO, frame_count=1, size_bytes=99) == ""


def test_new_node_beyond_the_limit_is_refused_until_one_was_silent_long_enough() -> None:
    clock = Clock()
    quota = Quota(QuotaConfig(nodes_max=2, burst_s=10), monotonic_s=clock)
    assert [quota.allow(node, frame_count=1, size_bytes=1) for node in (ONE, TWO, THREE)] == ["", "", "too_many_nodes"]
    clock.now_s = 11.0
    assert quota.allow(THREE, frame_count=1, size_bytes=1) == ""


def test_a_rate_that_is_just_allowed_ends_at_the_days_bytes_and_comes_back_with_the_day() -> None:
    clock = Clock()
    config = QuotaConfig(frames_per_s=1000, bytes_per_s=1000, burst_s=1, bytes_per_day=86_400)
    quota = Quota(config, monotonic_s=clock)
    answers = []
    for _ in range(100):
        clock.now_s += 1.0
        answers.append(quota.allow(ONE, frame_count=1, size_bytes=1000))
    allowed = answers.index("over_day")
    assert answers[:allowed] == [""] * allowed
    assert allowed == 86, "86.4 kB, and 1 B a second that is added meanwhile"
    assert set(answers[allowed:]) == {"over_day"}
    assert quota.allow(TWO, frame_count=1, size_bytes=1000) == ""
    clock.now_s += 86_400.0
    assert quota.allow(ONE, frame_count=1, size_bytes=1000) == ""
