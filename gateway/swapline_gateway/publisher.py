"""What the gateway tells everybody on MQTT: the latest readings (`state/...`, retained) and alarms as they come.

States are coalesced: a topic that changes ten times between two rounds is published once. They wait when the connection
is slow; acknowledgements and alarms do not wait for them.
"""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from swapline_wire import catalogue, topic

from .alarm_meaning import meaning
from .config import StateConfig
from .ingest import Item
from .pipeline import PipelineFigures
from .state import StateChange, scale_row
from .uplink import Uplink

_ROUND_MESSAGES_MAX = 2000


class Publisher:
    """See the module's header."""

    def __init__(self, config: StateConfig, *, uplink: Uplink, figures: PipelineFigures) -> None:
        self._config = config
        self._uplink = uplink
        self._figures = figures
        self._pending: dict[str, StateChange] = {}

    def take(self, changes: Iterable[StateChange]) -> None:
        """Note readings that are to be published in the next round."""
        if not self._config.publish:
            return
        for change in changes:
            reading = change.reading
            self._pending[topic.format_topic(reading.fleet, reading.node, change.channel)] = change

    async def run(self) -> None:
        """Publish a round every interval until cancelled."""
        while True:
            await asyncio.sleep(self._config.interval_s)
            self.flush()

    def flush(self) -> None:
        """Publish what is pending, as far as the connection takes it now."""
        for name in list(self._pending)[:_ROUND_MESSAGES_MAX]:
            if self._uplink.is_congested():
                return
            text = json.dumps(self._pending[name].reading.as_state_json(), separators=(",", ":"))
            if not self._uplink.publish(name, text, qos=0, retain=True):
                return
            del self._pending[name]
            self._figures.state_messages += 1

    def publish_alarms(self, item: Item) -> None:
        """Publish every row of an alarm frame at once."""
        name = topic.format_topic(item.sender.fleet, item.sender.node, topic.ALARM)
        for row in alarm_rows(item):
            self._uplink.publish(name, json.dumps(row, separators=(",", ":")), qos=1)


def alarm_rows(item: Item) -> list[dict[str, Any]]:
    """Return the rows of an alarm frame as JSON-ready data."""
    header, signals = item.decoded.header, item.decoded.signals
    keys = [(index, signal.name) for index, signal in enumerate(signals) if signal.kind == catalogue.KEY]
    values = [scale_row(signals, row[1:])[0] for row in item.decoded.rows]
    return [
        {
            "fleet": item.sender.fleet,
            "node": item.sender.node,
            "bay": header.bay or None,
            "module": header.owner or None,
            "journal": header.journal,
            "boot": header.boot,
            "seq": header.seq,
            "time_utc_ms": item.anchor_utc_ms + row[0],
            "time_quality": item.time_quality,
            "keys": {name: row[1 + index] for index, name in keys},
            "values": of_row,
            "meaning": meaning({name: row[1 + index] for index, name in keys}, of_row),
        }
        for row, of_row in zip(item.decoded.rows, values, strict=True)
    ]
