"""What vehicle controllers, slot chargers, meters and GNSS receivers have said.

- A controller or charger (our own register maps): one question for the whole map, one reading; an answer with the
  alive counter of the one before is no new reading, unless the node was started in between.
- An SDM630 meter: voltages, currents and powers of the phases (from 0x0000), then totals (from 0x0034).
- A GNSS receiver: a burst an epoch, if the node has taken it out of its port by the next one.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from swapline_bench.faces.gnss import KMH_PER_KNOT, SATELLITES_PER_GSV, Fix, Satellite, sentences
from swapline_bench.faces.register_map import MapUnit
from swapline_bench.faces.witness import Punctuality, Scribe
from swapline_bench.grid import GridMeter

_PHASES = 0x0000
_TOTALS = 0x0034
FIRST_EPOCHS = 3  # a node that begins to listen in the middle of a burst hears part of it, and must find its time


class MapWitness:
    """Watches one unit with a register map of ours; `stream` is what the unit tells about."""

    def __init__(self, scribe: Scribe, stream: str, unit: MapUnit) -> None:
        self.lag = scribe.log.lag
        self._scribe = scribe
        self._stream = stream
        self._unit = unit
        self._values: Mapping[str, float] | None = None
        self._alive = self._alive_stated = -1
        self._is_disturbed = False

    def look(self, request: bytes, reply: bytes) -> None:
        """See `Witness`. The unit replaces its stated values at each refresh and never changes them."""
        # A part becomes no row: it is a look for alarms, or the question whether there is more than in version 1.
        self._values = None if reply[1] & 0x80 or not self._unit.is_whole(request) else self._unit.stated
        self._alive = self._unit.alive

    def said(self, late_s: float) -> None:
        """See `Witness`."""
        if self._values is None:
            return
        punctuality = Punctuality()
        punctuality.answered(late_s)
        is_repeated = self._alive == self._alive_stated
        is_doubtful = punctuality.is_doubtful or is_repeated or self._is_disturbed
        self._scribe.write(self._stream, self._values, is_doubtful=is_doubtful)
        self._alive_stated = self._alive
        self._is_disturbed = False

    def spoiled(self, *, is_accepted: bool) -> None:
        """See `Witness`. The alive counter may be damaged too, so the next answer may repeat this one."""
        if self._values is not None and is_accepted:
            self._scribe.write(self._stream, self._values, damaged=self._values)
        self._is_disturbed = False

    def doubt(self) -> None:
        """See `Witness`."""
        self._is_disturbed = True


class MeterWitness:
    """Watches an SDM630."""

    def __init__(self, scribe: Scribe, meter: GridMeter) -> None:
        self.lag = scribe.log.lag
        self._scribe = scribe
        self._meter = meter
        self._address = -1
        self._values: dict[str, float] = {}
        self._phases: dict[str, float] = {}
        self._damaged: set[str] = set()
        self._punctuality = Punctuality()

    def look(self, request: bytes, reply: bytes) -> None:
        """See `Witness`."""
        (self._address,) = struct.unpack(">H", request[2:4])
        if reply[1] & 0x80:
            self._address = -1
        elif self._address == _PHASES:
            self._punctuality.begin()
            self._damaged = set()
            self._values = self._read_phases()
        elif self._address == _TOTALS:
            self._punctuality.asked()
            self._values = self._read_totals()

    def said(self, late_s: float) -> None:
        """See `Witness`."""
        self._punctuality.answered(late_s)
        self._take()

    def spoiled(self, *, is_accepted: bool) -> None:
        """See `Witness`."""
        if is_accepted:
            self._damaged |= self._values.keys()
            self._take()
        else:
            self._phases = {}

    def doubt(self) -> None:
        """See `Witness`."""
        self._punctuality.disturbed()

    def _take(self) -> None:
        """Take what was answered: half of a reading, or the rest of it."""
        if self._address == _PHASES:
            self._phases = self._values
        elif self._address == _TOTALS and self._phases:
            is_doubtful = self._punctuality.is_doubtful
            self._scribe.write("meter", self._phases | self._values, is_doubtful=is_doubtful, damaged=self._damaged)
            self._phases = {}

    def _read_phases(self) -> dict[str, float]:
        meter = self._meter
        values: dict[str, float] = {}
        for phase in ("l1", "l2", "l3"):
            values[f"voltage_{phase}_v"] = shown(getattr(meter, f"voltage_{phase}_v"), 2)
            values[f"current_{phase}_a"] = shown(getattr(meter, f"current_{phase}_a"), 3)
            values[f"power_{phase}_kw"] = shown(1000 * getattr(meter, f"power_{phase}_kw"), 0) / 1000
        return values

    def _read_totals(self) -> dict[str, float]:
        meter = self._meter
        return {
            "power_kw": shown(1000 * meter.power_kw, 0) / 1000,
            "reactive_power_kvar": shown(1000 * meter.reactive_power_kvar, 0) / 1000,
            "power_factor": shown(meter.power_factor, 3),
            "frequency_hz": shown(meter.frequency_hz, 2),
            "energy_import_kwh": shown(meter.energy_import_kwh, 2),
            "energy_export_kwh": shown(meter.energy_export_kwh, 2),
        }


def shown(value: float, decimals: int) -> float:
    """Return a value that travelled in single precision, rounded to the catalogue's digits, half away from zero.

    Exact: a single has 24 bits, and three digits more still fit into a double.
    """
    (single,) = struct.unpack(">f", struct.pack(">f", value))
    raw = math.floor(abs(single) * 10**decimals + 0.5)
    scaled: float = math.copysign(raw, single) / 10**decimals + 0.0
    return scaled


class _Epoch(NamedTuple):
    """What was said of one second. A time that is damaged may split it into more rows than one."""

    utc_ms: int
    values: dict[str, float]
    damaged: set[str]
    is_disturbed: bool
    rows_max: int


class GnssWitness:
    """Watches a receiver. A burst that the node has not read by the next one may have been heard in part."""

    def __init__(self, scribe: Scribe) -> None:
        self._scribe = scribe
        self._epoch: _Epoch | None = None
        self._doubtful_left = FIRST_EPOCHS

    def said(self, fix: Fix, sky: Sequence[Satellite], true_utc: datetime, heard: bytes) -> int:
        """Take note that the node was given `heard` of the burst about `fix`; return what passed a check by chance.

        `true_utc` is the burst's moment, whatever it states. Less than all of it where the receiver was cut short, or
        something else where the line was disturbed: then what counts is what the sentences that are whole say by
        themselves.
        """
        sent = sentences(fix, sky)
        lines = [_last_sentence(line) for line in heard.split(b"\n")[:-1]]
        values = _of_sentences(fix, sky, [text.rstrip().encode() in lines for text in sent])
        is_disturbed = not "".join(sent).encode().startswith(heard)
        foreign = [line for line in lines if is_disturbed and _is_good(line) and f"{line.decode()}\r\n" not in sent]
        damaged = {name for line in foreign for name in _SIGNALS_OF_KIND.get(line[3:6].decode(), ())}
        utc_ms = round(true_utc.timestamp() * 1000)
        self._epoch = _Epoch(utc_ms, values, damaged, is_disturbed, 1 + len(foreign)) if values else None
        return len(foreign)

    def settle(self, *, is_heard: bool) -> None:
        """State the last burst, now that it shows whether the node has read it."""
        if self._epoch is None:
            return
        if not is_heard:
            self._doubtful_left = FIRST_EPOCHS
        epoch = self._epoch
        is_doubtful = self._doubtful_left > 0 or epoch.is_disturbed
        for _ in range(epoch.rows_max):
            self._scribe.write(
                "position", epoch.values, is_doubtful=is_doubtful, damaged=epoch.damaged, utc_ms=epoch.utc_ms
            )
        self._doubtful_left -= is_heard and self._doubtful_left > 0
        self._epoch = None


def _last_sentence(line: bytes) -> bytes:
    """Return the sentence at the end of a line: what came before it in the same line is lost."""
    start = line.rstrip().rfind(b"$")
    return line.rstrip()[start:] if start >= 0 else b""


def _is_good(line: bytes) -> bool:
    """Say whether a line passes NMEA's only check."""
    body, star, checksum = line[1:].rpartition(b"*")
    total = 0
    for byte in body:
        total ^= byte
    return bool(star) and line.isascii() and checksum.upper() == b"%02X" % total


