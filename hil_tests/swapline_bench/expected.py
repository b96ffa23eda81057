"""What the database must hold after a receiver's log was played: parsed by somebody else's parser (pynmeagps).

An epoch is all sentences from one statement of a time of day to the next; those without a time belong to the one
before.
"""

import datetime as dt
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pynmeagps  # type: ignore[import-untyped]

from swapline_bench.replay import Chunk

UTC = dt.UTC
KNOT_KMH = 1.852
GPS_ROLLOVER = dt.timedelta(weeks=1024)


class Epoch(NamedTuple):
    """A dated fix. `values`: what its sentences say by signal; None where the sentence is there and its field is empty.

    A signal that none of the epoch's sentences is about is not in `values`.
    """

    utc: dt.datetime
    values: dict[str, float | None]


class Log(NamedTuple):
    """A receiver's log, all in order."""

    epochs: list[Epoch]
    no_fix_count: int  # epochs whose RMC says that there is no fix
    damaged: list[bytes]  # whole sentences with a wrong checksum
    torn: list[bytes]  # lines that are not, or not only, one sentence


class _Moment:
    """The sentences that came since the time of day changed, the first of each type."""

    def __init__(self, time: dt.time) -> None:
        self.time = time
        self.sentences: dict[str, Any] = {}


def read_log(chunks: Iterable[Chunk]) -> Log:
    """Parse everything that was played, torn writes put together again."""
    data = b"".join(chunk.data for chunk in chunks)
    moments: list[_Moment] = []
    log = Log([], sum(b"RMC," in line and b",V," in line for line in data.split(b"\n")), [], [])
    for line in data.split(b"\n")[:-1]:
        sentence = _parse(line, log)
        if sentence is None:
            continue
        time = getattr(sentence, "time", None)
        if isinstance(time, dt.time) and (not moments or moments[-1].time != time):
            moments.append(_Moment(time))
        if moments:
            moments[-1].sentences.setdefault(sentence.msgID, sentence)
    date: dt.date | None = None
    for moment in moments:
        date = _date(moment) or date
        values = _values(moment)
        if date is not None and "latitude_deg" in values:
            log.epochs.append(Epoch(dt.datetime.combine(date, moment.time, UTC), values))
    return log


def _parse(line: bytes, log: Log) -> Any | None:
    """Parse a line from its last `$` on, as a first sentence may follow noise; note what is wrong with it."""
    start = line.rfind(b"$")
    if start > 0 or (start < 0 and line.strip()):
        log.torn.append(line)
    if start < 0:
        return None
    if not re.fullmatch(rb"[^*]*\*[0-9A-F]{2}\s*", line[start:]):
        log.torn.append(line)
        return None
    try:
        return pynmeagps.NMEAReader.parse(line[start:].strip() + b"\r\n", validate=pynmeagps.VALCKSUM)
    except pynmeagps.NMEAParseError:
        log.damaged.append(line)
        return None


def _date(moment: _Moment) -> dt.date | None:
    """Return the date that an epoch's RMC or else its ZDA states."""
    rmc, zda = moment.sentences.get("RMC"), moment.sentences.get("ZDA")
    if rmc is not None and isinstance(rmc.date, dt.date):
        return rmc.date
    return None if zda is None else dt.date(zda.year, zda.month, zda.day)


def _values(moment: _Moment) -> dict[str, float | None]:
    """Return what an epoch says; without "latitude_deg" it has no fix."""
    rmc, gga, gll, gsa, vtg = (moment.sentences.get(name) for name in ("RMC", "GGA", "GLL", "GSA", "VTG"))
    values: dict[str, float | None] = {}
    valid = [sentence for sentence in (rmc, gll) if sentence is not None and sentence.status == "A"]
    valid += [gga] if gga is not None and gga.quality else []
    if valid:
        values = {"latitude_deg": valid[-1].lat, "longitude_deg": valid[-1].lon}
    if gga is not None:
        values["fix_quality"], values["satellites_used"] = gga.quality, gga.numSV
        values["altitude_m"] = _number(gga.alt)
    if gsa is not None:
        values["fix_mode"], values["pdop"], values["vdop"] = gsa.navMode, _number(gsa.PDOP), _number(gsa.VDOP)
        values["hdop"] = _number(gsa.HDOP)
    if rmc is not None:
        values["heading_deg"] = _number(rmc.cog)
        knots = _number(rmc.spd)
        values["speed_kmh"] = None if knots is None else knots * KNOT_KMH
    if vtg is not None and (speed_kmh := _number(vtg.sogk)) is not None:
        values["speed_kmh"] = speed_kmh
    return values


def _number(field: Any) -> float | None:
    return None if field in ("", None) else float(field)


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
