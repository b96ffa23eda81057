"""GNSS receiver that talks NMEA 0183 by itself: RMC, GGA, GLL, GSA, GSV, VTG and ZDA of any talker; one row an epoch.

An epoch is all sentences that state one time of day. It is complete when a sentence states another one; or when the
line falls silent after the sentence that ended the epoch before; or when the line stays silent. So neither the first
nor the last epoch is lost, whatever sentences a receiver sends and in which order. The row's time is the epoch's own
UTC. Without a fix the receiver's clock is not believed: such a row says "no fix" at the node's own time.

A wrong time that is plausible must not become a row's time: an epoch that the clock contradicts is counted, and its row
stands at the node's own time. The clock is told all of them, and decides whether the time has really moved.

In a recording that is played (`clock.is_recording`) the clock knows nothing of the receiver's time. Then an epoch is
believed at once if it follows the last one or agrees with the clock; another one is held until the next. If that is as
it should have been, the held one was a glitch. Else the recording has a gap, and the row stands at the time it states.

Sentences without a time (GSA, GSV, VTG) belong to the epoch in which they arrive. Of two sentences that state the same
quantity the more exact one counts: the position with more digits, VTG's km/h before RMC's knots.
"""

from micropython import const

from swapline_node.driver import Driver
from swapline_wire.catalogue import POSITION, TIME_GNSS, not_available

from .nmea import DAMAGED, EMPTY, GOOD, SOUTH, WEST, Sentence, days_since_1970

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from swapline_node.bus import Bus
    from swapline_node.clock import Clock
    from swapline_node.counter import Counters
    from swapline_node.sampler import Sampler

_PAUSE_MS = const(150)  # a receiver sends an epoch in one go: gaps inside are shorter, the gap behind it is longer
_SILENCE_MS = const(1500)  # after so long without a byte nothing more of this epoch will come
_GAP_MS = const(300)  # what comes after such a gap, and so long after the epoch began, belongs to another one,
_EPOCH_MS = const(800)  # even if the sentence that has its time was lost
_DAY_MS = const(86400000)
_NEXT_MS_MAX = const(10000)  # an epoch so soon after the last one follows it

_RMC = const(0x524D43)
_GGA = const(0x474741)
_GLL = const(0x474C4C)
_GSA = const(0x475341)
_GSV = const(0x475356)
_VTG = const(0x565447)
_ZDA = const(0x5A4441)
_TIMED = (_RMC, _GGA, _GLL)
_ACTIVE = const(0x41)  # "A"
_SNR_EMPTY = not_available(POSITION.signals)[-1]
_NO_FIX = const(0x4E)  # "N"