def _of_sentences(fix: Fix, sky: Sequence[Satellite], is_whole: Sequence[bool]) -> dict[str, float]:
    """Return what those sentences of a burst say that were heard whole, the later ones last."""
    values: dict[str, float] = {}
    seen: list[Satellite] = []
    first = SATELLITES_PER_GSV
    groups = iter([sky[i : i + first] for i in range(0, len(sky), first)])
    for text, whole in zip(sentences(fix, sky), is_whole, strict=True):
        kind = text[3:6]
        group = next(groups) if kind == "GSV" else ()
        if whole and kind == "GSV":
            seen += group
            values |= _of_sky(sky, seen)
        elif whole:
            values |= _OF_KIND[kind](fix)
    return values


def _of_rmc(fix: Fix) -> dict[str, float]:
    knots = f"{fix.speed_kmh / KMH_PER_KNOT:.3f}"  # its last digit is coarser than that of VTG's km/h
    return _of_place(fix) | {
        "speed_kmh": (int(knots.replace(".", "")) * 1852 + 5000) // 10_000 / 100,
        "heading_deg": float(f"{fix.course_deg:.2f}"),
    }


def _of_vtg(fix: Fix) -> dict[str, float]:
    return {"speed_kmh": _half_up(f"{fix.speed_kmh:.3f}"), "heading_deg": float(f"{fix.course_deg:.2f}")}


