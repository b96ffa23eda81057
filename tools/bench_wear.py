"""Measure what the node's journal costs a board's flash: the erases of a day, on MicroPython's own LittleFS.

`python tools/bench_wear.py [--days N]`. The frames are those of a van with three modules at the default settings, as
the firmware sealed them on the bench (speed 1): three minutes in city traffic, two minutes parked. Two days are tried,
both of six boots, with two of the driven hours without link and without a pause in what is driven: 10 h of driving and
14 h of standing with the electronics on; and round the clock, 20 h of driving and 4 h of standing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BLOCKS = 512  # 2 MiB
CYCLES = 100_000
LIMIT_BYTES = 1_500_000
INTERVALS_PER_H = 720
DAYS_PER_YEAR = 365.25
JOURNAL_PARTITION = (128, 32)  # read and program bytes: LittleFS keeps files of 512 bytes inline (decision 0016)
ROOT_FILE_SYSTEM = (32, 32)  # as MicroPython mounts it
_FULL = [146, 440, 123, 440, 123, 440, 123, 356, 201]  # lengths of one interval's frames, every row kept
_MOST = [146, 440, 440, 440, 356, 201]
PROFILES = {
    "driving": [
        [146, 366, 366, 366, 356, 201],
        [146, 144, 123, 144, 123, 218, 123, 356, 201],
        [146, 218, 218, 218, 356, 201],
        [144, 144, 144, 232, 201],
        [146, 144, 144, 144, 232, 201],
        [146, 144, 144, 232, 201],
        [218, 218, 144, 232, 201],
        _FULL,
        _MOST,
        [146, 366, 123, 366, 123, 440, 123, 356, 201],
        [146, 366, 218, 292, 356, 201],
        [144, 123, 218, 123, 292, 123, 356, 201],
        [146, 292, 292, 366, 356, 201],
        [366, 123, 366, 123, 366, 123, 356, 201],
        [146, 292, 218, 292, 356, 201],
        [146, 218, 218, 218, 356, 201],
        [440, 440, 366, 356, 201],
        _MOST,
        _FULL[1:],
        _MOST,
        [292, 123, 292, 123, 366, 123, 108, 77],
        [146, 144, 144, 144],
        [144, 218],
        [146, 292],
        [218, 218, 218],
        [144, 144, 144],
        _FULL[1:],
        _MOST,
        _FULL[1:],
        _MOST,
        _FULL,
        _MOST,
        [146, 144, 218, 108, 77],
        [218, 218, 218, 170, 108],
        _FULL,
        [146, 108],
    ],
    "standing": [
        *([146], [146], [146], [], [146, 144], [], [], [146], [], [146, 144, 144, 108, 77], []),
        *([], [], [146], [], [], [], [146, 144], [], [], [146, 144], [144, 144]),
    ],
    "every row": [_FULL],
}
Steps = list[tuple[str, int, bool]]  # profile, sealing intervals, is the gateway there; each step begins with a boot


def make_day(driving_h: int) -> Steps:
    """Return a day with so many hours of driving, two of them without link, in six boots."""
    part_h, half_h = (driving_h - 2) / 3, (24 - driving_h) / 2
    driving = ("driving", round(part_h * INTERVALS_PER_H), True)
    standing = ("standing", round(half_h * INTERVALS_PER_H), True)
    return [driving, ("driving", 2 * INTERVALS_PER_H, False), driving, driving, standing, standing]


DAYS = {"10 h driving, 14 h standing": make_day(10), "20 h driving, 4 h standing": make_day(20)}


def measure(days: Steps, mount: tuple[int, int] = JOURNAL_PARTITION) -> dict[str, Any]:
    """Run the steps of `days` on a fresh file system; return what the script printed."""
    asked = {
        "read_bytes": mount[0],
        "program_bytes": mount[1],
        "blocks": BLOCKS,
        "limit_bytes": LIMIT_BYTES,
        "profiles": PROFILES,
        "days": days,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(asked, file)
        file.flush()
        script = ROOT / "tests" / "node" / "scripts" / "flash_wear.py"
        program = Path(sys.executable).with_name("micropython")
        command = [str(program), "-X", "heapsize=32M", str(script), file.name]
        environment = {**os.environ, "MICROPYPATH": f"{ROOT / 'firmware'}:.frozen"}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return figures


def years(erases_per_day: float) -> float:
    """Return how long the partition lasts if its erases lie evenly."""
    return BLOCKS * CYCLES / erases_per_day / DAYS_PER_YEAR


def print_intervals(mount: tuple[int, int]) -> None:
    """Print what one sealing interval costs, by what the van does and whether the gateway answers."""
    for profile, intervals in PROFILES.items():
        steps = [(profile, INTERVALS_PER_H, True), (profile, INTERVALS_PER_H, False)]
        online, offline = (step[3] / step[1] for step in measure(steps, mount)["steps"])
        size = sum(map(sum, intervals)) / len(intervals)
        print(f"  {profile:10}{size:7.0f} bytes an interval{online:8.2f} erases{offline:8.2f} without gateway")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=1)
    days = parser.parse_args().days
    for name, mount in (("partition `journal`", JOURNAL_PARTITION), ("root file system", ROOT_FILE_SYSTEM)):
        print(f"journal, {name} (readsize={mount[0]}, progsize={mount[1]}), {BLOCKS} blocks, {days} days each:")
        for day, steps in DAYS.items():
            figures = measure(steps * days, mount)
            per_day = figures["erases"] / days
            print(f"  {day}: {per_day:,.0f} erases a day, {years(per_day):.1f} years of {CYCLES:,} cycles")
            print(f"    most erased block {figures['erases_block_max']}, mean {figures['erases'] / BLOCKS:.1f}")
        print_intervals(mount)


if __name__ == "__main__":
    main()
