"""The GNSS face: sentences as a real u-blox receiver wrote them, read back by pynmeagps."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pynmeagps  # type: ignore[import-untyped]
import serial

from swapline_bench.faces import gnss
from swapline_bench.faces.gnss import Fix, GnssFace
from swapline_bench.serial_line import SerialLine
from swapline_bench.van import Van


def recorded_lines(recordings: Path) -> list[str]:
    (path,) = (recordings / "gnss").glob("MTV.Local1.ublox*.nmea")
    return path.read_text(encoding="ascii", errors="replace").splitlines()


def fix_from(rmc: list[str], gga: list[str], gsa: list[str]) -> Fix:
    """Turn one recorded epoch into a fix, field by field, without the code under test."""
    latitude = int(rmc[3][:2]) + float(rmc[3][2:]) / 60
    longitude = int(rmc[5][:3]) + float(rmc[5][3:]) / 60
    return Fix(
        utc=datetime.strptime(rmc[9] + rmc[1], "%d%m%y%H%M%S.%f").replace(tzinfo=UTC),
        latitude_deg=latitude if rmc[4] == "N" else -latitude,
        longitude_deg=longitude if rmc[6] == "E" else -longitude,
        altitude_m=float(gga[9]),
        speed_kmh=float(rmc[7]) * 1.852,
        course_deg=float(rmc[8]),
        quality=int(gga[6]),
        satellites_used=int(gga[7]),
        pdop=float(gsa[15]),
        hdop=float(gsa[16]),
        vdop=float(gsa[17]),
        geoid_m=float(gga[11]),
        magnetic_deg=float(rmc[10]) if rmc[11] == "E" else -float(rmc[10]),
    )


def test_sentences_are_those_of_a_recorded_drive(recordings: Path) -> None:
    lines = recorded_lines(recordings)
    epochs = equal = 0
    for i, line in enumerate(lines[:-4]):
        kinds = [text[3:6] for text in lines[i : i + 4]]
        if kinds != ["RMC", "VTG", "GGA", "GSA"] or ",A," not in line:
            continue
        rmc, vtg, gga, gsa = (text.split("*")[0].split(",") for text in lines[i : i + 4])
        if "" in (rmc[8], rmc[10]):
            continue
        fix = fix_from(rmc, gga, gsa)
        prns = [int(prn) for prn in gsa[3:15] if prn]
        given = [gnss.rmc(fix), gnss.gsa(fix, prns, int(gsa[18]))]
        assert [text.strip() for text in given] == [line, lines[i + 3]]
        # VTG says what RMC says again, but km/h and magnetic course come from numbers that RMC has rounded
        given_vtg = gnss.vtg(fix).split("*")[0].split(",")
        assert [given_vtg[k] for k in (0, 1, 2, 4, 5, 6, 8, 9)] == [vtg[k] for k in (0, 1, 2, 4, 5, 6, 8, 9)]
        assert abs(float(given_vtg[7]) - float(vtg[7])) < 0.0015
        # a receiver with corrections adds their age and station, which the face's receiver has not
        assert gnss.gga(fix).split(",")[:13] == gga[:13]
        epochs += 1
        equal += gnss.vtg(fix).strip() == lines[i + 1]
    assert epochs > 1000
    assert equal > 0


def test_gsv_groups_are_those_of_a_recorded_sky(recordings: Path) -> None:
    group = recorded_lines(recordings)[7:10]
    satellites = []
    for line in group:
        fields = line.split("*")[0].split(",")[4:-1]
        for i in range(0, len(fields), 4):
            prn, elevation, azimuth, snr = fields[i : i + 4]
            satellites.append(gnss.Satellite(int(prn), int(elevation), int(azimuth), int(snr) if snr else None))
    assert [text.strip() for text in gnss.gsv(satellites)] == group


def van_at(latitude_deg: float, longitude_deg: float) -> SimpleNamespace:
    return SimpleNamespace(
        latitude_deg=latitude_deg,
        longitude_deg=longitude_deg,
        altitude_m=41.26,
        speed_kmh=36.0,
        heading_deg=-90.0,
        is_powered=True,
    )


def test_a_burst_says_where_the_van_is() -> None:
    utc = datetime(2026, 3, 8, 23, 59, 59, tzinfo=UTC)
    for latitude, longitude in ((48.137154, 11.576124), (-33.999999999, -0.0000001), (0.0, -179.9999999)):
        sentences = gnss.burst(gnss.fix_of(cast(Van, van_at(latitude, longitude)), utc)).decode().splitlines()
        parsed: dict[str, Any] = {}
        for sentence in sentences:
            message = pynmeagps.NMEAReader.parse(sentence + "\r\n", validate=pynmeagps.VALCKSUM)
            parsed.setdefault(message.msgID, message)
        assert set(parsed) == {"RMC", "VTG", "GGA", "GSA", "GSV"}
        for name in ("RMC", "GGA"):
            assert abs(parsed[name].lat - latitude) < 1e-7
            assert abs(parsed[name].lon - longitude) < 1e-7
        assert parsed["RMC"].date == utc.date()
        assert parsed["RMC"].time == utc.time()
        assert parsed["RMC"].spd == 19.438
        assert parsed["RMC"].cog == 270.0
        assert parsed["VTG"].sogk == 36.0
        assert parsed["GGA"].alt == 41.3


async def test_the_face_states_each_second_once_and_falls_silent_without_power() -> None:
    van = van_at(48.0, 11.0)
    async with SerialLine("gnss", baudrate=115200) as line:
        face = GnssFace(cast(Van, van))
        line.attach(face)
        with serial.Serial(line.path, 115200, timeout=2.0) as port:
            stamps: list[tuple[str, float]] = []
            while len(stamps) < 2:
                text = (await asyncio.to_thread(port.readline)).decode()
                if text.startswith("$GNRMC"):
                    stamps.append((text.split(",")[1], time.time()))
            heard = [datetime.fromtimestamp(at_s, UTC).strftime("%H%M%S.00") for _, at_s in stamps]
            assert [stated for stated, _ in stamps] == heard
            van.is_powered = False
            async with asyncio.timeout(20):
                while line.is_talking or line.unread_bytes():
                    port.reset_input_buffer()
                    await asyncio.sleep(0.01)
            bursts = face.bursts
            await asyncio.sleep(1.2)
            assert line.unread_bytes() == 0
            assert face.bursts == bursts


async def test_a_receiver_with_a_wrong_clock_keeps_its_pace_and_states_the_wrong_time() -> None:
    async with SerialLine("gnss", baudrate=115200) as line:
        face = GnssFace(cast(Van, van_at(48.0, 11.0)))
        face.clock_error = gnss.WEEK_ROLLOVER
        line.attach(face)
        with serial.Serial(line.path, 115200, timeout=2.0) as port:
            text = ""
            while not text.startswith("$GNRMC"):
                text = (await asyncio.to_thread(port.readline)).decode()
        stated = datetime.strptime(text.split(",")[9] + text.split(",")[1] + "+0000", "%d%m%y%H%M%S.00%z")
        assert abs((datetime.now(UTC) - stated).total_seconds() - 1024 * 7 * 86400) < 2
