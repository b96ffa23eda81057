"""What every sink does. All calls come from one thread, one at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from swapline_gateway.reading import FrameRows


@dataclass(frozen=True, slots=True)
class Written:
    """What a sink did with a batch: `duplicates` are frames that it had already (after a kill, or a retry)."""

    frame_count: int
    row_count: int
    value_count: int
    duplicates: int


class Sink(Protocol):
    """A database that takes frames."""

    name: str

    def open(self) -> None:
        """Connect and make what is missing. Raises `SinkBusyError`, or `GatewayError` for what only people can fix."""

    def write(self, frames: Sequence[FrameRows]) -> Written:
        """Store all of these frames, repeats only once.

        Raises `SinkBusyError` or `SinkRejectedError`; after either, any part may have been stored, and the same frames
        may be given again.
        """

    def close(self) -> None:
        """Let go of connection and files."""


def count_written(frames: Sequence[FrameRows], *, duplicates: int) -> Written:
    """Add up what the frames hold."""
    rows = sum(frame.row_count for frame in frames)
    return Written(len(frames), rows, sum(frame.value_count for frame in frames), duplicates)
