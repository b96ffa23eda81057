"""A device that its node no longer asks is found, although it says nothing that could be missing."""

from collections.abc import Iterable

from swapline_bench.chaos_silence import Stay, find_silences, module_stays
from swapline_bench.custody import CustodyEvent
from swapline_bench.oracle_match import Place
from swapline_bench.statement import Statement

NODE = "van-001"
BUS = Place(NODE, 0, "")
STAY = Stay("vehicle", BUS, 0, 100_000)


def said(seconds: Iterable[float], stream: str = "vehicle", *, is_doubtful: bool = False) -> list[Statement]:
    return [Statement(round(1000 * second), NODE, stream, 0, "", {}, is_doubtful) for second in seconds]


def test_a_device_that_is_read_all_the_time_is_not_silent() -> None:
    assert find_silences([STAY], said(range(1, 100)), {}) == []


def test_a_device_that_is_never_read_or_no_longer_read_is_found() -> None:
    assert len(find_silences([STAY], [], {})) == 1
    (found,) = find_silences([STAY], said(range(1, 70)), {})
    assert found == ("vehicle of van-001 was not read from 1970-01-01T00:01:09.000Z on, its node being on for 31 s")


def test_a_pause_counts_by_the_time_that_its_node_was_on() -> None:
    pause = said([*range(1, 30), *range(61, 100)])
    assert find_silences([STAY], pause, {NODE: [(31_000, 59_000)]}) == []
    assert find_silences([STAY], pause, {NODE: [(31_000, 33_000), (45_000, 47_000)]}) == []
    assert len(find_silences([STAY], pause, {NODE: [(31_000, 33_000)]})) == 1
    assert len(find_silences([STAY], pause, {"van-002": [(31_000, 59_000)]})) == 1


def test_a_receiver_that_talks_to_nobody_is_silent() -> None:
    stay = STAY._replace(stream="position")
    assert find_silences([stay], said(range(1, 100), "position"), {}) == []
    assert len(find_silences([stay], said(range(1, 100), "position", is_doubtful=True), {})) == 1


def test_a_module_is_expected_from_its_arrival_until_it_leaves() -> None:
    events = [
        CustodyEvent("in", NODE, 2, "A", 0.0, 5.0, 50.0, 0),
        CustodyEvent("out", NODE, 2, "A", 0.0, 65.0, 50.0, 1),
        CustodyEvent("in", NODE, 2, "B", 0.0, 75.0, 50.0, 1),
    ]
    assert module_stays(events, 100.0, 200_000) == [
        Stay("module", Place(NODE, 2, "A"), 105_000, 165_000),
        Stay("module", Place(NODE, 2, "B"), 175_000, 200_000),
    ]
