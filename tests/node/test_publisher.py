from pathlib import Path

import pytest

from swapline_node.counter import Counters
from swapline_node.journal import Journal
from swapline_node.publisher import Publisher
from swapline_wire import message
from swapline_wire.catalogue import ALARM, EVENT, ROUTINE, TIME_NTP
from swapline_wire.decode import Decoded, decode
from tests.node.journal_rig import append, open_journal


class Rig:
    def __init__(self, folder: Path, rate: int = 200) -> None:
        self.now_ms = 0
        self.counters = Counters()
        self.journal: Journal = open_journal(folder, 1 << 22)
        self.publisher = Publisher(self.journal, self.counters, lambda: self.now_ms, backlog_frames_per_s=rate)

    def message(self) -> list[Decoded] | None:
        sent = self.publisher.next_message()
        if sent is None:
            return None
        assert len(sent) <= 4096
        journal, anchors, offset = message.read_up_head(sent)
        assert journal == self.journal.id
        frames = [decode(part) for part in message.split_frames(sent, offset)]
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


def test_live_frames_go_before_the_backlog_and_alarms_before_everything(rig: Rig) -> None:
    for _ in range(10):
        append(rig.journal, rows=6)
    event, alarm = append(rig.journal, EVENT), append(rig.journal, ALARM)
    rig.publisher.restart()
    live = append(rig.journal)
    rig.now_ms = 1000
    sent = rig.drain()
    assert sent[:3] == [alarm, event, live]
    assert sent[3:] == list(range(1, 11))


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
    assert 200 <= len(sent) <= 256
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
