import pytest

from swapline_node.clock import Clock
from swapline_wire.catalogue import TIME_GATEWAY, TIME_GNSS, TIME_NONE, TIME_NTP

UTC = 1_800_000_000_000
PERIOD = 1 << 30


class Ticks:
    """A board's millisecond counter, which wraps."""

    def __init__(self, now: int = 0) -> None:
        self.now = now

    def ticks_ms(self) -> int:
        return self.now % PERIOD

    def ticks_diff(self, later: int, earlier: int) -> int:
        return (later - earlier + PERIOD // 2) % PERIOD - PERIOD // 2


def make(now: int = 0) -> tuple[Ticks, Clock]:
    ticks = Ticks(now)
    return ticks, Clock(ticks.ticks_ms, ticks.ticks_diff)


def test_uptime_goes_on_across_many_tick_wraps() -> None:
    ticks, clock = make(PERIOD - 500)
    for step in range(1, 41):
        ticks.now += PERIOD // 4
        assert clock.uptime_ms() == step * (PERIOD // 4)


def test_first_anchor_is_written_down_before_it_is_used() -> None:
    _, clock = make()
    seen: list[tuple[int, int, int]] = []
    clock.before_anchor = lambda anchor, quality: seen.append((anchor, quality, clock.quality))
    assert clock.offer(TIME_GATEWAY, UTC, 400)
    assert seen == [(UTC - 400, TIME_GATEWAY, TIME_NONE)]
    assert (clock.anchor_utc_ms, clock.quality) == (UTC - 400, TIME_GATEWAY)


def test_anchor_that_cannot_be_written_down_is_not_used() -> None:
    _, clock = make()

    def refuse(_anchor: int, _quality: int) -> None:
        raise OSError(28)

    clock.before_anchor = refuse
    assert not clock.offer(TIME_NTP, UTC, 0)
    assert (clock.quality, clock.offers_refused) == (TIME_NONE, 1)
    assert clock.utc_ms() == 0


@pytest.mark.parametrize("utc_ms", [0, 946684800000, 1_123_200_000_000, 4_200_000_000_000], ids=str)
def test_implausible_time_is_refused_and_counted(utc_ms: int) -> None:
    _, clock = make()
    assert not clock.offer(TIME_GNSS, utc_ms, 10)
    assert (clock.quality, clock.offers_refused) == (TIME_NONE, 1)


def test_one_wild_offer_of_the_same_quality_moves_nothing() -> None:
    ticks, clock = make()
    clock.offer(TIME_NTP, UTC, 0)
    assert not clock.offer(TIME_NTP, UTC + 86_400_000 + 1000, 1000)
    for second in range(2, 60):
        ticks.now = second * 1000
        assert not clock.offer(TIME_NTP, UTC + second * 1000, second * 1000)
    assert clock.anchor_utc_ms == UTC


def test_steady_disagreement_steps_after_half_a_minute_and_seals_first() -> None:
    ticks, clock = make()
    clock.offer(TIME_NTP, UTC, 0)
    anchors_at_seal: list[int] = []
    clock.before_step = lambda: anchors_at_seal.append(clock.anchor_utc_ms)
    stepped_s = 0
    for second in range(1, 60):
        ticks.now = second * 1000
        if clock.offer(TIME_NTP, UTC + second * 1000 + 3000, second * 1000):
            stepped_s = second
            break
    assert stepped_s == 31
    assert anchors_at_seal == [UTC]
    assert (clock.anchor_utc_ms, clock.step_ms) == (UTC + 3000, 3000)


def test_better_source_takes_over_as_soon_as_it_repeats_itself() -> None:
    _, clock = make()
    clock.offer(TIME_GATEWAY, UTC, 0)
    assert not clock.offer(TIME_GNSS, UTC + 1000 + 120, 1000)
    assert clock.offer(TIME_GNSS, UTC + 2000 + 120, 2000)
    assert (clock.anchor_utc_ms, clock.quality) == (UTC + 120, TIME_GNSS)


def test_poorer_source_is_not_heard_while_the_better_one_speaks() -> None:
    _, clock = make()
    clock.offer(TIME_GNSS, UTC, 0)
    for second in range(1, 200):
        clock.offer(TIME_GNSS, UTC + second * 1000, second * 1000)
        assert not clock.offer(TIME_GATEWAY, UTC + second * 1000 + 9000, second * 1000)
    assert clock.anchor_utc_ms == UTC


def test_recording_played_fast_never_steps_the_clock() -> None:
    _, clock = make()
    clock.offer(TIME_GNSS, UTC, 0)
    for epoch in range(1, 2000):
        assert not clock.offer(TIME_GNSS, UTC + epoch * 1000, epoch * 50)
