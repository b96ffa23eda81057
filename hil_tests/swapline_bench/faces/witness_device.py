"""What vehicle controllers, slot chargers, meters and GNSS receivers have said.

- A controller or charger (our own register maps): one question, one reading; an answer with the alive counter of the
  one before is no new reading, unless the node was started in between.
- An SDM630 meter: voltages, currents and powers of the phases (from 0x0000), then totals (from 0x0034).
- A GNSS receiver: a burst an epoch, if the node has taken it out of its port by the next one.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime

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

    def look(self, request: bytes, reply: bytes) -> None:
        """See `Witness`. The unit replaces its stated values at each refresh and never changes them."""
        del request
        self._values = None if reply[1] & 0x80 else self._unit.stated
        self._alive = self._unit.alive

    def said(self, late_s: float) -> None:
        """See `Witness`."""
        if self._values is None:
            return
        punctuality = Punctuality()
        punctuality.answered(late_s)
        is_repeated = self._alive == self._alive_stated
        self._scribe.write(self._stream, self._values, is_doubtful=punctuality.is_doubtful or is_repeated)
        self._alive_stated = self._alive


class MeterWitness:
    """Watches an SDM630."""

    def __init__(self, scribe: Scribe, meter: GridMeter) -> None:
        self.lag = scribe.log.lag
        self._scribe = scribe
        self._meter = meter
        self._address = -1
        self._values: dict[str, float] = {}
        self._phases: dict[str, float] = {}
        self._punctuality = Punctuality()

    def look(self, request: bytes, reply: bytes) -> None:
        """See `Witness`."""
        (self._address,) = struct.unpack(">H", request[2:4])
        if reply[1] & 0x80:
            self._address = -1
        elif self._address == _PHASES:
            self._punctuality.begin()
            self._values = self._read_phases()
        elif self._address == _TOTALS:
            self._punctuality.asked()
            self._values = self._read_totals()

    def said(self, late_s: float) -> None:
        """See `Witness`."""
        self._punctuality.answered(late_s)
        if self._address == _PHASES:
            self._phases = self._values
        elif self._address == _TOTALS and self._phases:
            self._scribe.write("meter", self._phases | self._values, is_doubtful=self._punctuality.is_doubtful)
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


class GnssWitness:
    """Watches a receiver. A burst that the node has not read by the next one may have been heard in part."""

    def __init__(self, scribe: Scribe) -> None:
        self._scribe = scribe
        self._epoch: tuple[int, dict[str, float]] | None = None
        self._doubtful_left = FIRST_EPOCHS

    def said(self, fix: Fix, sky: Sequence[Satellite], true_utc: datetime, count: int) -> None:
        """Take note that `count` bytes of the burst about `fix` have left.

        `true_utc` is its moment, whatever it states. Less than all of it where the receiver was cut short: then what
        counts is what the sentences that are whole say by themselves.
        """
        values = _of_sentences(fix, sky, count)
        self._epoch = (round(true_utc.timestamp() * 1000), values) if values else None

    def settle(self, *, is_heard: bool) -> None:
        """State the last burst, now that it shows whether the node has read it."""
        if self._epoch is None:
            return
        if not is_heard:
            self._doubtful_left = FIRST_EPOCHS
        utc_ms, values = self._epoch
        self._scribe.write("position", values, is_doubtful=self._doubtful_left > 0, utc_ms=utc_ms)
        self._doubtful_left -= is_heard and self._doubtful_left > 0
        self._epoch = None


def _of_sentences(fix: Fix, sky: Sequence[Satellite], count: int) -> dict[str, float]:
    """Return what the whole sentences among the first `count` bytes of a burst say, the later ones last."""
    values: dict[str, float] = {}
    end = visible = 0
    for sentence in sentences(fix, sky):
        end += len(sentence)
        if end > count:
            break
        kind = sentence[3:6]
        visible += SATELLITES_PER_GSV * (kind == "GSV")
        values |= _of_sky(sky, visible) if kind == "GSV" else _OF_KIND[kind](fix)
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


def _of_sky(sky: Sequence[Satellite], visible: int) -> dict[str, float]:
    """Return what GSV sentences say that show the first `visible` satellites of all."""
    signals = [satellite.snr_db for satellite in sky[:visible] if satellite.snr_db is not None]
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
