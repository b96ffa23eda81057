"""Acknowledging: somebody says that they have seen an alarm. Kept in the database and, retained, at the broker.

The broker tells every gateway and every screen at once; the database keeps it. It is about the alarm that was raised
then, so it can be said twice, and no later alarm is taken for seen.
"""

import json
from typing import Any

from swapline_gateway.battery.record import Acknowledgement
from swapline_gateway.battery.table import ACKNOWLEDGEMENT, Row
from swapline_wire import topic
from swapline_wire.error import WireError
from swapline_wire.frame import OWNER_BYTES_MAX

CHANNEL = f"{topic.STATE}/acknowledged"
BY_CHARACTERS_MAX = 64
NOTE_CHARACTERS_MAX = 500
_TEXT_BYTES_MAX = 8192
_WHOLE_MAX = 1 << 53


def check_words(by: object, note: object) -> tuple[str, str]:
    """Return name and note without spaces around them. Raises `ValueError` with a sentence."""
    if not isinstance(by, str) or not 0 < len(by.strip()) <= BY_CHARACTERS_MAX or not by.strip().isprintable():
        raise ValueError(f"by: say who has seen it, in 1 to {BY_CHARACTERS_MAX} printable characters")
    if not isinstance(note, str) or len(note.strip()) > NOTE_CHARACTERS_MAX:
        raise ValueError(f"note: allowed are {NOTE_CHARACTERS_MAX} characters at most")
    if not all(character.isprintable() or character == "\n" for character in note):
        raise ValueError("note: allowed are printable characters and line breaks")
    return by.strip(), note.strip()


def topic_of(said: Acknowledgement) -> str:
    """Return where it is retained."""
    return topic.format_topic(said.fleet, said.node, f"{CHANNEL}/{said.bay}/{said.code}")


def message_of(said: Acknowledgement) -> str:
    """Return what is retained."""
    return json.dumps(said.as_json(), separators=(",", ":"))


def read_message(name: str, payload: bytes) -> Acknowledgement | None:
    """Return what a retained message says, or None where it is not one that we could have published."""
    try:
        address = topic.parse_topic(name)
        said = _read(address, json.loads(payload[:_TEXT_BYTES_MAX]))
    except (WireError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return said if topic_of(said) == name else None


def _read(address: topic.Address, content: dict[str, Any]) -> Acknowledgement:
    module = content["module"]
    if not isinstance(module, str) or len(module) > OWNER_BYTES_MAX:
        raise ValueError("not the code of a module")
    by, note = check_words(content["by"], content["note"])
    return Acknowledgement(
        fleet=address.fleet,
        node=address.node,
        bay=_whole(content["bay"], 255),
        code=_whole(content["code"], 0xFFFF),
        module=module,
        raised_utc_ms=_whole(content["raised_utc_ms"]),
        time_utc_ms=_whole(content["time_utc_ms"]),
        by=by,
        note=note,
    )


def _whole(number: Any, maximum: int = _WHOLE_MAX) -> int:
    if type(number) is not int or not 0 <= number <= maximum:
        raise ValueError("not a whole number of its range")
    return number


def row_of(said: Acknowledgement) -> Row:
    """Return what the database keeps: a row a raised alarm, so that saying it twice is one row."""
    tags = {"fleet": said.fleet, "node": said.node, "bay": str(said.bay), "code": str(said.code)}
    fields = {"acknowledged_utc_ms": said.time_utc_ms, "said_by": said.by, "note": said.note, "module": said.module}
    return ACKNOWLEDGEMENT.row(said.raised_utc_ms, tags, **fields)


def from_row(row: Row) -> Acknowledgement:
    """Return what a row of the database says."""
    return Acknowledgement(
        fleet=row.tags["fleet"],
        node=row.tags["node"],
        bay=int(row.tags["bay"]),
        code=int(row.tags["code"]),
        module=row.fields.get("module") or "",
        raised_utc_ms=row.time_utc_ms,
        time_utc_ms=row.fields["acknowledged_utc_ms"],
        by=row.fields["said_by"],
        note=row.fields.get("note") or "",
    )
