from swapline_gateway.log import KEYS_MAX, REPEAT_S, Novelty


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_first_of_a_kind_is_said_then_one_a_minute_with_what_it_stands_for() -> None:
    clock = Clock()
    novelty = Novelty(monotonic_s=clock)
    assert [novelty.take("a") for _ in range(4)] == [1, 0, 0, 0]
    assert novelty.take("b", 7) == 7
    clock.now_s = REPEAT_S
    assert novelty.take("a") == 4
    assert novelty.take("a") == 0


def test_kinds_without_end_are_forgotten() -> None:
    novelty = Novelty(monotonic_s=Clock())
    for number in range(KEYS_MAX + 5):
        assert novelty.take(number) == 1
    assert novelty.take(0) == 1, "it was forgotten"
    assert novelty.take(KEYS_MAX) == 0
