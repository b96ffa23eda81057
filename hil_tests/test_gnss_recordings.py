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

from swapline_bench import replay, services
from swapline_bench.database import Database, Row
from swapline_bench.end_to_end import DATABASES, EndToEnd, bus, open_database
from swapline_bench.expected import GPS_ROLLOVER, Epoch, Log, read_gpsd_epochs, read_log

DRIVE = "MTV.Local1.ublox-F9K.20200206-181434"
GPSD_LOGS = ("beidou-gb", "bt451", "nl2008u", "tcp-torture", "telit-he910", "ublox-8")
POSITION_ERROR_DEG = 1e-6
BAD_SENTENCES = ("bus_checksum_errors", "bus_protocol_errors")


class Played(NamedTuple):
    """What was played, and what became of it."""

    logs: dict[str, Log]
    databases: dict[str, Database]
    counters: dict[str, dict[str, int]]


def recording(recordings: Path, name: str) -> Path:
    folder = recordings / "gnss"
    return folder / f"{name}.nmea" if name == DRIVE else folder / "gpsd" / f"{name}.log"


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
    await path.tap.wait_rows(name, "position", len(read_log(chunks).epochs), timeout_s=90)
    await path.wait_health(name)


@pytest.fixture(scope="module")
def played(
    recordings: Path,
    mosquitto: None,
    influxd: services.InfluxServer,
    victoria_metrics: services.Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Played:
    del mosquitto
    folder = tmp_path_factory.mktemp("gnss")
    urls = {"influxdb1": influxd.url, "influxdb2": victoria_metrics.url}
    recorded = {name: replay.read_nmea(recording(recordings, name)) for name in (DRIVE, *GPSD_LOGS)}
    counters = asyncio.run(play_all(folder, recorded, urls))
    databases = {name: open_database(name, folder, urls) for name in DATABASES}
    return Played({name: read_log(chunks) for name, chunks in recorded.items()}, databases, counters)


def utc_ms(moment: dt.datetime) -> int:
    return round(moment.timestamp() * 1000)


def assert_equal(row: Row, epoch: Epoch) -> None:
    """Compare one stored row with one independently parsed epoch, each signal to half its last digit."""
    assert row["latitude_deg"] == pytest.approx(epoch.latitude_deg, rel=0, abs=POSITION_ERROR_DEG)
    assert row["longitude_deg"] == pytest.approx(epoch.longitude_deg, rel=0, abs=POSITION_ERROR_DEG)
    tolerances = {"altitude_m": 0.0051, "speed_kmh": 0.0051, "heading_deg": 0.0051}
    tolerances |= dict.fromkeys(("hdop", "pdop", "vdop"), 0.0051)
    tolerances |= dict.fromkeys(("fix_quality", "fix_mode", "satellites_used"), 0.0)
    for name, tolerance in tolerances.items():
        expected = getattr(epoch, name)
        if expected is None:
            assert row.get(name) is None, name
        else:
            assert row.get(name) == pytest.approx(expected, rel=0, abs=tolerance), name


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("name", [DRIVE, *GPSD_LOGS])
def test_every_epoch_is_stored_once_with_its_own_time_and_values(played: Played, name: str, database: str) -> None:
    rows = played.databases[database].rows("position", name)
    epochs = sorted(played.logs[name].epochs, key=lambda epoch: epoch.utc)
    assert [row["time_utc_ms"] for row in rows] == [utc_ms(epoch.utc) for epoch in epochs]
    for row, epoch in zip(rows, epochs, strict=True):
        assert_equal(row, epoch)


@pytest.mark.parametrize("name", [DRIVE, *GPSD_LOGS])
def test_bad_sentences_are_counted_and_no_good_one_is(played: Played, name: str) -> None:
    counters = played.counters[name]
    assert sum(counters[counter] for counter in BAD_SENTENCES) == len(played.logs[name].bad)
    assert counters["frames_dropped"] == 0


@pytest.mark.parametrize("name", GPSD_LOGS)
def test_positions_equal_gpsd_s_own_decode(played: Played, recordings: Path, name: str) -> None:
    """gpsd's reports are matched by their time of day: it guesses the week rollover and adds 1024 weeks to old dates.

    Deliberate differences, each way:
    - gpsd takes the date from ZDA where an epoch has no RMC; the node reads no ZDA, so such an epoch has no date and
      makes no row (the first epoch after a break in bt451).
    - gpsd holds an epoch back until a later sentence; the last epochs of a log, and the first whose date comes in its
      last sentence (beidou-gb), are in its sentences but not in its reports. The node stores them.
    """
    rows = {row["time_utc_ms"]: row for row in played.databases["duckdb"].rows("position", name)}
    reports = read_gpsd_epochs(recording(recordings, name).with_suffix(".log.chk"))
    assert reports
    unmatched = []
    for moment, report in reports.items():
        row = next((rows[t] for weeks in (0, 1) if (t := utc_ms(moment - weeks * GPS_ROLLOVER)) in rows), None)
        if row is None:
            unmatched.append(moment)
            continue
        assert row["latitude_deg"] == pytest.approx(report["lat"], rel=0, abs=POSITION_ERROR_DEG)
        assert row["longitude_deg"] == pytest.approx(report["lon"], rel=0, abs=POSITION_ERROR_DEG)
        if "altMSL" in report:
            assert row["altitude_m"] == pytest.approx(report["altMSL"], rel=0, abs=0.0051)
    without_rmc = {"bt451": [dt.datetime(2029, 7, 26, 14, 33, 6, tzinfo=dt.UTC)]}
    assert unmatched == without_rmc.get(name, [])
    not_reported = {"beidou-gb": 1, "bt451": 2}
    assert len(rows) - (len(reports) - len(unmatched)) == not_reported.get(name, 0)


def test_receiver_without_fix_makes_no_position(played: Played) -> None:
    """beidou-gb, bt451 and telit-he910 begin without a fix; nothing of that time is stored as a place."""
    for name in ("beidou-gb", "bt451", "telit-he910"):
        rows = played.databases["duckdb"].rows("position", name)
        assert all(row.get("latitude_deg") for row in rows)
