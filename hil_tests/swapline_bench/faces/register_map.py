"""The common shape of the two register maps that this project defines: vehicle controller and slot charger.

Source: docs/vehicle-controller.md and docs/slot-charger.md. A header of four registers (map, version, alive counter,
reserved), then signals; a value that is None travels as the type's "not available" code.
"""

import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from swapline_bench.faces import modbus

MAP_VERSION = 2
REFRESH_S = 0.2  # "at least once a second"

# type -> (words, smallest, largest, not-available code)
_TYPES = {
    "u16": (1, 0, 0xFFFD, 0xFFFF),
    "i16": (1, -0x7FFE, 0x7FFF, 0x8000),
    "u32": (2, 0, 0xFFFFFFFD, 0xFFFFFFFF),
    "i32": (2, -0x7FFFFFFE, 0x7FFFFFFF, 0x80000000),
}


class Field(NamedTuple):
    """One signal: its place, and how its number becomes an integer."""

    address: int
    name: str
    type: str
    decimals: int


def rounded(field: Field, value: float) -> int:
    """Return the signal's integer; a device shows its end stop, it does not wrap."""
    _, smallest, largest, _ = _TYPES[field.type]
    raw: int = min(max(round(value * 10**field.decimals), smallest), largest)
    return raw


def encode(field: Field, value: float | None) -> list[int]:
    """Return the signal's registers, high word first."""
    words, _, _, not_available = _TYPES[field.type]
    raw = not_available if value is None else rounded(field, value)
    return [raw >> 16 & 0xFFFF, raw & 0xFFFF] if words == 2 else [raw & 0xFFFF]


class MapUnit(modbus.Unit):
    """A unit whose registers are refreshed together: all of one answer belong to one value of the alive counter."""

    def __init__(
        self, magic: int, fields: Sequence[Field], values: Callable[[str], float | None], clock_s: Callable[[], float]
    ) -> None:
        self._magic = magic
        self._fields = fields
        self._values = values
        self._clock_s = clock_s
        self._refreshed_s = float("-inf")
        self.alive = 0
        self.stated: dict[str, float] = {}  # the signals that have a value, as their registers show them
        self._words: list[int] = []

    def is_whole(self, request: bytes) -> bool:
        """Say whether a request asks for the whole map, header and all."""
        start, count = struct.unpack(">HH", request[2:6])
        return bool(start == 0 and count == len(self._words))

    def blocks(self, function: int) -> Mapping[int, Sequence[int]]:
        """Return the whole map; functions 3 and 4 read the same registers."""
        del function
        now_s = self._clock_s()
        if now_s - self._refreshed_s >= REFRESH_S:
            self._refreshed_s = now_s
            self._refresh()
        return {0: self._words}

    def _refresh(self) -> None:
        self.alive = (self.alive + 1) & 0xFFFF
        self._words = [self._magic, MAP_VERSION, self.alive, 0]
        self.stated = {}
        for field in self._fields:
            assert field.address == len(self._words)
            value = self._values(field.name)
            self._words += encode(field, value)
            if value is not None:
                self.stated[field.name] = rounded(field, value) / 10**field.decimals


def steady_clock_s() -> float:
    """Return real seconds that never step."""
    return time.monotonic()
