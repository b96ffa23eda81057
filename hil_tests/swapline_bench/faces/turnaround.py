"""How long devices think: from a request's last character to the answer's first.

Only the UP16S was recorded with times, and those need reading: its recorder noted a request at the answer's first
character, or after 0.15 s without one. docs/simulators.md derives the figure; a test repeats it on the recording. The
others were recorded without times: theirs are assumptions, inside what the devices' users and documents allow.
"""

from random import Random
from typing import NamedTuple


class Turnaround(NamedTuple):
    """Shortest, most frequent and longest; `is_measured` says whether a recording stands behind them."""

    min_s: float
    typical_s: float
    max_s: float
    is_measured: bool = False

    def draw(self, random: Random) -> float:
        """Return one answer's turnaround."""
        return random.triangular(self.min_s, self.max_s, self.typical_s)


TURNAROUNDS = {
    "jbd": Turnaround(0.020, 0.030, 0.060),
    "jbd_up16s": Turnaround(0.035, 0.045, 0.060, is_measured=True),
    "jk": Turnaround(0.010, 0.020, 0.060),
    "seplos_v3": Turnaround(0.005, 0.010, 0.030),
    "sdm630": Turnaround(0.010, 0.020, 0.060),
    "slot_charger": Turnaround(0.005, 0.010, 0.030),  # their pages ask for less than 100 ms
    "vcu": Turnaround(0.005, 0.010, 0.030),
}
