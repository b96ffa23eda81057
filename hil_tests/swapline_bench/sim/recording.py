"""Recordings of a serial line, read into what can be played: of a device that is asked, or that talks by itself."""

import re
from pathlib import Path
from typing import NamedTuple

from swapline_bench.capture import CaptureError, read_capture_file
from swapline_bench.replay import Chunk, Exchange, read_nmea
from swapline_bench.sim.error import UnavailableError

_NMEA = re.compile(rb"^\$[A-Z]{5},", re.MULTILINE)


class Recording(NamedTuple):
    """Exchanges of a device that is asked, or chunks of one that talks by itself; `skipped` could not be read."""

    exchanges: list[Exchange]
    chunks: list[Chunk]
    skipped: list[str]


def read_recording(path: Path) -> Recording:
    """Read a recording. Raises `UnavailableError` where there is nothing in it that could be played."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnavailableError(f"{path} cannot be read: {error.strerror}.") from None
    if _NMEA.search(data) and b">>>" not in data:
        return Recording([], read_nmea(path), [])
    try:
        capture = read_capture_file(path)
    except CaptureError as error:
        raise UnavailableError(f"{error} An NMEA log will do as well.") from None
    return Recording(capture.exchanges, [], capture.skipped)