class Gnss(Driver):
    """One receiver, alone on its line."""

    STREAMS = (POSITION,)
    listens = True

    def __init__(
        self, sampler: "Sampler", clock: "Clock", counters: "Counters", device_config: "dict[str, Any]"
    ) -> None:
        super().__init__(clock, counters, device_config)
        source = self._source = sampler.source(POSITION)
        self._latitude = source.index("latitude_deg")
        self._longitude = source.index("longitude_deg")
        self._altitude = source.index("altitude_m")
        self._speed = source.index("speed_kmh")
        self._heading = source.index("heading_deg")
        self._quality = source.index("fix_quality")
        self._mode = source.index("fix_mode")
        self._used = source.index("satellites_used")
        self._in_view = source.index("satellites_in_view")
        self._hdop = source.index("hdop")
        self._pdop = source.index("pdop")
        self._vdop = source.index("vdop")
        self._snr = source.index("snr_max_db")
        self._sentence = Sentence()
        self._day = -1  # days since 1970 of the last epoch, -1: never told
        self._last_time_ms = 0  # its time of day
        self._last_utc_ms = 0  # of the last epoch that was believed
        self._held = list(source.values)  # a row whose time is in doubt
        self._held_utc_ms = 0  # 0: none is held
        self._held_heard_ms = 0
        self._last_type = 0  # type of the last good sentence
        self._end_type = 0  # type of the sentence that ended the last epoch
        self._visible = bytearray(26)  # satellites in view by the talker's second letter
        self._reset()

    async def run(self, bus: "Bus") -> None:
        """Hear the receiver for ever; what it has said of an epoch is kept even when this task is cancelled."""
        silent_ms = 0
        try:
            while True:
                chunk = await bus.listen(_PAUSE_MS)
                if chunk:
                    if silent_ms >= _GAP_MS and self.clock.uptime_ms() - self._heard_ms >= _EPOCH_MS:
                        self.finish_epoch()
                    silent_ms = 0
                    self.feed(chunk)
                else:
                    silent_ms += _PAUSE_MS
                    if self._last_type == self._end_type or silent_ms >= _SILENCE_MS:
                        self.finish_epoch()
                    if silent_ms >= _NEXT_MS_MAX:
                        self._settle_held(is_glitch=False)
        finally:
            self.finish_epoch()
            self._settle_held(is_glitch=False)

    def feed(self, chunk: bytes) -> None:
        """Take bytes as they come."""
        start = 0
        while start < len(chunk):
            if self._sentence.take(chunk, start):
                self._take_line()
            start = self._sentence.rest

    def finish_epoch(self) -> None:
        """Commit the row of the epoch that is being heard, if there is one."""
        if self._types:
            self._set_in_view()
            utc_ms = self._utc_ms() if self._has_fix else None
            if utc_ms is None:
                self._source.commit()
            elif self.clock.is_recording:
                self._judge(utc_ms)
            else:
                self._believe(utc_ms, self._heard_ms)
            self._end_type = self._last_type
            self._reset()

    def _judge(self, utc_ms: int) -> None:
        """Commit the row at the time that it states, or hold it until the next epoch tells whether that is true."""
        follows_held = 0 < utc_ms - self._held_utc_ms <= _NEXT_MS_MAX
        self._settle_held(is_glitch=not follows_held and self._is_credible(utc_ms))
        if self._is_credible(utc_ms):
            self._believe(utc_ms, self._heard_ms)
        else:
            self._held[:] = self._source.values
            self._held_utc_ms = utc_ms
            self._held_heard_ms = self._heard_ms

    def _is_credible(self, utc_ms: int) -> bool:
        if 0 < utc_ms - self._last_utc_ms <= _NEXT_MS_MAX or not self.clock.quality:
            return True
        return self.clock.has_said(utc_ms, self._heard_ms)

    def _believe(self, utc_ms: int, heard_ms: int) -> None:
        """Commit the row at the time that it states; at the node's own where the clock contradicts it."""
        self._last_utc_ms = utc_ms
        self._day = utc_ms // _DAY_MS
        self._last_time_ms = utc_ms % _DAY_MS
        self.clock.offer(TIME_GNSS, utc_ms, heard_ms)
        if self.clock.is_recording or self.clock.has_said(utc_ms, heard_ms):
            self._source.commit(utc_ms=utc_ms)
            return
        if self.clock.quality:
            self.counters.count("bus_protocol_errors")
        self._source.commit(read_ms=heard_ms)

    def _settle_held(self, *, is_glitch: bool) -> None:
        """Commit a held row, at the time that it states or, if that is a glitch, at the node's own."""
        utc_ms = self._held_utc_ms
        if not utc_ms:
            return
        self._held_utc_ms = 0
        self._swap_held()
        if is_glitch:
            self.counters.count("bus_protocol_errors")
            self._source.commit(read_ms=self._held_heard_ms)
        else:
            self._believe(utc_ms, self._held_heard_ms)
        self._swap_held()

    def _swap_held(self) -> None:
        values = self._source.values
        for i in range(len(values)):
            values[i], self._held[i] = self._held[i], values[i]

    def _reset(self) -> None:
        self._source.clear()
        self._types = 0  # bit i: `_TIMED[i]` was heard
        self._time_ms = -1  # time of day of the epoch that is being heard, -1: not told
        self._epoch_day = -1
        self._has_fix = False
        self._heard_ms = 0
        self._position_decimals = -1
        self._has_vtg_speed = False
        self._has_gsv = False
        for i in range(len(self._visible)):
            self._visible[i] = 0

    def _take_line(self) -> None:
        """Check a line, count what is wrong with it, and take its sentence."""
        sentence = self._sentence
        result = sentence.check()
        if result == EMPTY:
            return
        if result == DAMAGED:
            self.counters.count("bus_checksum_errors")
        elif result != GOOD or sentence.has_noise:
            self.counters.count("bus_protocol_errors")
        if result != GOOD:
            return
        try:
            self._take_sentence(sentence.type_code())
        except ValueError:
            self.counters.count("bus_protocol_errors")

    def _take_sentence(self, kind: int) -> None:
        sentence = self._sentence
        if kind in _TIMED:
            time_ms = sentence.time_ms(5 if kind == _GLL else 1)
            if not self._enter_epoch(kind, -1 if time_ms is None else time_ms):
                return
        if kind == _RMC:
            self._take_rmc()
        elif kind == _GGA:
            self._take_gga()
        elif kind == _GLL:
            self._take_position(1, sentence.character(6) == _ACTIVE)
        elif kind == _GSA:
            self._take_gsa()
        elif kind == _GSV:
            self._take_gsv()
        elif kind == _VTG:
            self._take_vtg()
        elif kind == _ZDA:
            self._take_zda()
        self._last_type = kind

    def _enter_epoch(self, kind: int, time_ms: int) -> bool:
        """Find the epoch that a timed sentence belongs to. Return False for a sentence that was already heard in it."""
        bit = 1 << _TIMED.index(kind)
        is_same_time = time_ms == self._time_ms
        if self._types & bit and is_same_time and time_ms >= 0:
            self.counters.count("bus_protocol_errors")
            return False
        if self._types & bit or (not is_same_time and time_ms >= 0 and self._time_ms >= 0):
            self.finish_epoch()
        if not self._types:
            self._heard_ms = self.clock.uptime_ms()
            if not self.clock.quality:  # this epoch may anchor the clock: not on the millisecond of a row without fix
                self._heard_ms = max(self._heard_ms, self._source.last_row_ms() + 1)
        self._types |= bit
        if time_ms >= 0:
            self._time_ms = time_ms
        return True

    def _take_position(self, field: int, is_valid: bool) -> None:
        sentence = self._sentence
        latitude = sentence.angle(field, 90, SOUTH)
        longitude = sentence.angle(field + 2, 180, WEST)
        if not is_valid or latitude is None or longitude is None:
            return
        self._has_fix = True
        decimals = sentence.decimals(field)
        if decimals > self._position_decimals:
            self._position_decimals = decimals
            self._source.values[self._latitude] = latitude
            self._source.values[self._longitude] = longitude

    def _take_rmc(self) -> None:
        sentence = self._sentence
        knots = sentence.number(7, 3)
        heading = sentence.number(8, 2)
        day = sentence.day(9)
        is_active = sentence.character(2) == _ACTIVE
        self._take_position(3, is_active)
        if not is_active:
            return
        if day is not None:
            self._epoch_day = day
        if knots is not None and not self._has_vtg_speed:
            self._source.values[self._speed] = (knots * 1852 + 5000) // 10000
        self._put(self._heading, heading)

    def _take_gga(self) -> None:
        sentence = self._sentence
        quality = sentence.number(6, 0)
        used = sentence.number(7, 0)
        hdop = sentence.number(8, 2)
        altitude = sentence.number(9, 2)
        self._take_position(2, bool(quality))
        self._put(self._quality, quality)
        self._put(self._used, used)
        self._put(self._hdop, hdop)
        self._put(self._altitude, altitude)

    def _take_gsa(self) -> None:
        sentence = self._sentence
        mode = sentence.number(2, 0)
        pdop = sentence.number(15, 2)
        hdop = sentence.number(16, 2)
        vdop = sentence.number(17, 2)
        self._put(self._mode, mode)
        self._put(self._pdop, pdop)
        self._put(self._hdop, hdop)
        self._put(self._vdop, vdop)

    def _take_gsv(self) -> None:
        sentence = self._sentence
        in_view = sentence.number(3, 0)
        values = self._source.values
        for field in (7, 11, 15, 19):
            snr = sentence.number(field, 0)
            if snr is not None and (values[self._snr] == _SNR_EMPTY or snr > values[self._snr]):
                values[self._snr] = snr
        letter = sentence.talker() - 0x41
        if in_view is not None and 0 <= letter < 26:
            self._has_gsv = True
            self._visible[letter] = max(self._visible[letter], min(in_view, 255))

    def _take_vtg(self) -> None:
        sentence = self._sentence
        heading = sentence.number(1, 2)
        speed = sentence.number(7, 2)
        if sentence.character(9) == _NO_FIX:
            return
        self._put(self._heading, heading)
        if speed is not None:
            self._has_vtg_speed = True
            self._source.values[self._speed] = speed

    def _take_zda(self) -> None:
        sentence = self._sentence
        day = sentence.number(2, 0)
        month = sentence.number(3, 0)
        year = sentence.number(4, 0)
        if day is not None and month is not None and year is not None and self._epoch_day < 0:
            self._epoch_day = days_since_1970(year, month, day)

    def _put(self, place: int, value: "int | None") -> None:
        if value is not None:
            self._source.values[place] = value

    def _set_in_view(self) -> None:
        """Add up what each constellation sees; a satellite on two signals is one satellite."""
        if self._has_gsv:
            self._source.values[self._in_view] = sum(self._visible)

    def _utc_ms(self) -> "int | None":
        """Return the epoch's UTC. A lost RMC does not cost the date: it is the last epoch's, or the day after."""
        if self._time_ms < 0:
            return None
        day = self._epoch_day
        if day < 0:
            if self._day < 0:
                return None
            day = self._day + (self._time_ms < self._last_time_ms - _DAY_MS // 2)
        return day * _DAY_MS + self._time_ms
