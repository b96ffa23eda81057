"""The fleet's past: weeks of rows and swaps from before the demo began, as late back-fill of nodes that were replaced.

A program of its own makes them in virtual time and sends them through the broker under the names of the fleet's nodes,
each with a journal of its own: `<folder>/<node>.frames`, frames one behind the other, written before they are sent.
The same seed, time and days give the same bytes, so whatever stops half way is begun again and changes nothing: the
gateway knows the keys. `<node>.acknowledged` says how many frames, from the first one on, it has acknowledged.
"""

import json
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from swapline_bench import story
from swapline_bench.battery import CAPACITY_NOMINAL_AH
from swapline_bench.module import Module
from swapline_bench.module_reading import module_row
from swapline_bench.past_life import Kept, PastLife
from swapline_bench.past_schedule import DAY_S, Bay, Move, Plan, Planner, land
from swapline_bench.randomness import make_random
from swapline_bench.world import World
from swapline_wire import catalogue
from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT, EVENT_STREAM, MODULE, TIME_NTP, find_signal
from swapline_wire.catalogue import BOOT as BOOT_EVENT
from swapline_wire.catalogue_text import CAME, FOUND, FOUND_GONE, LEFT
from swapline_wire.frame import FRAME_BYTES_MAX, PREFIX_BYTES, FrameBuilder

BOOT = 1
PLAN = "plan.json"
FRAMES, ACKNOWLEDGED = ".frames", ".acknowledged"
SEAL_MS = 3_600_000  # an hour of rows a frame, if there is room
REQUESTS_FROM = 1_000_000  # the world's robots count from 1
KM_PER_DAY = 110.0
_LENGTH_AT = 4  # of a frame's length in it (docs/wire.md)
_NOTICED_MS = 3000  # until a node has read a module that came, or missed one that left
_STREAMS = {stream.id: stream for stream in catalogue.STREAMS}
_SOC, _SOH, _CYCLES, _CHARGE_OUT = (find_signal(MODULE, n) for n in ("soc_pct", "soh_pct", "cycles", "charge_out_ah"))
_COUNTERS = [find_signal(MODULE, n) for n in ("charge_in_ah", "charge_out_ah", "energy_in_kwh", "energy_out_kwh")]


