"""The state at the start: the readings that the broker retained as `state/...`, so that pages need not begin empty.

A gateway that was restarted would otherwise know nothing of a node until it sends again, and of an offline one nothing
at all. Only a view is filled here, and only where it knows nothing newer: what arrives live meanwhile wins, and late
back-fill that is older than a restored reading does not push it out (`Reading.is_newer_than` decides all three).

The newest are applied first: a module's older readings, still retained for a bay that it left, then are no move.
Retained messages have no last one, so the end is when nothing more came for `QUIET_S`.
"""

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any

import aiomqtt

from swapline_wire import topic
from swapline_wire.catalogue import KEY, OF_MODULE, TIME_GNSS, Stream, stream_by_name
from swapline_wire.error import WireError
from swapline_wire.frame import OWNER_BYTES_MAX

from .config import MqttConfig
from .fleet_record import Reading, StateChange, Value
from .log import get
from .state import FleetState
from .uplink import make_client, subscribe

QUIET_S = 1.0
RESTORE_S_MAX = 15.0
READINGS_MAX = 100_000  # about 200 MB for the moment that they wait; twenty of each of 5000 nodes
TEXT_BYTES_MAX = 16_384
_APPLY_AT_ONCE = 500  # then others have a turn: live frames are not to wait for a view


async def restore(config: MqttConfig, state: FleetState) -> int:
    """Fill `state` from what the broker retains; return the number of readings. Raises what a connection raises."""
    found: list[Reading] = []
    async with make_client(config.model_copy(update={"client_id": None})) as client:
        await subscribe(client, [topic.format_topic(config.fleet, "+", f"{topic.STATE}/#")])
        await _collect(client, found)
    found.sort(key=lambda reading: reading.believed_utc_ms, reverse=True)
    for start in range(0, len(found), _APPLY_AT_ONCE):
        for reading in found[start : start + _APPLY_AT_ONCE]:
            state.restore(reading)
        await asyncio.sleep(0)
    get("restore").info("state as the broker retained it", readings=len(found))
    return len(found)


async def _collect(client: aiomqtt.Client, found: list[Reading]) -> None:
    messages = aiter(client.messages)
    try:
        async with asyncio.timeout(RESTORE_S_MAX):
            while len(found) < READINGS_MAX:
                async with asyncio.timeout(QUIET_S):
                    message = await anext(messages)
                    while not message.retain:  # what gateways publish meanwhile is live
                        message = await anext(messages)
                reading = read_state(str(message.topic), message.payload)
                if reading is not None:
                    found.append(reading)
    except TimeoutError:
        return


def read_state(name: str, payload: bytes) -> Reading | None:
    """Return the reading of a `state/...` message, or None where it is not one that we could have published."""
    try:
        address = topic.parse_topic(name)
        return _reading(address, json.loads(payload[:TEXT_BYTES_MAX]))
    except (WireError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _reading(address: topic.Address, content: Mapping[str, Any]) -> Reading:
    stream = stream_by_name(content["stream"])
    bay = content["bay"] or 0
    if stream is None:
        raise ValueError("not a stream of this catalogue")
    reading = Reading(
        fleet=address.fleet,
        node=address.node,
        stream=stream.name,
        bay=_whole(bay, 255),
        module=_code(content["module"] or "") if stream.owner == OF_MODULE else "",
        keys={signal.name: _whole(content["keys"][signal.name]) for signal in stream.signals if signal.kind == KEY},
        time_utc_ms=_whole(content["time_utc_ms"]),
        time_quality=_whole(content["time_quality"], TIME_GNSS),
        received_utc_ms=_whole(content["received_utc_ms"]),
        journal=_whole(content["journal"]),
        boot=_whole(content["boot"]),
        uptime_ms=int(content["uptime_ms"]),
        values=_values(stream, content["values"]),
        abnormal=tuple(str(signal) for signal in content["abnormal"]),
        seq=_whole(content.get("seq", 0)),  # gateways of an older version did not retain it
    )
    if address.channel != StateChange(reading).channel:
        raise ValueError("another topic's content")
    return reading


def _whole(number: Any, maximum: int = 1 << 53) -> int:
    if type(number) is not int or not 0 <= number <= maximum:
        raise ValueError("not a whole number of its range")
    return number


def _code(text: str) -> str:
    if len(text) > OWNER_BYTES_MAX or not all("!" <= character <= "~" for character in text):
        raise ValueError("not the code of a module")
    return text


def _values(stream: Stream, values: Mapping[str, Any]) -> dict[str, Value]:
    """Return the values of signals that this catalogue knows."""
    known = {signal.name for signal in stream.signals if signal.kind != KEY}
    found = {name: value for name, value in values.items() if name in known}
    if not all(value is None or (type(value) in (int, float) and math.isfinite(value)) for value in found.values()):
        raise ValueError("not a number")
    return found
