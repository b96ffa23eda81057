"""The GNSS driver against recorded receivers and against what receivers do wrong."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pynmeagps import NMEAReader  # type: ignore[import-untyped]
from pynmeagps.exceptions import NMEAParseError  # type: ignore[import-untyped]

RunDriver = Callable[[dict[str, Any]], dict[str, Any]]
Hear = Callable[[bytes], dict[str, Any]]


@pytest.fixture
def hear(run_driver: RunDriver, tmp_path: Path) -> Hear:
    """Return a function that plays bytes at the driver's line."""

    def play(data: bytes) -> dict[str, Any]:
        path = tmp_path / "receiver.nmea"
        path.write_bytes(data)
        return run_driver({"driver": "gnss", "nmea": str(path)})

    return play


def seal(*bodies: str) -> bytes:
    """Return sentences with their checksums."""
    out = b""
    for body in bodies:
        checksum = 0
        for byte in body.encode():
            checksum ^= byte
        out += b"$%s*%02X\r\n" % (body.encode(), checksum)
    return out


def epochs_of_drive(data: bytes) -> dict[int, dict[str, Any]]:
    """Parse the drive's good sentences with an independent parser: UTC in ms -> quantities."""
    epochs: dict[int, dict[str, Any]] = {}
    day = None
    for line in data.splitlines():
        try:
            message = NMEAReader.parse(line + b"\r\n")
        except NMEAParseError:
            continue
        if message.msgID == "RMC":
            day = message.date
        if message.msgID not in ("RMC", "GGA", "GLL") or day is None:
            continue
        utc_ms = round(datetime.combine(day, message.time, UTC).timestamp() * 1000)
        epoch = epochs.setdefault(utc_ms, {})
        epoch["latitude"], epoch["longitude"] = message.lat, message.lon
        if message.msgID == "RMC":
            epoch["speed_kmh"] = message.spd * 1.852
        if message.msgID == "GGA":
            epoch["altitude"], epoch["quality"], epoch["hdop"] = message.alt, message.quality, message.HDOP
    return epochs


def test_recorded_drive_equals_an_independent_parse(hear: Hear, recordings: Path) -> None:
    data = (recordings / "gnss" / "MTV.Local1.ublox-F9K.20200206-181434.nmea").read_bytes()
    expected = epochs_of_drive(data)
    damaged = sum(1 for line in data.splitlines() if line.startswith(b"$GG"))
    result = hear(data)
    rows = {row["time_ms"]: row for row in result["rows"]["position"]}
    assert len(expected) > 1600
    assert len(rows) == len(result["rows"]["position"]), "an epoch was stored twice"
    assert sorted(rows) == sorted(expected), "an epoch is missing or has another time"
    for utc_ms, epoch in expected.items():
        row = rows[utc_ms]
        assert row["latitude_deg"] == pytest.approx(epoch["latitude"] * 1e7, abs=1)
        assert row["longitude_deg"] == pytest.approx(epoch["longitude"] * 1e7, abs=1)
        if "speed_kmh" in epoch:
            assert row["speed_kmh"] == pytest.approx(epoch["speed_kmh"] * 100, abs=1)
        if "altitude" in epoch:
            assert row["altitude_m"] == round(epoch["altitude"] * 100)
            assert row["fix_quality"] == epoch["quality"]
    assert result["counters"]["bus_checksum_errors"] == damaged > 0
    assert result["counters"]["bus_protocol_errors"] == 0


def test_a_second_whose_first_sentence_is_lost_does_not_spill_into_the_one_before(run_driver: RunDriver) -> None:
    rmc = "GNRMC,%s.00,A,4404.13387,N,12118.85628,W,10.000,87.1,100126,,,A"
    vtg = "GNVTG,87.1,T,,M,10.000,N,%s,K,A"
    gga = "GPGGA,%s.00,4404.13387,N,12118.85628,W,1,09,1.01,1144.8,M,-21.4,M,,"
    gsv = "GPGSV,1,1,02,02,05,307,31,03,21,174,29"
    bursts = [
        seal(rmc % "000941", vtg % "18.520", gga % "000941", gsv),
        seal(rmc % "000942", gga % "000942"),  # without the sentence that ended the second before
        seal(vtg % "37.040", gga % "000943", gsv),  # and this one without the first, which has the time
    ]
    rows = run_driver({"driver": "gnss", "bursts": [burst.decode() for burst in bursts], "pause_s": 1.0})["rows"]
    assert [row["speed_kmh"] for row in rows["position"]] == [1852, 1852, 3704]
    assert [row["snr_max_db"] for row in rows["position"]] == [31, None, 31]


