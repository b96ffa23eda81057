"""Frames of known rows, written into a sink as the pump does it."""

from swapline_bench.frame_source import FrameSource
from swapline_gateway.reading import read_rows
from swapline_gateway.sinks.base import Sink
from swapline_gateway.spool import SpooledFrame


def write(sink: Sink, source: FrameSource, *frames: bytes) -> None:
    spooled = [SpooledFrame(0, source.fleet, source.node, source.anchor_utc_ms, 3, 0, data) for data in frames]
    sink.write([read_rows(frame) for frame in spooled])
