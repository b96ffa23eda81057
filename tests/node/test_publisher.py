from pathlib import Path
from typing import BinaryIO

import pytest

from swapline_node.counter import Counters
from swapline_node.journal import Journal
from swapline_node.publisher import Publisher
from swapline_wire import message
from swapline_wire.catalogue import ALARM, EVENT, NODE, ROUTINE, TIME_NTP
from swapline_wire.decode import Decoded, decode
from tests.node.journal_rig import append, frame, open_journal


class Rig:
    def __init__(self, folder: Path, rate: int = 200) -> None:
        self.now_ms = 0
        self.counters = Counters()
        self.journal: Journal = open_journal(folder, 1 << 22)
        self.sent_count = 0
        self.publisher = Publisher(self.journal, self.counters, lambda: self.now_ms, backlog_frames_per_s=rate)

    @property
    def in_flight(self) -> dict[int, int]:
        return self.publisher._in_flight  # noqa: SLF001 - its size is what bounds the heap

    def message(self) -> list[Decoded] | None:
        sent = self.publisher.next_message()
        if sent is None:
            return None
        assert len(sent) <= 4096
        journal, anchors, offset = message.read_up_head(sent)
        assert journal == self.journal.id
        frames = [decode(part) for part in message.split_frames(sent, offset)]
        self.sent_count += len(frames)
        unanchored = {f.header.boot for f in frames if not f.header.time_quality}
        assert {anchor.boot for anchor in anchors} == unanchored
        return frames

    def drain(self) -> list[int]:
        """Return the numbers in the order in which they may be sent now."""
        numbers = []
        while (frames := self.message()) is not None:
            numbers += [frame.header.seq for frame in frames]
        return numbers


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_each_live_frame_is_sent_once(rig: Rig) -> None:
    rig.publisher.restart()
    for _ in range(3):
        append(rig.journal)
    assert rig.drain() == [1, 2, 3]
    assert rig.drain() == []


def test_frame_is_durable_before_it_is_sent(rig: Rig) -> None:
    rig.publisher.restart()
    append(rig.journal)
    file = Flushed(rig.journal._files[ROUTINE])  # noqa: SLF001
    rig.journal._files[ROUTINE] = file  # type: ignore[call-overload] # noqa: SLF001
    seq = rig.journal.next_seq
    assert rig.journal.append(frame(rig.journal, NODE, quality=2), seq, ROUTINE) == 0
    assert not file.written
    assert rig.drain() == [1, seq]
    assert rig.journal.undeclared_drops() == []


class Flushed:
    """A file as on LittleFS: what was written is there when it was flushed, not before."""

    def __init__(self, file: BinaryIO | None) -> None:
        assert file is not None
        self._file = file
        self._data = b""
        self.written = 0

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def flush(self) -> None:
        self.written += self._file.write(self._data)
        self._data = b""
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def test_live_frames_go_before_the_backlog_and_alarms_before_everything(rig: Rig) -> None:
    for _ in range(10):
        append(rig.journal, rows=6)
    event, alarm = append(rig.journal, EVENT), append(rig.journal, ALARM)
    rig.publisher.restart()
    live = append(rig.journal)
    rig.now_ms = 1000
    sent = rig.drain()
    assert sent == [alarm, live, event, *range(1, 11)]


def test_alarm_and_event_sealed_while_backlog_is_sent_are_in_the_next_message(rig: Rig) -> None:
    for _ in range(100):
        append(rig.journal)
    rig.publisher.restart()
    rig.now_ms = 1000
    assert rig.message() is not None
    live, event, alarm = append(rig.journal), append(rig.journal, EVENT), append(rig.journal, ALARM)
    frames = rig.message()
    assert frames is not None
    assert [frame.header.seq for frame in frames] == [alarm, event, live]


def test_backlog_waits_while_the_link_has_no_room_for_it_and_live_frames_do_not(rig: Rig) -> None:
    append(rig.journal)
    rig.publisher.restart()
    rig.now_ms = 1000
    assert rig.publisher.next_message(has_backlog_room=False) is None
    live = append(rig.journal)
    assert rig.publisher.next_message(has_backlog_room=False) is not None
    assert not rig.publisher.is_backlog
    assert rig.drain() == [1]
    assert live == 2


def test_live_frames_that_a_slow_link_never_catches_up_with_are_left_to_the_backlog(rig: Rig) -> None:
    rig.publisher.restart()
    for rig.now_ms in range(0, 10_001, 1000):
        for _ in range(12):
            append(rig.journal, rows=6)
        assert rig.message() is not None  # a message a second, and more than that is sealed
    assert rig.publisher.next_message(has_backlog_room=False) is not None
    rig.now_ms += 1000
    assert rig.publisher.next_message(has_backlog_room=False) is not None
    newest = append(rig.journal)
    frames = rig.message()
    assert frames is not None
    assert [frame.header.seq for frame in frames] == [newest]
    rest = []
    for _ in range(20):
        rig.now_ms += 100
        rest += rig.drain()
    assert rest == sorted(rest)
    assert sorted(rig.in_flight) == list(range(1, newest + 1))


def test_backlog_follows_at_the_configured_rate(tmp_path: Path) -> None:
    rig = Rig(tmp_path, rate=40)
    for _ in range(200):
        append(rig.journal)
    rig.publisher.restart()
    sent = []
    for rig.now_ms in range(1000, 3001, 50):
        numbers = rig.drain()
        rig.publisher.acknowledge([(number, number) for number in numbers])
        sent += numbers
    assert sent == list(range(1, len(sent) + 1))
    assert 80 <= len(sent) <= 92


