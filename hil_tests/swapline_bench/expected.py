"""What the database must hold after a receiver's log was played: parsed by somebody else's parser (pynmeagps).

Only what a position row claims is collected here, sentence by sentence, without a thought for how the firmware does it.
"""

import datetime as dt
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pynmeagps  # type: ignore[import-untyped]

from swapline_bench.replay import Chunk

UTC = dt.UTC
GPS_ROLLOVER = dt.timedelta(weeks=1024)


class Epoch(NamedTuple):
    """What the sentences of one moment say together; None: none of them said it."""

    utc: dt.datetime
    latitude_deg: float
    longitude_deg: float
    altitude_m: float | None
    speed_kmh: float | None
    heading_deg: float | None
    fix_quality: int | None
    fix_mode: int | None
    satellites_used: int | None
    hdop: float | None
    pdop: float | None
    vdop: float | None


class Log(NamedTuple):
    """A receiver's log: its dated fixes in order, its good sentences by type, and its lines that are not sentences."""

    epochs: list[Epoch]
    good: dict[str, int]
    bad: list[bytes]


class _Moment:
    """The sentences that came since the time of day changed."""

    def __init__(self, time: dt.time) -> None:
        self.time = time
        self.sentences: dict[str, Any] = {}


def read_log(chunks: Iterable[Chunk]) -> Log:
    """Parse everything that was played, torn writes put together again."""
    data = b"".join(chunk.data for chunk in chunks)
    moments: list[_Moment] = []
    good: dict[str, int] = {}
    bad: list[bytes] = []
    for line in data.split(b"\n"):
        sentence = _parse(line)
        if sentence is None:
            if line.strip():
                bad.append(line)
            continue
        good[sentence.msgID] = good.get(sentence.msgID, 0) + 1
        time = getattr(sentence, "time", None)
        if isinstance(time, dt.time) and (not moments or moments[-1].time != time):
            moments.append(_Moment(time))
        if moments:
            moments[-1].sentences.setdefault(sentence.msgID, sentence)
    return Log([epoch for moment in moments if (epoch := _epoch(moment))], good, bad)


def _parse(line: bytes) -> Any | None:
    """Parse one line from its last `$` on; None for what is no whole sentence with a good checksum."""
    start = line.rfind(b"$")
    if start < 0 or b"*" not in line:
        return None
    try:
        return pynmeagps.NMEAReader.parse(line[start:].strip() + b"\r\n", validate=pynmeagps.VALCKSUM)
    except pynmeagps.NMEAParseError:
        return None


def _epoch(moment: _Moment) -> Epoch | None:
    """Return what a moment says, if it has a date and a fix: both come from RMC only."""
    rmc, gga, gsa = (moment.sentences.get(name) for name in ("RMC", "GGA", "GSA"))
    if rmc is None or rmc.status != "A":
        return None
    return Epoch(
        dt.datetime.combine(rmc.date, rmc.time, UTC),
        rmc.lat,
        rmc.lon,
        _number(gga, "alt"),
        None if (knots := _number(rmc, "spd")) is None else knots * 1.852,
        _number(rmc, "cog"),
        None if gga is None else gga.quality,
        None if gsa is None else gsa.navMode,
        None if gga is None else gga.numSV,
        _number(gga, "HDOP"),
        _number(gsa, "PDOP"),
        _number(gsa, "VDOP"),
    )


def _number(sentence: Any | None, name: str) -> float | None:
    value = getattr(sentence, name, "") if sentence is not None else ""
    return None if value in ("", None) else float(value)


def read_gpsd_epochs(path: Path) -> dict[dt.datetime, dict[str, Any]]:
    """Read gpsd's own decode (`.log.chk`): the last report of each moment that has a fix and a time.

    gpsd guesses the GPS week rollover and dates recordings of before 2019 by 1024 weeks later than their sentences do.
    """
    epochs: dict[dt.datetime, dict[str, Any]] = {}
    for line in path.read_bytes().splitlines():
        if not line.startswith(b'{"class":"TPV"'):
            continue
        report = json.loads(line)
        if report["mode"] >= 2 and "time" in report:
            epochs[dt.datetime.fromisoformat(report["time"])] = report
    return epochs