def test_epochs_come_out_in_any_sentence_order_and_set(hear: Hear) -> None:
    gga = "GPGGA,%s.00,4404.13387,N,12118.85628,W,1,09,1.01,1144.8,M,-21.4,M,,"
    rmc = "GNRMC,%s.00,A,4404.13387,N,12118.85628,W,0.029,87.1,100126,,,A"
    gsv = "GPGSV,1,1,02,02,05,307,31,03,21,174,29"
    data = seal(gga % "000941", gsv, rmc % "000941", rmc % "000942", gga % "000942", rmc % "000943", gga % "000944")
    rows = hear(data)["rows"]["position"]
    first = 1768003781000  # 2026-01-10 00:09:41 UTC
    assert [row["time_ms"] for row in rows] == [first, first + 1000, first + 2000, first + 3000]
    assert [row["altitude_m"] for row in rows] == [114480, 114480, None, 114480]
    assert [row["satellites_in_view"] for row in rows] == [2, None, None, None]
    assert rows[0]["latitude_deg"] == 440688978
    assert rows[0]["longitude_deg"] == -1213142713
    assert rows[0]["snr_max_db"] == 31


def test_a_damaged_rmc_costs_neither_the_epoch_nor_its_date(hear: Hear) -> None:
    gga = "GPGGA,%s,4404.13387,N,12118.85628,W,1,09,1.01,1144.8,M,-21.4,M,,"
    rmc = "GNRMC,%s,A,4404.13387,N,12118.85628,W,0.029,87.1,%s,,,A"
    torn = seal(rmc % ("000000", "110126"))[:30] + b"\r\n"
    data = seal(rmc % ("235959", "100126"), gga % "235959") + torn + seal(gga % "000000", gga % "000001")
    result = hear(data)
    times = [row["time_ms"] for row in result["rows"]["position"]]
    midnight = 1768089600000  # 2026-01-11 00:00:00 UTC
    assert times == [midnight - 1000, midnight, midnight + 1000]
    assert result["counters"]["bus_protocol_errors"] == 1


def test_doubled_sentences_are_counted_and_make_no_second_row(hear: Hear) -> None:
    gga = "GPGGA,000941,4404.13387,N,12118.85628,W,1,09,1.01,1144.8,M,-21.4,M,,"
    rmc = "GNRMC,000941,A,4404.13387,N,12118.85628,W,0.029,87.1,100126,,,A"
    result = hear(seal(rmc, rmc, gga, gga))
    (row,) = result["rows"]["position"]
    assert row["altitude_m"] == 114480
    assert result["counters"]["bus_protocol_errors"] == 2


def test_a_good_sentence_behind_noise_without_a_line_end_is_heard(hear: Hear) -> None:
    noise = bytes(range(128, 256)) * 3 + b"$GPGGA,0009"
    rmc = "GNRMC,000941,A,4404.13387,N,12118.85628,W,0.029,87.1,100126,,,A"
    result = hear(noise + seal(rmc))
    assert [row["time_ms"] for row in result["rows"]["position"]] == [1768003781000]
    assert result["counters"]["bus_protocol_errors"] == 1


def test_a_wrong_time_between_right_ones_is_no_rows_time_and_is_counted(hear: Hear) -> None:
    rmc = "GNRMC,%s,A,4404.13387,N,12118.85628,W,0.029,87.1,%s,,,A"
    times = [("000941", "100126"), ("000942", "100126"), ("000943", "100145"), ("000944", "100126")]
    result = hear(seal(*[rmc % time for time in times]))
    stated = [row["time_ms"] for row in result["rows"]["position"]]
    first = 1768003781000
    assert len(stated) == 4
    assert stated[0:2] + stated[3:] == [first, first + 1000, first + 3000]
    assert abs(stated[2] - first) < 60000, "the node's own time"
    assert result["counters"]["bus_protocol_errors"] == 1


