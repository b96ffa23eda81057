"""Recorded GNSS receivers at a node's UART: what the databases hold equals what others read from the same recordings.

The recordings are played as fast as the node reads. Their dates are those of their sentences, so the node is told that
a time of before 2024, which it would take for a receiver's fault, is right.
"""

import asyncio
import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from swapline_bench import replay
from swapline_bench.database import Database, Row
from swapline_bench.end_to_end import DATABASES, EndToEnd, bus, open_database
from swapline_bench.expected import GPS_ROLLOVER, Epoch, Log, read_gpsd_epochs, read_log
from swapline_wire.catalogue import POSITION

DRIVE = "drive"
DRIVE_FILE = "MTV.Local1.ublox-F9K.20200206-181434.nmea"
GPSD_LOGS = ("beidou-gb", "bt451", "nl2008u", "tcp-torture", "telit-he910", "ublox-8")
POSITION_ERROR_DEG = 1e-6
HALF_STEP = {signal.name: 0.5 / 10**signal.decimals + 1e-9 for signal in POSITION.signals}
# The log jumps back by 52 minutes, which gpsd takes for midnight until the next RMC.
GPSD_TOMORROW = dt.datetime(2029, 7, 26, 14, 33, 6, tzinfo=dt.UTC)


class Played(NamedTuple):
    """What was played, and what became of it."""

    logs: dict[str, Log]
    databases: dict[str, Database]
    counters: dict[str, dict[str, int]]


def recording(recordings: Path, name: str) -> Path:
    folder = recordings / "gnss"
    return folder / DRIVE_FILE if name == DRIVE else folder / "gpsd" / f"{name}.log"


async def play_all(
    folder: Path, recorded: Mapping[str, list[replay.Chunk]], urls: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    """Play every recording at a node of its own and return the nodes' counters at the end."""
    async with EndToEnd(folder) as path:
        for database in DATABASES:
            await path.start_gateway(database, urls)
        await asyncio.gather(*(play(path, name, chunks) for name, chunks in recorded.items()))
        counters = {name: path.tap[name].last("node") for name in recorded}
        await path.stop()
    return counters


async def play(path: EndToEnd, name: str, chunks: list[replay.Chunk]) -> None:
    end = path.stack.enter_context(replay.SerialEnd())
    await path.start_node(
        name,
        [bus("gnss", end.path, {"driver": "gnss"}, baudrate=38400)],
        time={"earliest_utc_ms": 0},
        streams={"position": {"report": "all"}, "node": {"report": "all"}},
    )
    is_torn = any(chunk.pause_s and not chunk.data.startswith(b"$") for chunk in chunks)
    await replay.play(end, chunks, speed=1.0 if is_torn else None)
    log = read_log(chunks)
    count = len(log.epochs) + log.no_fix_count
    await path.tap.wait_rows(name, "position", count, timeout_s=90)
    await path.wait_health(name)


@pytest.fixture(scope="module")
def played(
    recordings: Path,
    database_urls: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Played:
    folder = tmp_path_factory.mktemp("gnss")
    recorded = {name: replay.read_nmea(recording(recordings, name)) for name in (DRIVE, *GPSD_LOGS)}
    counters = asyncio.run(play_all(folder, recorded, database_urls))
    databases = {name: open_database(name, folder, database_urls) for name in DATABASES}
    return Played({name: read_log(chunks) for name, chunks in recorded.items()}, databases, counters)


def utc_ms(moment: dt.datetime) -> int:
    return round(moment.timestamp() * 1000)


def split_by_fix(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows of epochs with a fix and those of epochs without one."""
    return [row for row in rows if "latitude_deg" in row], [row for row in rows if "latitude_deg" not in row]


def assert_equal(row: Row, epoch: Epoch) -> None:
    """Compare one stored row with one independently parsed epoch, each signal to half its last digit."""
    for name, expected in epoch.values.items():
        tolerance = POSITION_ERROR_DEG if name.endswith("_deg") and name != "heading_deg" else HALF_STEP[name]
        assert row.get(name) == (None if expected is None else pytest.approx(expected, rel=0, abs=tolerance)), name


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("name", [DRIVE, *GPSD_LOGS])
def test_every_epoch_is_stored_once_with_its_own_time_and_values(played: Played, name: str, database: str) -> None:
    rows, _ = split_by_fix(played.databases[database].rows("position", name))
    epochs = sorted(played.logs[name].epochs, key=lambda epoch: epoch.utc)
    assert [row["time_utc_ms"] for row in rows] == [utc_ms(epoch.utc) for epoch in epochs]
    for row, epoch in zip(rows, epochs, strict=True):
        assert_equal(row, epoch)


@pytest.mark.parametrize("name", [DRIVE, *GPSD_LOGS])
def test_epoch_without_fix_makes_a_row_that_says_so(played: Played, name: str) -> None:
    """Without a fix the receiver's clock is not believed: such rows stand at the time of the node."""
    _, rows = split_by_fix(played.databases["duckdb"].rows("position", name))
    assert len(rows) == played.logs[name].no_fix_count
    for row in rows:
        assert row["fix_quality"] == 0
        assert {"latitude_deg", "longitude_deg", "altitude_m"}.isdisjoint(row)


@pytest.mark.parametrize("name", [DRIVE, *GPSD_LOGS])
def test_bad_sentences_are_counted_and_no_good_one_is(played: Played, name: str) -> None:
    counters, log = played.counters[name], played.logs[name]
    assert counters["bus_checksum_errors"] == len(log.damaged)
    assert counters["bus_protocol_errors"] == len(log.torn)
    assert counters["frames_dropped"] == 0


@pytest.mark.parametrize("name", GPSD_LOGS)
def test_positions_equal_gpsd_s_own_decode(played: Played, recordings: Path, name: str) -> None:
    """gpsd's reports are matched by their time of day: it guesses the week rollover and adds 1024 weeks to old dates.

    Deliberate differences, each way:
    - gpsd holds an epoch back until a later sentence; the last epochs of a log, and the first whose date comes in its
      last sentence (beidou-gb), are in its sentences but not in its dated reports. The node stores them.
    - the first fix of bt451 comes in a GLL, which gpsd reports without a date; the node takes the date from the ZDA
      behind it. After that log's jump back in time, gpsd dates one epoch a day late.
    """
    rows, _ = split_by_fix(played.databases["duckdb"].rows("position", name))
    row_at = {row["time_utc_ms"]: row for row in rows}
    reports = read_gpsd_epochs(recording(recordings, name).with_suffix(".log.chk"))
    assert reports
    for moment, report in reports.items():
        day = dt.timedelta(days=moment == GPSD_TOMORROW)
        row = row_at.get(utc_ms(moment)) or row_at.get(utc_ms(moment - GPS_ROLLOVER - day))
        assert row is not None, moment
        assert row["latitude_deg"] == pytest.approx(report["lat"], rel=0, abs=POSITION_ERROR_DEG)
        assert row["longitude_deg"] == pytest.approx(report["lon"], rel=0, abs=POSITION_ERROR_DEG)
        if "altMSL" in report:
            assert row["altitude_m"] == pytest.approx(report["altMSL"], rel=0, abs=HALF_STEP["altitude_m"])
    not_reported = {"beidou-gb": 1, "bt451": 3}
    assert len(rows) - len(reports) == not_reported.get(name, 0)
