"""Say what an MQTT message carries: frames with their rows, acknowledged ranges, or text.

Rows stay raw integers; the page scales them with the catalogue's columns, which `columns` gives for the streams used.
"""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from swapline_gateway.alarm_meaning import sentence
from swapline_wire import catalogue, catalogue_text, message, topic
from swapline_wire.catalogue import FORMATS, Stream
from swapline_wire.decode import Decoded, decode
from swapline_wire.error import WireError

TEXT_CHARACTERS_MAX = 400
_QUALITIES = {
    value: name.removeprefix("TIME_").lower()
    for name, value in vars(catalogue).items()
    if name.startswith("TIME_") and isinstance(value, int)
}


class Payload(NamedTuple):
    """One message in a line of text and, for frames, in tables; `channel` is the last part of its topic."""

    channel: str
    text: str
    frames: list[dict[str, Any]]


def describe(name: str, payload: bytes) -> Payload:
    """Describe a message; what cannot be read says why."""
    try:
        channel = topic.parse_topic(name).channel
    except WireError:
        return Payload("other", _text(payload), [])
    try:
        if channel in topic.FRAMES:
            return _describe_frames(channel, payload)
        if channel == topic.ACK:
            return Payload(channel, _describe_ack(payload), [])
        if channel == topic.ALARM:
            return Payload(channel, _describe_alarm(payload), [])
    except WireError as error:
        return Payload(channel, f"cannot be read: {error}", [])
    return Payload(channel.partition("/")[0], _text(payload), [])


def _describe_frames(channel: str, payload: bytes) -> Payload:
    journal, anchors, offset = message.read_up_head(payload)
    frames, summaries = [], []
    for data in message.split_frames(payload, offset):
        frame = decode(bytes(data))
        frames.append(_frame(frame))
        summaries.append(_summary(frame))
    notes = [f"anchor of boot {anchor.boot}" for anchor in anchors]
    return Payload(channel, ", ".join([*notes, *summaries]) or f"journal {journal:08x}, no frames", frames)


def _describe_alarm(payload: bytes) -> str:
    try:
        told = json.loads(payload)
        return f"{told['module'] or told['node']}: {sentence(told['keys'], told['values'])}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return _text(payload)


def _describe_ack(payload: bytes) -> str:
    ranges = [f"{first}" if first == last else f"{first}-{last}" for first, last in message.read_ack(payload).ranges]
    return f"stored: frames {', '.join(ranges)}" if ranges else "stored: none"


def _summary(frame: Decoded) -> str:
    header = frame.header
    where = f" bay {header.bay}" if header.bay else ""
    rows = f" x{header.row_count}" if header.row_count > 1 else ""
    return f"#{header.seq} {frame.stream.name}{where}{rows}"


def _frame(frame: Decoded) -> dict[str, Any]:
    header = frame.header
    return {
        "stream": frame.stream.name,
        "seq": header.seq,
        "boot": header.boot,
        "journal": f"{header.journal:08x}",
        "bay": header.bay,
        "owner": header.owner,
        "quality": _QUALITIES.get(header.time_quality, str(header.time_quality)),
        "anchor_utc_ms": header.anchor_utc_ms,
        "rows": [list(row) for row in frame.rows],
    }


def columns(streams: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return how to show each signal of the named streams, in the order of a row."""
    by_name = {stream.name: stream for stream in catalogue.STREAMS}
    return {name: [_column(by_name[name], signal) for signal in by_name[name].signals] for name in sorted(set(streams))}


def _column(stream: Stream, signal: catalogue.Signal) -> dict[str, Any]:
    not_available, abnormal = FORMATS[signal.format][2:4]
    column: dict[str, Any] = {"name": signal.name, "unit": signal.unit, "decimals": signal.decimals}
    column |= {"not_available": not_available, "abnormal": abnormal}
    key = stream.name, signal.name
    if values := catalogue_text.VALUES.get(key):
        column["values"] = values
    if bits := catalogue_text.BITS.get(key):
        column["bits"] = bits
    return column


def _text(payload: bytes) -> str:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return f"{len(payload)} bytes"
    return text[:TEXT_CHARACTERS_MAX]


def read_birth(payload: bytes) -> dict[str, Any] | None:
    """Return what a node says of itself in its `status` message; None for a last will or anything else."""
    try:
        birth = json.loads(payload)
    except ValueError:
        return None
    return birth if isinstance(birth, dict) and "firmware" in birth else None
