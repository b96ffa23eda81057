"""Frames of a van, a station and two modules that change places: what nodes tell of two swaps within a few hours."""

from dataclasses import dataclass, field

from swapline_bench.frame_source import FrameSource, module_row, row_of
from swapline_gateway.spool import now_utc_ms
from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT, EVENT_STREAM, SLOT, VEHICLE, Stream

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
MODULES = ("0AACDE12345678901234ABCD", "0AACDE12345678901234ABCE")


@dataclass
class Teller:
    """One node, telling what happens in its bays. Times are ms after the story's beginning."""

    source: FrameSource
    frames: list[bytes] = field(default_factory=list)

    def sits(self, module: str, bay: int, start_ms: int, end_ms: int) -> None:
        """Tell readings of a module, one each half minute, in frames of ten minutes."""
        times = range(start_ms, end_ms, MINUTE_MS // 2)
        for n in range(0, len(times), 20):
            rows = [(ms, module_row()) for ms in times[n : n + 20]]
            self.frames.append(self.source.frame(rows, bay=bay, owner=module))

    def tells_of_itself(self, stream: Stream, bay: int, **row: int) -> None:
        """Tell two hours of what only a van, or only a station, has."""
        rows = [(minute * MINUTE_MS, row_of(stream, **row)) for minute in range(2, 130, 4)]
        self.frames.append(self.source.frame(rows, stream=stream, bay=bay, owner=""))

    def event(self, code: int, module: str, bay: int, time_ms: int, request_id: int) -> None:
        row = row_of(EVENT_STREAM, code=code, request_id=request_id, soc_pct=500)
        self.frames.append(self.source.frame([(time_ms, row)], stream=EVENT_STREAM, bay=bay, owner=module))


def tell(start_utc_ms: int | None = None) -> tuple[Teller, Teller]:
    """Return what van and station tell: each hour the drained module goes into slot 1 or 2, the other one comes."""
    start_ms = (now_utc_ms() - 6 * HOUR_MS) // HOUR_MS * HOUR_MS if start_utc_ms is None else start_utc_ms
    van = Teller(FrameSource(node="van-001", journal=11, anchor_utc_ms=start_ms))
    station = Teller(FrameSource(node="station-1", journal=12, anchor_utc_ms=start_ms))
    inside, outside = MODULES
    from_ms = MINUTE_MS
    for number in (1, 2):
        swap_ms = number * HOUR_MS + 7 * MINUTE_MS
        van.sits(inside, 1, from_ms, swap_ms)
        station.sits(outside, 3 - number, from_ms, swap_ms)
        station.event(BATTERY_OUT, outside, 3 - number, swap_ms + 5000, number)
        van.event(BATTERY_OUT, inside, 1, swap_ms + 20_000, number)
        van.event(BATTERY_IN, outside, 1, swap_ms + 40_000, number)
        station.event(BATTERY_IN, inside, number, swap_ms + 60_000, number)
        inside, outside = outside, inside
        from_ms = swap_ms + 90_000
    station.tells_of_itself(SLOT, 1, occupied=1)
    van.tells_of_itself(VEHICLE, 0, odometer_km=1_234_567)
    van.sits(inside, 1, from_ms, from_ms + 20 * MINUTE_MS)
    station.sits(outside, 2, from_ms, from_ms + 20 * MINUTE_MS)
    return van, station