def _of_gga(fix: Fix) -> dict[str, float]:
    return _of_place(fix) | {
        "altitude_m": float(f"{fix.altitude_m:.1f}") + 0.0,
        "fix_quality": fix.quality,
        "satellites_used": min(fix.satellites_used, 12),
        "hdop": float(f"{fix.hdop:.2f}"),
    }


def _of_gsa(fix: Fix) -> dict[str, float]:
    return {
        "fix_mode": 3,
        "pdop": float(f"{fix.pdop:.2f}"),
        "hdop": float(f"{fix.hdop:.2f}"),
        "vdop": float(f"{fix.vdop:.2f}"),
    }


_OF_KIND = {"RMC": _of_rmc, "VTG": _of_vtg, "GGA": _of_gga, "GSA": _of_gsa}


_PLACE = ("latitude_deg", "longitude_deg", "speed_kmh", "heading_deg")
_SIGNALS_OF_KIND = {
    "RMC": _PLACE,
    "VTG": _PLACE[2:],
    "GGA": (*_PLACE[:2], "altitude_m", "fix_quality", "satellites_used", "hdop"),
    "GSA": ("fix_mode", "pdop", "hdop", "vdop"),
    "GSV": ("satellites_in_view", "snr_max_db"),
    "GLL": _PLACE[:2],  # no receiver of this bench says it, but a damaged letter may
}


def _of_sky(sky: Sequence[Satellite], seen: Sequence[Satellite]) -> dict[str, float]:
    """Return what GSV sentences say that show the satellites `seen` of all."""
    signals = [satellite.snr_db for satellite in seen if satellite.snr_db is not None]
    values: dict[str, float] = {"satellites_in_view": len(sky)}
    return values | {"snr_max_db": max(signals)} if signals else values


def _of_place(fix: Fix) -> dict[str, float]:
    return {"latitude_deg": _degrees(fix.latitude_deg), "longitude_deg": _degrees(fix.longitude_deg)}


def _degrees(angle_deg: float) -> float:
    """Return an angle that travelled as minutes with five decimals, to the seventh decimal of a degree."""
    minutes_e5 = round(round(abs(angle_deg) * 60, 5) * 100_000)
    raw = (minutes_e5 * 100 + 30) // 60
    return (raw if angle_deg >= 0 else -raw) / 10_000_000


def _half_up(text: str) -> float:
    """Return a number of three decimals to two, rounded by its last digit."""
    thousandths = int(text.replace(".", ""))
    return (thousandths + 5) // 10 / 100