def test_unacknowledged_backlog_stops_further_backlog_but_not_live_frames(rig: Rig) -> None:
    for _ in range(600):
        append(rig.journal)
    rig.publisher.restart()
    sent = []
    for rig.now_ms in range(0, 15000, 100):
        sent += rig.drain()
    assert 150 <= len(sent) <= 192
    live = append(rig.journal)
    assert rig.drain() == [live]


def test_frame_without_acknowledgement_is_sent_again_after_the_time_limit(rig: Rig) -> None:
    rig.publisher.restart()
    append(rig.journal)
    append(rig.journal)
    assert rig.drain() == [1, 2]
    rig.publisher.acknowledge([(2, 2)])
    rig.now_ms = 19999
    assert rig.drain() == []
    rig.now_ms = 20001
    assert rig.drain() == [1]
    assert rig.counters.frames_sent_again == 1
    assert rig.counters.frames_acknowledged == 1


def limits_ms(rig: Rig, count: int) -> list[int]:
    """Let time pass without any acknowledgement; return after how long each further time limit passed."""
    passed: list[int] = []
    since_ms = rig.now_ms
    while len(passed) < count:
        rig.now_ms += 100
        rig.drain()
        if rig.publisher.timeouts > len(passed):
            passed.append(rig.now_ms - since_ms)
            since_ms = rig.now_ms
    return passed


def test_time_limit_doubles_with_jitter_while_nobody_acknowledges(rig: Rig) -> None:
    append(rig.journal)
    rig.publisher.restart()
    first, *others = limits_ms(rig, 7)
    assert 20_000 <= first <= 20_600  # after the first token
    for limit_ms, doubled_ms in zip(others, [40_000, 80_000, 160_000, 320_000, 320_000, 320_000], strict=True):
        assert doubled_ms * 3 // 4 <= limit_ms <= doubled_ms + 200
    assert rig.counters.frames_sent_again == 7


def test_without_any_acknowledgement_backlog_only_probes_and_live_frames_still_go_once(rig: Rig) -> None:
    for _ in range(600):
        append(rig.journal)
    rig.publisher.restart()
    limits_ms(rig, 1)
    rig.sent_count = 0
    live = []
    for _ in range(100):
        rig.now_ms += 1000
        live.append(append(rig.journal))
        frames = rig.message()
        assert frames is not None
        assert frames[-1].header.seq == live[-1]
        rig.drain()
    assert rig.sent_count <= 100 + 2 * 4


def test_one_acknowledgement_ends_the_probing(rig: Rig) -> None:
    for _ in range(600):
        append(rig.journal)
    rig.publisher.restart()
    limits_ms(rig, 3)
    sent = rig.drain()
    rig.publisher.acknowledge([])
    assert rig.publisher.timeouts == 3
    rig.publisher.acknowledge([(1, 1)])
    assert rig.publisher.timeouts == 0
    for _ in range(20):
        rig.now_ms += 100
        sent += rig.drain()
    assert 150 <= len(sent) <= 192 + 4


def test_reconnecting_without_any_acknowledgement_does_not_send_old_alarms_again_and_again(rig: Rig) -> None:
    for _ in range(100):
        append(rig.journal, ALARM)
    rig.publisher.restart()
    assert len(rig.drain()) == 100
    limits_ms(rig, 1)
    for _ in range(5):
        rig.publisher.restart()
        rig.now_ms += 1000
        assert rig.drain() == [1, 2, 3, 4]


def test_what_is_remembered_of_frames_in_flight_is_bounded_and_the_rest_is_backlog(rig: Rig) -> None:
    rig.publisher.restart()
    sent = []
    for _ in range(1000):
        append(rig.journal)
        sent += rig.drain()
    assert sent == list(range(1, 1001))
    assert len(rig.in_flight) == 208
    rig.publisher.acknowledge([(1, 208)])
    rig.now_ms = 1000
    again = rig.drain()
    assert again[:3] == [209, 210, 211]


def test_new_connection_sends_everything_unacknowledged_again(rig: Rig) -> None:
    rig.publisher.restart()
    for _ in range(5):
        append(rig.journal)
    rig.drain()
    rig.publisher.acknowledge([(2, 3)])
    rig.publisher.restart()
    rig.now_ms = 1000
    assert rig.drain() == [1, 4, 5]


def test_frames_sealed_without_time_travel_with_their_boots_anchor(rig: Rig) -> None:
    append(rig.journal, quality=0)
    rig.publisher.restart()
    append(rig.journal, quality=0)
    rig.now_ms = 1000
    assert rig.drain() == []
    rig.journal.decide_anchor(1_800_000_000_000, TIME_NTP)
    rig.publisher.restart_backlog()
    assert rig.drain() == [1, 2]


def test_message_carries_at_most_eight_anchors(tmp_path: Path) -> None:
    for _ in range(12):
        append(open_journal(tmp_path, 1 << 22), time_ms=1000, quality=0)
    rig = Rig(tmp_path)
    rig.journal.decide_anchor(1_800_000_000_000, TIME_NTP)
    rig.publisher.restart()
    rig.now_ms = 1000
    first, second = rig.message(), rig.message()
    assert first is not None
    assert second is not None
    assert len(first) == message.ANCHORS_MAX
    assert [frame.header.seq for frame in first + second] == list(range(1, 13))


def test_acknowledgement_of_frames_never_sent_settles_them_as_well(rig: Rig) -> None:
    for _ in range(30):
        append(rig.journal, ROUTINE)
    assert rig.publisher.acknowledge([(1, 10), (5, 20), (900, 1000)]) == 20
    assert rig.publisher.backlog_frames() == 10
