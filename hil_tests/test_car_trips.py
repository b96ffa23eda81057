"""Four recorded trips of an electric car, sample by sample through a simulated vehicle controller into three databases.

The controller shows the next sample after each request, so every sample is polled exactly once; a second of the trip
takes as long as one poll.
"""

import asyncio
import csv
import itertools
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

import pytest

from swapline_bench.database import Database, Row
from swapline_bench.end_to_end import DATABASES, EndToEnd, bus, open_database
from swapline_bench.faces.modbus import ModbusFace
from swapline_bench.faces.register_map import REFRESH_S
from swapline_bench.faces.vcu import FIELDS, Vcu
from swapline_bench.serial_line import SerialLine
from swapline_bench.trip_recording import TRIP_SIGNALS, TRIPS
from swapline_bench.van import Van
from swapline_wire.catalogue import VEHICLE

DECIMALS = {signal.name: signal.decimals for signal in VEHICLE.signals}
POLL_MS = 10
DRIVE_S_MAX = 300.0  # of a busy machine: the longest trip has 2,094 samples
pytestmark = pytest.mark.timeout(DRIVE_S_MAX + 120)
BAUDRATE = 1_000_000
FLOAT_ERROR = Decimal("1e-9")  # a half may fall either way once it was a float
CLOCK_ERROR_MS = 500  # the gateway offers its time in an acknowledgement: good to the way of one message


class Sample(NamedTuple):
    """What the controller shows at one moment of the trip: by signal, with the recording's own digits."""

    values: dict[str, Decimal]


class Trip:
    """A controller that shows the samples of one trip, one a request, and then nothing more."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples
        self.served_utc_ms: list[float] = []
        self.done = asyncio.Event()
        self._is_known = False  # the node begins with the question what there is, and asks for all of it then
        self._van = SimpleNamespace(is_powered=True, **dict.fromkeys([field.name for field in FIELDS], 0))
        self._vcu = Vcu(cast("Van", self._van), clock_s=self._next_s)

    def _next_s(self) -> float:
        """Turn to the next sample and move the controller's clock by one refresh; stand still after the last."""
        index = len(self.served_utc_ms)
        if not self._is_known:
            self._is_known = True
            return -1.5 * REFRESH_S  # before the first sample, or the controller would not refresh for it
        if index < len(self.samples):
            for name, value in self.samples[index].values.items():
                setattr(self._van, name, float(value))
            self.served_utc_ms.append(time.time() * 1000)
        else:
            self.done.set()
        return min(index, len(self.samples) - 1) * 1.5 * REFRESH_S

    def face(self) -> ModbusFace:
        return ModbusFace({1: self._vcu}, turnaround_s=0.0)


class Played(NamedTuple):
    """What became of the trips."""

    trips: dict[str, Trip]
    databases: dict[str, Database]
    counters: dict[str, dict[str, int]]


def read_trip(path: Path) -> list[Sample]:
    """Read a trip, and drive its odometer: the recording has speed only."""
    odometer_km = Decimal(0)
    samples = []
    with path.open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            odometer_km += Decimal(line["Velocity [km/h]"]) / 3600
            values = {signal: Decimal(line[column]) for column, signal in TRIP_SIGNALS.items()}
            samples.append(Sample({**values, "odometer_km": odometer_km}))
    return samples


async def play(folder: Path, trips: dict[str, Trip], urls: dict[str, str]) -> dict[str, dict[str, int]]:
    """Drive all trips at once, one node each, and return each node's counters at the end."""
    async with EndToEnd(folder) as path:
        for name in DATABASES:
            await path.start_gateway(name, urls)
        await asyncio.gather(*(drive(path, name, trip) for name, trip in trips.items()))
        counters = {name: path.tap[name].last("node") for name in trips}
        await path.stop()
    return counters


async def drive(path: EndToEnd, name: str, trip: Trip) -> None:
    line = await path.stack.enter_async_context(SerialLine(name, baudrate=BAUDRATE))
    line.attach(trip.face())
    device = {"driver": "vcu", "address": 1, "period_ms": POLL_MS, "timeout_ms": 5000}
    await path.start_node(
        name,
        [bus("vcu", line.path, device, baudrate=BAUDRATE)],
        streams={"vehicle": {"report": "all"}, "node": {"report": "all"}},
    )
    async with asyncio.timeout(DRIVE_S_MAX):
        await trip.done.wait()
    await path.tap.wait_rows(name, "vehicle", len(trip.samples))
    await path.wait_health(name)


@pytest.fixture(scope="module")
def played(
    recordings: Path,
    database_urls: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Played:
    folder = tmp_path_factory.mktemp("trips")

    async def run() -> tuple[dict[str, Trip], dict[str, dict[str, int]]]:
        trips = {name: Trip(read_trip(recordings / "ev_field" / f"{name}_1Hz.csv")) for name in TRIPS}
        return trips, await play(folder, trips, database_urls)

    trips, counters = asyncio.run(run())
    return Played(trips, {name: open_database(name, folder, database_urls) for name in DATABASES}, counters)


@pytest.fixture
def rows(played: Played) -> Callable[[str, str], list[Row]]:
    return lambda database, trip: played.databases[database].rows("vehicle", trip)


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("name", TRIPS)
def test_every_value_of_the_trip_is_stored_once_and_in_order(
    played: Played, rows: Callable[[str, str], list[Row]], name: str, database: str
) -> None:
    stored = rows(database, name)
    samples = played.trips[name].samples
    assert len(stored) == len(samples)
    for row, sample in zip(stored, samples, strict=True):
        for signal, source in sample.values.items():
            value = Decimal(repr(float(row[signal])))
            step = Decimal(1).scaleb(-DECIMALS[signal])
            assert value == value.quantize(step), f"{signal} has more digits than the catalogue says"
            assert abs(value - source) <= step / 2 + FLOAT_ERROR, f"{signal} at second {samples.index(sample)}"


@pytest.mark.parametrize("name", TRIPS)
def test_times_lie_between_the_polls_that_fetched_them(
    played: Played, rows: Callable[[str, str], list[Row]], name: str
) -> None:
    """Row i was read after sample i was shown and before sample i + 1 was asked for, on a clock of constant error."""
    times = [row["time_utc_ms"] for row in rows("duckdb", name)]
    served = played.trips[name].served_utc_ms
    assert all(a < b for a, b in itertools.pairwise(times))
    error_min_ms = max(row - asked for row, asked in zip(times, served[1:], strict=False))
    error_max_ms = min(row - shown for row, shown in zip(times, served, strict=True))
    assert error_min_ms - 2 <= error_max_ms, "the clock's error is not constant"  # both are cut to whole milliseconds
    assert error_max_ms >= -CLOCK_ERROR_MS
    assert error_min_ms <= CLOCK_ERROR_MS


@pytest.mark.parametrize("name", TRIPS)
def test_totals_of_the_trip_are_right(played: Played, rows: Callable[[str, str], list[Row]], name: str) -> None:
    samples = played.trips[name].samples
    stored = rows("duckdb", name)
    distance_km = stored[-1]["odometer_km"] - stored[0]["odometer_km"]
    driven_km = sum(sample.values["speed_kmh"] for sample in samples[1:]) / 3600
    assert distance_km == pytest.approx(float(driven_km), abs=0.001)
    counters = played.counters[name]
    assert (counters["bus_timeouts"], counters["bus_checksum_errors"]) == (0, 0)
    assert counters["values_abnormal"] == 0
    assert counters["frames_dropped"] == 0
