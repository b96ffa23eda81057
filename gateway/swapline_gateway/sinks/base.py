"""What every sink does. All calls come from one thread, one at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from swapline_gateway.error import SinkBusyError
from swapline_gateway.reading import FrameRows


class Refusal(NamedTuple):
    """A frame of which the sink refuses some rows for ever; the others are stored."""

    frame_index: int  # in the batch
    detail: str  # which rows, and the database's own words


@dataclass(frozen=True, slots=True)
class Written:
    """What a sink did with a batch: `duplicates` are frames that it had already (after a kill, or a retry).

    `frame_count` counts whole frames, `row_count` and `value_count` also the good rows of partly refused ones.
    `unsettled` are indexes of frames of which nothing is known yet: they must be given again. `trouble` says what
    interrupted the batch.
    """

    frame_count: int
    row_count: int
    value_count: int
    duplicates: int
    refused: tuple[Refusal, ...] = ()
    unsettled: frozenset[int] = frozenset()
    trouble: SinkBusyError | None = None


class Sink(Protocol):
    """A database that takes frames."""

    name: str

    def open(self) -> None:
        """Connect and make what is missing. Raises `SinkBusyError`, or `GatewayError` for what only people can fix."""

    def write(self, frames: Sequence[FrameRows]) -> Written:
        """Store all of these frames, repeats only once.

        A sink that finds guilty rows by itself names their frames in what it returns. Raises `SinkBusyError` or
        `SinkRejectedError`; after either, any part may have been stored, and the same frames may be given again.
        """

    def close(self) -> None:
        """Let go of connection and files."""


def count_written(frames: Sequence[FrameRows], *, duplicates: int) -> Written:
    """Add up what the frames hold."""
    rows = sum(frame.row_count for frame in frames)
    return Written(len(frames), rows, sum(frame.value_count for frame in frames), duplicates)
