"""NMEA 0183 sentences: cut from a byte stream, checked, and read field by field without floats or copies.

Source: NMEA 0183 4.10. `$`, talker and type, fields behind commas, `*`, two hex digits: the XOR of all between `$` and
`*`.
"""

from micropython import const

SENTENCE_BYTES_MAX = 128  # the standard says 82; multi-band receivers send longer ones

# What became of a line.
GOOD = 0
EMPTY = 1
TORN = 2  # no whole sentence: cut, run together, or not NMEA
DAMAGED = 3  # a whole sentence whose checksum is wrong

SOUTH = 0x53
WEST = 0x57
_NORTH = const(0x4E)
_EAST = const(0x45)
_COMMA = const(0x2C)
_DOLLAR = const(0x24)
_EXCLAMATION = const(0x21)
_STAR = const(0x2A)
_DOT = const(0x2E)
_MINUS = const(0x2D)
_FIELDS_MAX = const(40)


def _hex_digit(byte: int) -> int:
    if 0x30 <= byte <= 0x39:
        return byte - 0x30
    if 0x41 <= byte <= 0x46:
        return byte - 0x37
    if 0x61 <= byte <= 0x66:
        return byte - 0x57
    return -1


class Sentence:
    """One line at a time: `take` bytes until it is complete, `check` it, read its fields by number (0: address).

    Readers of fields return None for an empty field and raise `ValueError` for one that is not what it should be.
    """

    def __init__(self) -> None:
        self.has_noise = False  # something before the last checked sentence, in its line, was lost
        self.rest = 0  # bytes of the chunk that `take` has used
        self._line = bytearray(SENTENCE_BYTES_MAX)
        self._length = 0
        self._is_complete = False
        self._is_overlong = False
        self._starts = bytearray(_FIELDS_MAX + 1)
        self._field_count = 0

    def take(self, chunk: bytes, start: int) -> bool:
        """Add bytes of `chunk` from `start` up to its next line end. Return whether the line is complete now."""
        if self._is_complete:
            self._length = 0
            self._is_complete = self._is_overlong = False
        end = chunk.find(b"\n", start)
        self._is_complete = end >= 0
        stop = end if end >= 0 else len(chunk)
        self.rest = stop + 1
        if stop - start + self._length > SENTENCE_BYTES_MAX:
            self._keep_end(chunk, start, stop)
            return self._is_complete
        self._line[self._length : self._length + stop - start] = chunk[start:stop]
        self._length += stop - start
        return self._is_complete

    def _keep_end(self, chunk: bytes, start: int, stop: int) -> None:
        """Keep the last bytes of a line that is too long: a sentence may follow noise without a line end."""
        joined = (bytes(self._line[: self._length]) + chunk[start:stop])[-SENTENCE_BYTES_MAX:]
        self._line[: len(joined)] = joined
        self._length = len(joined)
        self._is_overlong = True

    def check(self) -> int:
        """Say whether the complete line is a good sentence: GOOD, EMPTY, TORN or DAMAGED.

        After noise or a torn sentence in the same line, the good sentence at its end still counts as good, and
        `has_noise` says that something before it was lost.
        """
        line = self._line
        end = self._length
        while end and line[end - 1] <= 0x20:
            end -= 1
        if not end:
            return TORN if self._is_overlong else EMPTY
        start = end - 1
        while start and line[start] != _DOLLAR and line[start] != _EXCLAMATION:
            start -= 1
        self.has_noise = start > 0 or self._is_overlong
        if line[start] not in (_DOLLAR, _EXCLAMATION) or end - start < 9 or line[end - 3] != _STAR:
            return TORN
        return self._index_fields(start + 1, end - 3)

    def _index_fields(self, start: int, star: int) -> int:
        """Find the fields between `$` and `*`, and compare the checksum on the way."""
        line = self._line
        starts = self._starts
        starts[0] = start
        count = 1
        checksum = 0
        for i in range(start, star):
            byte = line[i]
            checksum ^= byte
            if byte == _COMMA and count < _FIELDS_MAX:
                starts[count] = i + 1
                count += 1
        starts[count] = star + 1
        self._field_count = count
        if _hex_digit(line[star + 1]) << 4 | _hex_digit(line[star + 2]) != checksum:
            return DAMAGED
        return GOOD

    def type_code(self) -> int:
        """Return the three letters of the sentence's type as one number; 0 for a proprietary sentence."""
        start = self._starts[0]
        line = self._line
        if self._starts[1] - start != 6 or line[start] == 0x50:
            return 0
        return line[start + 2] << 16 | line[start + 3] << 8 | line[start + 4]

    def talker(self) -> int:
        """Return the second letter of the talker: P GPS, L GLONASS, A Galileo, B BeiDou, N several."""
        return self._line[self._starts[0] + 1]

    def character(self, field: int) -> int:
        """Return a field's first byte, or 0 if it is empty."""
        return self._line[self._starts[field]] if self._width(field) > 0 else 0

    def number(self, field: int, decimals: int) -> "int | None":
        """Return a decimal field times 10**decimals, rounded half away from zero."""
        start = self._starts[field] if field < self._field_count else 0
        end = start + self._width(field)
        return self._number(start, end, decimals) if end > start else None

    def time_ms(self, field: int) -> "int | None":
        """Return the milliseconds since midnight of a field `hhmmss.sss`."""
        width = self._width(field)
        if width <= 0:
            return None
        start = self._starts[field]
        if width < 6:
            raise ValueError("time")
        hour = self._number(start, start + 2, 0)
        minute = self._number(start + 2, start + 4, 0)
        second_ms = self._number(start + 4, start + width, 3)
        if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second_ms < 61000):
            raise ValueError("time")
        return (hour * 60 + minute) * 60000 + second_ms

    def day(self, field: int) -> "int | None":
        """Return the days since 1970 of a field `ddmmyy`."""
        width = self._width(field)
        if width <= 0:
            return None
        start = self._starts[field]
        if width != 6:
            raise ValueError("date")
        year = self._number(start + 4, start + 6, 0)
        return days_since_1970(
            year + (1900 if year >= 80 else 2000),
            self._number(start + 2, start + 4, 0),
            self._number(start, start + 2, 0),
        )

    def angle(self, field: int, degrees_max: int, negative: int) -> "int | None":
        """Return 1e-7 degrees of the fields `dddmm.mmmm` and hemisphere; `negative` is `SOUTH` or `WEST`."""
        width = self._width(field)
        if width <= 0:
            return None
        start = self._starts[field]
        line = self._line
        dot = start
        while dot < start + width and line[dot] != _DOT:
            dot += 1
        if dot - start < 3:
            raise ValueError("angle")
        degrees = self._number(start, dot - 2, 0)
        minutes_e7 = self._number(dot - 2, start + width, 7)
        hemisphere = self.character(field + 1)
        positive = _NORTH if negative == SOUTH else _EAST
        if degrees < 0 or not 0 <= minutes_e7 < 600000000 or hemisphere not in (negative, positive):
            raise ValueError("angle")
        angle = degrees * 10000000 + (minutes_e7 + 30) // 60
        if angle > degrees_max * 10000000:
            raise ValueError("angle")
        return -angle if hemisphere == negative else angle

    def decimals(self, field: int) -> int:
        """Return how many digits follow a field's decimal point."""
        start = self._starts[field]
        width = self._width(field)
        for i in range(start, start + width):
            if self._line[i] == _DOT:
                return start + width - i - 1
        return 0

    def _width(self, field: int) -> int:
        if field >= self._field_count:
            return 0
        return self._starts[field + 1] - self._starts[field] - 1

    def _number(self, start: int, end: int, decimals: int) -> int:
        """Return a decimal number in the line times 10**decimals, rounded by the first digit too many."""
        line = self._line
        is_negative = line[start] == _MINUS
        if is_negative:
            start += 1
        if start >= end:
            raise ValueError("number")
        value = 0
        places = -1  # digits behind the point so far
        round_up = False
        for i in range(start, end):
            byte = line[i]
            if byte == _DOT and places < 0:
                places = 0
                continue
            if not 0x30 <= byte <= 0x39:
                raise ValueError("number")
            if places < decimals:
                value = value * 10 + byte - 0x30
                places += places >= 0
            elif places == decimals:
                round_up = byte >= 0x35
                places += 1
        for _ in range(max(places, 0), decimals):
            value *= 10
        value += round_up
        return -value if is_negative else value


_DAYS_BEFORE = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365)


def days_since_1970(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01 to a date of 1970 to 2099. Raises `ValueError` for one that does not exist."""
    if not 1 <= month <= 12:
        raise ValueError("date")
    leap = year % 4 == 0
    length = _DAYS_BEFORE[month] - _DAYS_BEFORE[month - 1] + (leap and month == 2)
    if not 1 <= day <= length:
        raise ValueError("date")
    return (year - 1970) * 365 + (year - 1969) // 4 + _DAYS_BEFORE[month - 1] + (leap and month > 2) + day - 1
