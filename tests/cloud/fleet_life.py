"""A fleet's last hours in virtual time: what its nodes would have read, sealed into real frames, with what went wrong.

The world is the bench's, and begins where the demo's past ends (`swapline_bench.past`): the same modules in the same
places. So the past's frames and these make one history, up to this moment. What went wrong is in `Story`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zlib import crc32

from swapline_bench.custody import CustodyEvent
from swapline_bench.module import Module
from swapline_bench.module_reading import Reporter, cells_row, module_row
from swapline_bench.past import event_row
from swapline_bench.randomness import make_random
from swapline_bench.station import CHARGING, Station
from swapline_bench.van import Van
from swapline_bench.world import World
from swapline_wire import catalogue
from swapline_wire.catalogue import (
    ALARM_STREAM,
    BATTERY_IN,
    BATTERY_OUT,
    CELLS,
    EVENT_STREAM,
    FRAMES_DROPPED,
    LOSS_JOURNAL_FULL,
    LOSS_POWER_CUT,
    METER,
    MODULE,
    NODE,
    POSITION,
    ROWS_DROPPED,
    SLOT,
    TIME_NTP,
    VEHICLE,
    Stream,
    find_signal,
)
from swapline_wire.catalogue import BOOT as BOOT_EVENT
from swapline_wire.catalogue_text import CAME, FOUND, LEFT
from swapline_wire.frame import FRAME_BYTES_MAX, FrameBuilder

POLL_S = 20.0
SEAL_POLLS = 3
CELLS_POLLS = 3
NODE_POLLS = 2
ARRIVAL_MS = 1200  # from sealing to the database, while the link is there
NOTICED_MS = 3000
HOUR_S = 3600.0
CELLS_V = 51.8  # of a module, on average
READY_PCT = 90.0
HEAP_BYTES, JOURNAL_BYTES = 258_000, 1_500_000


class Sent(NamedTuple):
    """A sealed frame, and when the database gets it."""

    node: str
    data: bytes
    anchor_utc_ms: int
    stored_utc_ms: int


class VanGlance(NamedTuple):
    """A van as it truly was. `place`: latitude, longitude."""

    node: str
    place: tuple[float, float]
    soc_pct: float
    soc_min_pct: float
    energy_kwh: float
    modules: int


class StationGlance(NamedTuple):
    """A station as it truly was."""

    node: str
    place: tuple[float, float]
    slots: int
    occupied: int
    ready: int
    charging: int
    power_kw: float
    swaps_hour: int


class Glance(NamedTuple):
    """The fleet at one moment."""

    time_utc_ms: int
    vans: list[VanGlance]
    stations: list[StationGlance]


class Raised(NamedTuple):
    """A step of an alarm: level 0 clears it. `at_s` counts back from the end; `bay` 0: of the holder itself."""

    at_s: float
    node: str
    bay: int
    stream: Stream
    signal: str
    code: int
    level: int
    value: int = 0
    threshold: int = 0


class Story(NamedTuple):
    """What goes wrong in the hours; times are seconds before the end."""

    offline: Mapping[str, tuple[float, float]]  # node -> without a link from, until
    dropped: Mapping[str, tuple[float, int]]  # node -> when its full journal drops so many frames
    vanished: Mapping[str, tuple[float, int]]  # node -> from when so many frames never arrive
    cut: Mapping[str, float]  # node -> when a power cut costs rows
    alarms: tuple[Raised, ...]


STORY = Story(
    offline={"van-002": (2.5 * HOUR_S, 1.75 * HOUR_S)},
    dropped={"van-003": (4.0 * HOUR_S, 40)},
    vanished={"van-001": (3.0 * HOUR_S, 3)},
    cut={"station-001": 1.5 * HOUR_S},
    alarms=(
        Raised(5.0 * HOUR_S, "van-001", 1, MODULE, "temperature_max_c", 6, 1, 553, 550),
        Raised(4.6 * HOUR_S, "van-001", 1, MODULE, "temperature_max_c", 6, 0, 519, 550),
        Raised(2.9 * HOUR_S, "van-003", 2, MODULE, "cell_voltage_max_v", 5, 1, 310, 300),
        Raised(0.8 * HOUR_S, "van-003", 2, MODULE, "cell_voltage_max_v", 5, 2, 507, 500),
        Raised(1.0 * HOUR_S, "station-001", 4, SLOT, "faults", 64, 2, 1, 1),
        Raised(0.5 * HOUR_S, "van-001", 0, VEHICLE, "faults", 97, 2, 2, 2),
        Raised(0.2 * HOUR_S, "van-001", 0, VEHICLE, "faults", 97, 0, 0, 2),
    ),
)


@dataclass
class _Journal:
    """Seals what one node reads."""

    node: str
    number: int
    anchor_utc_ms: int
    seq: int = 0
    rows: int = 0
    dropped: int = 0
    held: int = 0  # sealed without a link
    builders: dict[tuple[int, int, str], FrameBuilder] = field(default_factory=dict)
    readers: dict[tuple[int, int], Reporter] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)

    def read(self, stream: Stream, bay: int, owner: str, time_ms: int, row: list[int]) -> None:
        """Take a reading; it is kept where it moved."""
        reporter = self.readers.setdefault((stream.id, bay), Reporter(stream))
        if self.owners.get(bay, owner) != owner:
            reporter.forget()
        if reporter.keeps(time_ms, row):
            self.keep(stream, bay, owner, time_ms, row)

    def keep(self, stream: Stream, bay: int, owner: str, time_ms: int, row: list[int]) -> None:
        """Take a row."""
        key = (stream.id, bay, owner)
        if key not in self.builders:
            self.builders[key] = FrameBuilder(stream, bay=bay, owner=owner, buffer_bytes=FRAME_BYTES_MAX)
        self.builders[key].add(time_ms, row)
        self.rows += 1

    def seal(self) -> Iterator[bytes]:
        """Seal what is open."""
        for key in sorted(self.builders):
            self.seq += 1
            sealed = self.builders[key].seal(
                journal=self.number,
                seq=self.seq,
                boot=1,
                time_quality=TIME_NTP,
                anchor_utc_ms=self.anchor_utc_ms,
            )
            yield bytes(sealed)
        self.builders.clear()


class FleetLife:
    """Lets a world live for some hours up to `end_utc_ms`."""

    def __init__(self, world: World, *, hours: float, end_utc_ms: int, story: Story = STORY) -> None:
        self.world = world
        self.story = story
        self.end_s = hours * HOUR_S
        self.begin_utc_ms = end_utc_ms - round(self.end_s * 1000)
        self._random = make_random(world.seed, "life")
        names = [van.name for van in world.vans] + [station.name for station in world.stations]
        self._journals = {name: _Journal(name, crc32(name.encode()), self.begin_utc_ms) for name in names}
        self.glances: list[Glance] = []  # one each time that frames are sealed
        self._told = 0
        self._alarms = sorted(story.alarms, key=lambda one: -one.at_s)
        self._waiting: dict[str, list[bytes]] = {name: [] for name in names}

    def frames(self) -> Iterator[Sent]:
        """Live, and yield what arrives, in the order of arrival."""
        for journal in self._journals.values():
            journal.keep(EVENT_STREAM, 0, "", 0, event_row(code=BOOT_EVENT, count=1))
        for poll in range(1, int(self.end_s / POLL_S) + 1):
            self.world.step(POLL_S)
            self._read(poll, round(self.world.time_s * 1000))
            if poll % SEAL_POLLS == 0:
                self._glance()
                yield from self._send(round(self.world.time_s * 1000))

    def _glance(self) -> None:
        world = self.world
        vans = [
            VanGlance(
                van.name,
                (van.latitude_deg, van.longitude_deg),
                van.soc_pct,
                min((module.soc_pct for module in van.modules), default=0.0),
                sum(module.capacity_remaining_ah for module in van.modules) * CELLS_V / 1000,
                len(van.modules),
            )
            for van in world.vans
        ]
        time_utc_ms = self.begin_utc_ms + round(world.time_s * 1000)
        self.glances.append(Glance(time_utc_ms, vans, [self._glance_at(station) for station in world.stations]))

    def _glance_at(self, station: Station) -> StationGlance:
        held = [slot.module for slot in station.slots if slot.module is not None]
        now_s = self.world.time_s
        return StationGlance(
            station.name,
            self.world.city.coordinates_deg(self.world.city.crossings[station.crossing]),
            len(station.slots),
            len(held),
            sum(module.soc_pct >= READY_PCT for module in held),
            sum(slot.charger_state == CHARGING for slot in station.slots),
            sum(slot.charger_power_kw for slot in station.slots),
            sum(swap.world_time_s > now_s - HOUR_S and swap.station == station.name for swap in self.world.swaps),
        )

    # What is read.

    def _read(self, poll: int, time_ms: int) -> None:
        for event in self.world.custody[self._told :]:
            self._tell(event)
        self._told = len(self.world.custody)
        for van in self.world.vans:
            if van.is_powered:
                self._read_van(van, poll, time_ms)
        for station in self.world.stations:
            self._read_station(station, poll, time_ms)
        while self._alarms and self._before_end(time_ms) <= self._alarms[0].at_s:
            self._raise(self._alarms.pop(0), time_ms)

    def _before_end(self, time_ms: int) -> float:
        return self.end_s - time_ms / 1000

    def _tell(self, event: CustodyEvent) -> None:
        is_in = event.kind == "in"
        reason = (CAME if event.request_id else FOUND) if is_in else LEFT
        values: dict[str, float | None] = {"code": BATTERY_IN if is_in else BATTERY_OUT, "reason": reason}
        values |= {"soc_pct": event.soc_pct, "request_id": event.request_id or None}
        van = next((one for one in self.world.vans if one.name == event.holder), None)
        if van is not None and event.request_id:
            values |= {"latitude_deg": van.latitude_deg, "longitude_deg": van.longitude_deg}
            values["odometer_km"] = van.odometer_km
        time_ms = round(event.world_time_s * 1000) + NOTICED_MS
        journal = self._journals[event.holder]
        journal.keep(EVENT_STREAM, event.bay, event.code, time_ms, event_row(**values))

    def _read_van(self, van: Van, poll: int, time_ms: int) -> None:
        journal = self._journals[van.name]
        faults = {"faults": self._faults(VEHICLE, van.name, 0, time_ms)}
        journal.read(VEHICLE, 0, "", time_ms, row_of(VEHICLE, van, faults))
        journal.read(POSITION, 0, "", time_ms, row_of(POSITION, van, self._sky()))
        for bay, module in enumerate(van.bays, start=1):
            self._read_module(journal, bay, module, poll, time_ms)
        if poll % NODE_POLLS == 0:
            self._read_node(journal, time_ms)

    def _read_station(self, station: Station, poll: int, time_ms: int) -> None:
        journal = self._journals[station.name]
        journal.read(METER, 0, "", time_ms, row_of(METER, station.meter))
        for bay, slot in enumerate(station.slots, start=1):
            faults = {"faults": self._faults(SLOT, station.name, bay, time_ms)}
            journal.read(SLOT, bay, "", time_ms, row_of(SLOT, slot, faults))
            self._read_module(journal, bay, slot.module, poll, time_ms)
        if poll % NODE_POLLS == 0:
            self._read_node(journal, time_ms)

    def _read_module(self, journal: _Journal, bay: int, module: Module | None, poll: int, time_ms: int) -> None:
        if module is not None:
            journal.read(MODULE, bay, module.code, time_ms, module_row(module))
            if poll % CELLS_POLLS == 0:
                journal.read(CELLS, bay, module.code, time_ms, cells_row(module))
            journal.owners[bay] = module.code

    def _faults(self, stream: Stream, node: str, bay: int, time_ms: int) -> int:
        """Return the fault bits that a device says while an alarm of them stands."""
        left_s, bits = self._before_end(time_ms), 0
        for one in self.story.alarms:
            if (one.stream, one.node, one.bay, one.signal) == (stream, node, bay, "faults") and left_s <= one.at_s:
                bits = one.threshold if one.level else 0
        return bits

    def _sky(self) -> dict[str, float]:
        used = self._random.randint(7, 14)
        values = {"fix_quality": 1, "fix_mode": 3, "satellites_used": used, "satellites_in_view": used + 5}
        return values | {"hdop": 9.0 / used, "pdop": 14.0 / used, "vdop": 11.0 / used, "snr_max_db": 30 + used}

    def _read_node(self, journal: _Journal, time_ms: int) -> None:
        held = len(self._waiting[journal.node])
        used = round(HEAP_BYTES * self._random.uniform(0.6, 0.8))
        values = {
            "uptime_s": time_ms // 1000,
            "reset_cause": 1,
            "heap_used_bytes": used,
            "heap_free_bytes": HEAP_BYTES - used,
            "heap_peak_bytes": HEAP_BYTES * 0.83,
            "journal_used_bytes": 40_000 + 400 * held,
            "journal_limit_bytes": JOURNAL_BYTES,
            "backlog_frames": held,
            "frames_sealed": journal.seq,
            "frames_acknowledged": journal.seq - held,
            "frames_sent_again": 0,
            "frames_dropped": journal.dropped,
            "rows_kept": journal.rows,
            "rows_unchanged": 3 * journal.rows,
            "values_abnormal": 0,
            "bus_requests": time_ms // 100,
            "bus_timeouts": time_ms // 600_000,
            "bus_checksum_errors": time_ms // 1_800_000,
            "bus_protocol_errors": 0,
            "link_connects": 1 + (journal.held > 0),
            "link_failures": journal.held // 10,
            "link_rtt_ms": self._random.uniform(40, 180),
            "rssi_dbm": self._random.uniform(-95, -60),
            "clock_quality": TIME_NTP,
            "clock_step_ms": 0,
            "loop_lag_ms_max": self._random.uniform(5, 60),
            "task_restarts": 0,
            "safe_mode": 0,
        }
        journal.keep(NODE, 0, "", time_ms, row_of(NODE, None, values))

    def _raise(self, alarm: Raised, time_ms: int) -> None:
        row = catalogue.not_available(ALARM_STREAM.signals)
        values = {"code": alarm.code, "level": alarm.level, "stream": alarm.stream.id, "value": alarm.value}
        values |= {"signal": find_signal(alarm.stream, alarm.signal), "threshold": alarm.threshold}
        for name, value in values.items():
            row[find_signal(ALARM_STREAM, name)] = value
        journal = self._journals[alarm.node]
        owner = journal.owners.get(alarm.bay, "") if alarm.stream is MODULE else ""
        journal.keep(ALARM_STREAM, alarm.bay, owner, time_ms, row)

    # What arrives.

    def _send(self, time_ms: int) -> Iterator[Sent]:
        left_s = self._before_end(time_ms)
        for node, journal in self._journals.items():
            self._lose(journal, left_s, time_ms)
            waiting = self._waiting[node]
            before = journal.seq
            sealed = list(journal.seal())
            since_s, count = self.story.vanished.get(node, (-1.0, 0))
            is_vanishing = 0 <= since_s - left_s < SEAL_POLLS * POLL_S
            waiting += sealed[count:] if is_vanishing else sealed
            begin_s, end_s = self.story.offline.get(node, (-1.0, -1.0))
            if begin_s >= left_s > end_s:
                journal.held += journal.seq - before
                continue
            for data in waiting:
                yield Sent(node, data, self.begin_utc_ms, self.begin_utc_ms + time_ms + ARRIVAL_MS)
            waiting.clear()

    def _lose(self, journal: _Journal, left_s: float, time_ms: int) -> None:
        """Let what is told to be lost now be lost, and declare it as a node does."""
        step_s = SEAL_POLLS * POLL_S
        at_s, count = self.story.dropped.get(journal.node, (-1.0, 0))
        if 0 <= at_s - left_s < step_s:
            first = journal.seq + 1
            journal.seq += count
            journal.dropped += count
            values = {"first_seq": first, "last_seq": journal.seq, "count": count, "reason": LOSS_JOURNAL_FULL}
            journal.keep(EVENT_STREAM, 0, "", time_ms, event_row(code=FRAMES_DROPPED, **values))
        if 0 <= self.story.cut.get(journal.node, -1.0) - left_s < step_s:
            row = event_row(code=ROWS_DROPPED, count=7, reason=LOSS_POWER_CUT)
            journal.keep(EVENT_STREAM, 0, "", time_ms, row)


def row_of(stream: Stream, thing: Any, values: Mapping[str, float] | None = None) -> list[int]:
    """Return a raw row of a thing's attributes, or of `values` before them; what neither has is not available."""
    row = catalogue.not_available(stream.signals)
    for index, signal in enumerate(stream.signals):
        value = (values or {}).get(signal.name, getattr(thing, signal.name, None))
        if value is not None:
            raw = round(float(value) * 10**signal.decimals)
            row[index] = min(max(raw, signal.minimum), signal.maximum)
    return row