def test_a_time_that_really_moves_is_followed(hear: Hear) -> None:
    rmc = "GNRMC,%s,A,4404.13387,N,12118.85628,W,0.029,87.1,100126,,,A"
    result = hear(seal(*[rmc % time for time in ("000941", "000942", "020000", "020001", "020002")]))
    first = 1768003781000
    moved = 1768010400000
    assert [r["time_ms"] for r in result["rows"]["position"]] == [
        first,
        first + 1000,
        *range(moved, moved + 3000, 1000),
    ]
    assert result["counters"]["bus_protocol_errors"] == 0


def test_without_a_fix_there_is_a_row_but_no_position_and_no_receiver_time(hear: Hear) -> None:
    data = seal("GPGGA,053229.438,,,,,0,00,,,M,0.0,M,,0000", "GPRMC,053229.438,V,,,,,,,010180,,,N", "GPGSV,1,1,00")
    (row,) = hear(data)["rows"]["position"]
    assert row["fix_quality"] == 0
    assert row["satellites_in_view"] == 0
    assert row["latitude_deg"] is None
    assert row["time_ms"] < 60000, "the time is the node's own, since boot"


def test_the_first_fix_right_behind_a_row_without_one_keeps_its_exact_time(hear: Hear) -> None:
    lost = "GPRMC,000940,V,,,,,,,100126,,,N"
    found = "GPRMC,000941,A,4404.13387,N,12118.85628,W,0.029,87.1,100126,,,A"
    without, fixed = hear(seal(lost, found))["rows"]["position"]
    assert fixed["time_ms"] == 1768003781000
    assert 0 < fixed["time_ms"] - without["time_ms"] < 60000, "InfluxDB would keep one of two rows of one millisecond"


def epochs_of_gpsd(chk: str) -> dict[int, set[tuple[int, int]]]:
    """Read gpsd's reports: milliseconds of the day -> the positions in 1e-7 degrees that it gave for that time.

    The day is left out: gpsd moves old receivers' dates by GPS week rollovers, as if they had been recorded today.
    """
    epochs: dict[int, set[tuple[int, int]]] = {}
    undated: set[tuple[int, int]] = set()  # given before the epoch's date was known
    for line in chk.splitlines():
        if not line.startswith('{"class":"TPV"'):
            continue
        report = json.loads(line)
        if "lat" in report:
            undated.add((round(report["lat"] * 1e7), round(report["lon"] * 1e7)))
            if "time" in report:
                time_ms = round(datetime.fromisoformat(report["time"]).timestamp() * 1000) % 86400000
                epochs.setdefault(time_ms, set()).update(undated)
                undated.clear()
    return epochs


@pytest.mark.parametrize("log", ["beidou-gb", "bt451", "nl2008u", "tcp-torture", "telit-he910", "ublox-8"])
def test_recorded_receivers_equal_gpsd(hear: Hear, recordings: Path, log: str) -> None:
    data = (recordings / "gnss" / "gpsd" / f"{log}.log").read_bytes()
    data = b"".join(line for line in data.splitlines(keepends=True) if not line.startswith(b"#")).replace(b"|", b"")
    expected = epochs_of_gpsd((recordings / "gnss" / "gpsd" / f"{log}.log.chk").read_text(errors="replace"))
    rows = [row for row in hear(data)["rows"]["position"] if row["latitude_deg"] is not None]
    got = {row["time_ms"] % 86400000: (row["latitude_deg"], row["longitude_deg"]) for row in rows}
    assert expected.keys() <= got.keys(), "an epoch that gpsd saw is missing"
    for time_ms, positions in expected.items():
        latitude, longitude = got[time_ms]
        assert any(abs(latitude - a) <= 1 and abs(longitude - b) <= 1 for a, b in positions), time_ms
