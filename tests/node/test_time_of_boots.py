"""What a receiver's wrong time does to its rows, and what a boot knows of the time from the boots before it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from swapline_bench.faces.gnss import WEEK_ROLLOVER, burst, fix_of
from swapline_bench.van import Van
from swapline_node import driver
from swapline_node.clock import Clock
from swapline_node.counter import Counters
from swapline_node.sampler import Sampler
from swapline_wire.catalogue import TIME_ESTIMATED, TIME_GATEWAY, TIME_NTP
from swapline_wire.decode import Decoded, decode
from tests.node.journal_rig import append, close_journals, open_journal

BEGIN = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
BEGIN_MS = round(BEGIN.timestamp() * 1000)
HEARD_MS = 60  # so long after its epoch a burst begins
VAN = cast(
    Van, SimpleNamespace(latitude_deg=48.0, longitude_deg=11.0, altitude_m=500.0, speed_kmh=10.0, heading_deg=0.0)
)


class Hearing:
    """A GNSS driver that hears an epoch a second; the boot began at `BEGIN`."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.frames: list[Decoded] = []
        self.id, self.boot, self.next_seq = 1, 1, 1
        self.occupants: dict[int, tuple[str, Any]] = {}
        self.clock = Clock(lambda: self.now_ms, lambda now, before: now - before)
        self.counters = Counters()
        sampler = Sampler(self, self.clock, self.counters)
        sampler.overrides = {"position": {"report": "all"}}
        self.clock.before_step = sampler.seal_all
        self._sampler = sampler
        self._device: Any = driver.make("gnss", sampler, self.clock, self.counters, {"driver": "gnss"})

    def append(self, frame: memoryview, seq: int, _priority: int) -> int:
        self.frames.append(decode(bytes(frame)))
        self.next_seq = seq + 1
        return 0

    def occupy(self, bay: int, code: str) -> None:
        self.occupants[bay] = (code, None)

    def commit(self) -> bool:
        return True

    def hear(self, seconds: range, error: timedelta = timedelta(0)) -> None:
        for second in seconds:
            self.now_ms = second * 1000 + HEARD_MS
            self._device.feed(burst(fix_of(VAN, BEGIN + timedelta(seconds=second) + error)))
            self.now_ms += 400
            self._device.finish_epoch()

    def gateway_speaks(self, second: int) -> None:
        self.clock.offer(TIME_GATEWAY, BEGIN_MS + second * 1000, second * 1000)

    def errors_ms(self) -> list[int]:
        """Return of each row by how much its time is off from the second in which it was made."""
        self._sampler.seal_all()
        rows = [
            (frame.header.anchor_utc_ms or self.clock.anchor_utc_ms) + row[0]
            for frame in self.frames
            for row in frame.rows
        ]
        return [utc_ms - BEGIN_MS - index * 1000 for index, utc_ms in enumerate(rows)]


def test_rows_state_the_receiver_s_time_exactly_once_it_is_believed() -> None:
    hearing = Hearing()
    hearing.gateway_speaks(0)
    hearing.hear(range(10))
    assert hearing.errors_ms() == [0] * 10
    assert hearing.counters.bus_protocol_errors == 0


@pytest.mark.parametrize("error", [timedelta(days=1), timedelta(days=-1), WEEK_ROLLOVER], ids=str)
def test_rows_of_a_receiver_that_jumps_stand_at_the_node_s_own_time_and_are_counted(error: timedelta) -> None:
    hearing = Hearing()
    hearing.gateway_speaks(0)
    hearing.hear(range(5))
    hearing.hear(range(5, 65), error)
    hearing.hear(range(65, 70))
    errors_ms = hearing.errors_ms()
    assert len(errors_ms) == 70
    assert errors_ms[:5] + errors_ms[65:] == [0] * 10
    assert errors_ms[5:65] == [0] * 60, "made when the burst began, by the clock that the receiver has set"
    assert hearing.counters.bus_protocol_errors == 60


def test_rows_of_a_boot_that_begins_inside_a_lie_get_their_true_time_later() -> None:
    hearing = Hearing()
    hearing.hear(range(20), timedelta(days=1))
    hearing.gateway_speaks(20)
    hearing.hear(range(20, 30))
    assert all(abs(error_ms) <= 500 for error_ms in hearing.errors_ms())
    assert hearing.counters.bus_protocol_errors == 0


def test_boot_knows_the_time_that_waiting_frames_tell(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    append(journal, time_ms=3_600_000, quality=TIME_GATEWAY)
    append(journal, time_ms=7_200_000, quality=TIME_ESTIMATED)
    close_journals()
    assert open_journal(tmp_path).latest_utc_ms == 1_800_000_000_000 + 3_600_000


def test_boot_knows_the_anchor_of_the_boot_before_when_nothing_waits(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.decide_anchor(1_800_000_000_123, TIME_NTP)
    close_journals()
    assert open_journal(tmp_path).latest_utc_ms == 1_800_000_000_123


def test_first_boot_and_estimated_ones_know_nothing(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    assert journal.latest_utc_ms == 0
    journal.decide_anchor(1_800_000_000_123, TIME_ESTIMATED)
    close_journals()
    assert open_journal(tmp_path).latest_utc_ms == 0
