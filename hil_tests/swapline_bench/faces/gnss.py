"""A GNSS receiver on a UART, 9600 8N1, a burst a second: RMC, VTG, GGA, GSA, GSV as u-blox F9 writes them (NMEA 4.11).

The stated time is real UTC whatever the world's speed, because the node sets its clock by it; a receiver whose clock
has gone wrong (`clock_error`) keeps its pace and states another time.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from swapline_bench.serial_line import SerialLine
from swapline_bench.van import Van

if TYPE_CHECKING:
    from swapline_bench.faces.witness_device import GnssWitness

BAUDRATE = 9600
KMH_PER_KNOT = 1.852
SATELLITES_PER_GSV = 4
LATENCY_S = 0.06  # from the epoch to the burst's first character; receivers state 50 to 100 ms


class Satellite(NamedTuple):
    """One satellite as GSV shows it; `snr_db` None: not tracked."""

    prn: int
    elevation_deg: int
    azimuth_deg: int
    snr_db: int | None


class Fix(NamedTuple):
    """One epoch. Magnetic variation None: the receiver has no model of it and leaves the fields empty."""

    utc: datetime
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    speed_kmh: float
    course_deg: float
    quality: int = 1
    satellites_used: int = 9
    pdop: float = 1.48
    hdop: float = 0.76
    vdop: float = 1.27
    geoid_m: float = 45.0
    magnetic_deg: float | None = None
    talker: str = "GN"


# A plausible sky that stands still: PRN, elevation, azimuth, signal.
SKY = (
    Satellite(2, 25, 181, 42),
    Satellite(6, 45, 146, 45),
    Satellite(12, 19, 292, 47),
    Satellite(13, 17, 209, 43),
    Satellite(15, 16, 241, 44),
    Satellite(17, 52, 40, 46),
    Satellite(19, 76, 22, 40),
    Satellite(24, 43, 305, 46),
    Satellite(28, 33, 80, 42),
    Satellite(30, 8, 146, None),
)


def sentence(body: str) -> str:
    """Return `$body*checksum` with its line end."""
    checksum = 0
    for byte in body.encode("ascii"):
        checksum ^= byte
    return f"${body}*{checksum:02X}\r\n"


def _angle(value_deg: float, degree_digits: int, positive: str, negative: str) -> str:
    total_min = round(abs(value_deg) * 60, 5)
    degrees, minutes = divmod(total_min, 60)
    return f"{int(degrees):0{degree_digits}d}{minutes:08.5f},{positive if value_deg >= 0 else negative}"


def _place(fix: Fix) -> str:
    return f"{_angle(fix.latitude_deg, 2, 'N', 'S')},{_angle(fix.longitude_deg, 3, 'E', 'W')}"


def _clock(fix: Fix) -> str:
    return f"{fix.utc:%H%M%S}.{fix.utc.microsecond // 10000:02d}"


def _mode(fix: Fix) -> str:
    """Return RMC's mode letter that goes with GGA's quality."""
    return {0: "N", 1: "A", 2: "D", 4: "R", 5: "F", 6: "E"}.get(fix.quality, "A")


def rmc(fix: Fix) -> str:
    """Recommended minimum: time, date, place, speed over ground, course."""
    magnetic = (
        "," if fix.magnetic_deg is None else f"{abs(fix.magnetic_deg):.2f},{'E' if fix.magnetic_deg >= 0 else 'W'}"
    )
    speed = f"{fix.speed_kmh / KMH_PER_KNOT:.3f},{fix.course_deg:.2f}"
    return sentence(f"{fix.talker}RMC,{_clock(fix)},A,{_place(fix)},{speed},{fix.utc:%d%m%y},{magnetic},{_mode(fix)},V")


def vtg(fix: Fix) -> str:
    """Course and speed over ground."""
    magnetic = "" if fix.magnetic_deg is None else f"{(fix.course_deg - fix.magnetic_deg) % 360:.2f}"
    knots = f"{fix.speed_kmh / KMH_PER_KNOT:.3f}"
    mode = {0: "N", 1: "A", 6: "E"}.get(fix.quality, "D")  # VTG does not tell one kind of correction from another
    return sentence(f"{fix.talker}VTG,{fix.course_deg:.2f},T,{magnetic},M,{knots},N,{fix.speed_kmh:.3f},K,{mode}")


def gga(fix: Fix) -> str:
    """Fix data: quality, satellites, HDOP, altitude."""
    used = min(fix.satellites_used, 12)
    return sentence(
        f"{fix.talker}GGA,{_clock(fix)},{_place(fix)},{fix.quality},{used:02d},{fix.hdop:.2f},"
        f"{fix.altitude_m:.1f},M,{fix.geoid_m:.1f},M,,"
    )


def gsa(fix: Fix, prns: Sequence[int], system: int = 1) -> str:
    """Satellites in use (at most twelve) and dilution of precision."""
    fields = ",".join([f"{prn:02d}" for prn in prns[:12]] + [""] * (12 - min(len(prns), 12)))
    return sentence(f"{fix.talker}GSA,A,3,{fields},{fix.pdop:.2f},{fix.hdop:.2f},{fix.vdop:.2f},{system}")


def gsv(satellites: Sequence[Satellite], talker: str = "GP", signal: int = 1) -> list[str]:
    """Satellites in view, four a sentence."""
    starts = range(0, len(satellites), SATELLITES_PER_GSV)
    groups = [satellites[i : i + SATELLITES_PER_GSV] for i in starts]
    found = []
    for number, group in enumerate(groups, 1):
        fields = "".join(
            f",{s.prn:02d},{s.elevation_deg:02d},{s.azimuth_deg:03d},{'' if s.snr_db is None else f'{s.snr_db:02d}'}"
            for s in group
        )
        found.append(sentence(f"{talker}GSV,{len(groups)},{number},{len(satellites):02d}{fields},{signal}"))
    return found


def sentences(fix: Fix, sky: Sequence[Satellite] = SKY) -> list[str]:
    """Return the sentences of one epoch in a u-blox receiver's order."""
    tracked = [s.prn for s in sky if s.snr_db is not None]
    return [rmc(fix), vtg(fix), gga(fix), gsa(fix, tracked), *gsv(sky)]