class PastPlan(NamedTuple):
    """What the past is a function of, kept in its folder. `end_utc_ms` is when the world began."""

    fleet: str
    vans: int
    stations: int
    slots: int
    seed: int
    days: int
    end_utc_ms: int

    def save(self, folder: Path) -> None:
        """Write it down before anything is made."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PLAN).write_text(json.dumps(self._asdict()) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "PastPlan | None":
        """Return what an earlier run has written down; None if there was none. Raises `ValueError` if it is damaged."""
        try:
            return cls(**json.loads((folder / PLAN).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except TypeError as error:
            raise ValueError(str(error)) from error


class Sealed(NamedTuple):
    """A frame of a node of the past, and when it was sealed (ms since the past began)."""

    node: str
    seq: int
    time_ms: int
    data: bytes


@dataclass
class _Writer:
    """The journal of one node: seals what it is given, in the order of time."""

    node: str
    journal: int
    anchor_utc_ms: int
    seq: int = 0
    builders: dict[tuple[int, str], FrameBuilder] = field(default_factory=dict)

    def take(self, kept: Kept, owner: str) -> Iterator[Sealed]:
        key = (kept.stream.id, owner)
        builder = self.builders.get(key)
        if builder is not None and not (
            builder.bay == kept.bay.bay
            and builder.takes(kept.time_ms)
            and kept.time_ms < builder.first_row_ms + SEAL_MS
        ):
            yield self._seal(key, kept.time_ms)
            builder = None
        if builder is None:
            builder = FrameBuilder(kept.stream, bay=kept.bay.bay, owner=owner, buffer_bytes=FRAME_BYTES_MAX)
            self.builders[key] = builder
        builder.add(kept.time_ms, kept.row)

    def seal_all(self, time_ms: int, owner: str | None = None) -> Iterator[Sealed]:
        """Seal what is open, or what is open of one owner."""
        for key in sorted(self.builders):
            if owner in (None, key[1]):
                yield self._seal(key, time_ms)

    def _seal(self, key: tuple[int, str], time_ms: int) -> Sealed:
        self.seq += 1
        data = self.builders.pop(key).seal(
            journal=self.journal,
            seq=self.seq,
            boot=BOOT,
            time_quality=TIME_NTP,
            anchor_utc_ms=self.anchor_utc_ms,
        )
        return Sealed(self.node, self.seq, time_ms, bytes(data))


def event_row(**values: float | None) -> list[int]:
    """Return a raw row of the stream `event`; what is None, or no signal of it, is not available."""
    row = catalogue.not_available(EVENT_STREAM.signals)
    for name, value in values.items():
        index = find_signal(EVENT_STREAM, name)
        if value is not None:
            row[index] = round(value * 10 ** EVENT_STREAM.signals[index].decimals)
    return row


@dataclass(frozen=True, slots=True)
class Lived:
    """What became of one module: rows that were kept, in the order of time."""

    code: str
    times_ms: "array[int]"
    bays: list[Bay]
    streams: list[int]
    rows: "list[array[int]]"

    def charge(self, time_ms: int) -> tuple[float | None, float | None]:
        """Return SoC and SoH (%) as last read up to a time."""
        for index in range(bisect_right(self.times_ms, time_ms) - 1, -1, -1):
            if self.streams[index] == MODULE.id:
                row = self.rows[index]
                return row[_SOC] / 10, row[_SOH] / 10
        return None, None


class Past:
    """Makes the past of the world that `plan` says."""

    def __init__(self, plan: PastPlan) -> None:
        self.plan = plan
        self.world = World(van_count=plan.vans, station_count=plan.stations, slot_count=plan.slots, seed=plan.seed)
        self.modules = modules_by_place(self.world)
        soc = {bay: module.soc_pct / 100 for bay, module in self.modules.items()}
        vans = {one.name: [soc[Bay(one.name, n + 1)] for n in range(len(one.bays))] for one in self.world.vans}
        stations = {one.name: [soc[Bay(one.name, n + 1)] for n in range(len(one.slots))] for one in self.world.stations}
        planner = Planner(vans, stations, days=plan.days, random=make_random(plan.seed, "past"))
        self.schedule: Plan = land(planner.make(), soc)
        self.places = {number: bay for bay, number in self.schedule.ends.items()}
        self._anchor_utc_ms = plan.end_utc_ms - round(self.schedule.end_s * 1000)
        self._writers = {node: self._writer(node) for node in (*vans, *stations)}

    @property
    def nodes(self) -> list[str]:
        """Return the names of all nodes."""
        return list(self._writers)

    def live(self, number: int) -> Lived:
        """Pass one module through its past. Its counters end where those of the world's module begin."""
        bay = self.places[number]
        module, random = self.modules[bay], make_random(self.plan.seed, "past", number)
        faults = story.faults(self.world, bay, story.lacks(module), self.schedule.end_s)
        wanted = _counters(module)
        module.time_factor_ageing = 0.0  # the world's module has aged already
        module.set_soc(self.schedule.soc_begin[number])
        life = PastLife(module, self.schedule.phases[number], random, faults)
        found = Lived(module.code, array("q"), [], [], [])
        for kept in life.rows():
            found.times_ms.append(kept.time_ms)
            found.bays.append(kept.bay)
            found.streams.append(kept.stream.id)
            found.rows.append(array("i", kept.row))
        excess = [after - before for after, before in zip(_counters(module), wanted, strict=True)]
        for stream, row in zip(found.streams, found.rows, strict=True):
            if stream == MODULE.id:
                for index, more in zip(_COUNTERS, excess, strict=True):
                    row[index] -= more
                row[_CYCLES] = int(row[_CHARGE_OUT] / 100 / CAPACITY_NOMINAL_AH)
        return found

    def _writer(self, node: str) -> _Writer:
        journal = crc32(f"{self.plan.fleet}/{node}/{self.plan.seed}/{self.plan.end_utc_ms}".encode()) or 1
        return _Writer(node, journal, self._anchor_utc_ms)

    def frames(self, lives: Sequence[Lived]) -> Iterator[Sealed]:
        """Yield every frame, each node's in the order of their numbers. `lives`: by the number of their module."""
        time_ms = 0
        for writer in self._writers.values():
            yield from writer.take(
                Kept(0, Bay(writer.node, 0), EVENT_STREAM, event_row(code=BOOT_EVENT, count=BOOT)), ""
            )
        for kept, owner in merge(*map(_kept, lives), self._moves(lives), key=lambda item: item[0].time_ms):
            writer, time_ms = self._writers[kept.bay.node], kept.time_ms
            if kept.stream is EVENT_STREAM:
                yield from writer.seal_all(time_ms, owner)
            yield from writer.take(kept, owner)
            if kept.stream is EVENT_STREAM:
                yield from writer.seal_all(time_ms, owner)
        for writer in self._writers.values():
            yield from writer.seal_all(time_ms)

    def _moves(self, lives: Sequence[Lived]) -> Iterator[tuple[Kept, str]]:
        """Yield the events that nodes tell of moves. A van of one module tells a departure at its next boot.

        (docs/node.md: its time is when the node was last alive.)
        """
        came_ms: dict[Bay, int] = {}
        told = [(round(move.time_s * 1000) + self._notice_ms(move), move) for move in self.schedule.moves]
        for time_ms, move in sorted(told):
            lived = lives[move.module]
            soc, soh = lived.charge(time_ms)
            has_power = not self._is_small(move.bay.node)
            values: dict[str, float | None] = {"soc_pct": soc, "soh_pct": soh, "request_id": move.request_id or None}
            if move.request_id:
                values["request_id"] = REQUESTS_FROM + move.request_id
            if move.is_in:
                came_ms[move.bay] = time_ms
                is_found = not move.request_id or not has_power
                values |= {"code": BATTERY_IN, "reason": FOUND if is_found else CAME}
            else:
                values |= {"code": BATTERY_OUT, "reason": LEFT if has_power else FOUND_GONE}
                if has_power:
                    values["duration_s"] = (time_ms - came_ms[move.bay]) // 1000
            if has_power or move.is_in:
                values |= self._where(move)
            yield Kept(time_ms, move.bay, EVENT_STREAM, event_row(**values)), lived.code

    def _is_small(self, node: str) -> bool:
        return any(van.name == node and len(van.bays) == 1 for van in self.world.vans)

    def _notice_ms(self, move: Move) -> int:
        return 0 if not move.is_in and self._is_small(move.bay.node) else _NOTICED_MS

    def _where(self, move: Move) -> dict[str, float | None]:
        """Return where a van is when its modules are exchanged, and how far it has come in its life."""
        van = next((van for van in self.world.vans if van.name == move.bay.node), None)
        if van is None or not move.request_id:
            return {}
        point = self.world.city.crossings[self.world.stations[0].crossing]
        latitude_deg, longitude_deg = self.world.city.coordinates_deg(point)
        odometer_km = van.odometer_km - (self.schedule.end_s - move.time_s) / DAY_S * KM_PER_DAY
        return {"odometer_km": max(0.0, odometer_km), "latitude_deg": latitude_deg, "longitude_deg": longitude_deg}


def modules_by_place(world: World) -> dict[Bay, Module]:
    """Return every module of the world with its place."""
    places = {Bay(van.name, n): module for van in world.vans for n, module in enumerate(van.bays, start=1)}
    places |= {Bay(one.name, n): slot.module for one in world.stations for n, slot in enumerate(one.slots, start=1)}
    return {bay: module for bay, module in places.items() if module is not None}


def _counters(module: Module) -> list[int]:
    row = module_row(module)
    return [row[index] for index in _COUNTERS]


def _kept(lived: Lived) -> Iterator[tuple[Kept, str]]:
    for time_ms, bay, stream, row in zip(lived.times_ms, lived.bays, lived.streams, lived.rows, strict=True):
        yield Kept(time_ms, bay, _STREAMS[stream], list(row)), lived.code


def split_frames(data: bytes) -> Iterator[bytes]:
    """Yield the frames of a file; a last one that was cut off is left out."""
    offset = 0
    while len(data) - offset >= PREFIX_BYTES:
        length = int.from_bytes(data[offset + _LENGTH_AT : offset + _LENGTH_AT + 2], "little")
        if offset + length > len(data):
            return
        yield data[offset : offset + length]
        offset += length