def burst(fix: Fix, sky: Sequence[Satellite] = SKY) -> bytes:
    """Return one epoch as it goes over the line."""
    return "".join(sentences(fix, sky)).encode("ascii")


def fix_of(van: Van, utc: datetime) -> Fix:
    """Return what a receiver on `van` would say at `utc`."""
    return Fix(utc, van.latitude_deg, van.longitude_deg, van.altitude_m, van.speed_kmh, van.heading_deg % 360)


WEEK_ROLLOVER = timedelta(weeks=-1024)  # what a receiver states that takes this era's week number for the last one's


class GnssFace:
    """Writes a burst at every second of UTC while the van has power.

    `clock_error` is added to what it states; set it at any time, for as long as the fault shall last. `witness` writes
    down what was said, at the true time.
    """

    def __init__(self, van: Van, *, utc_s: Callable[[], float] = time.time) -> None:
        self._van = van
        self._utc_s = utc_s
        self.clock_error = timedelta(0)
        self.witness: GnssWitness | None = None
        self.bursts = 0

    async def run(self, line: SerialLine) -> None:
        """Write for ever; the receiver takes no requests."""
        try:
            while True:
                epoch_s = int(self._utc_s()) + 1
                await asyncio.sleep(epoch_s - self._utc_s())
                if self.witness is not None:
                    self.witness.settle(is_heard=line.unread_bytes() == 0)
                await self._say(line, datetime.fromtimestamp(epoch_s, UTC))  # also where the machine is late
        finally:
            if self.witness is not None:
                self.witness.settle(is_heard=False)

    async def _say(self, line: SerialLine, epoch: datetime) -> None:
        if not self._van.is_powered:
            return
        fix = fix_of(self._van, epoch + self.clock_error)
        await asyncio.sleep(LATENCY_S)
        line.hear_anew()
        try:
            await line.write(burst(fix))
            self.bursts += 1
        finally:  # what was said of a burst that is cut short may become a row as well
            if self.witness is not None:
                by_chance = self.witness.said(fix, SKY, epoch, bytes(line.heard))
                if line.fault is not None:
                    line.fault.passed_by_chance += by_chance
