"""`swapline tap`: what nodes send, decoded as it passes. Reads along; acknowledges and stores nothing."""

import asyncio
import contextlib
import json
import shutil
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiomqtt
import click

from swapline_gateway import config as configuration
from swapline_gateway.alarm_meaning import sentence
from swapline_gateway.config import MqttConfig
from swapline_gateway.error import AccessError
from swapline_gateway.ingest import Item, Sender, Spoiled, examine_message
from swapline_gateway.state import scale_row
from swapline_gateway.uplink import explain, make_client, subscribe
from swapline_wire import topic
from swapline_wire.catalogue import ALARM_STREAM, KEY, STREAMS, Signal
from swapline_wire.error import WireError

_STREAM_NAMES = [stream.name for stream in STREAMS]
_INDENT = "    "
_SOURCES_MAX = 10_000  # whose last row is remembered


@dataclass(slots=True)
class Printer:
    """Prints rows until there were enough of them: all of them as JSON, for people what changed."""

    streams: tuple[str, ...]
    as_json: bool
    count_max: int | None
    count: int = 0
    shown: OrderedDict[tuple[Any, ...], dict[str, Any]] = field(default_factory=OrderedDict)

    def show(self, found: Item | Spoiled) -> None:
        """Print one frame's rows, or why it cannot be read."""
        lines = _spoiled_lines(found) if isinstance(found, Spoiled) else self._rows(found)
        for line in lines:
            if self.is_done():
                return
            click.echo(json.dumps(line, separators=(",", ":")) if self.as_json else self._for_people(line))
            self.count += 1

    def is_done(self) -> bool:
        """Say whether enough was printed."""
        return self.count_max is not None and self.count >= self.count_max

    def _rows(self, item: Item) -> Iterator[dict[str, Any]]:
        if not self.streams or item.decoded.stream.name in self.streams:
            yield from row_documents(item)

    def _for_people(self, line: dict[str, Any]) -> str:
        if "unreadable" in line:
            who = click.style(f"{line['fleet']}/{line['node']}", bold=True)
            return f"{who} {click.style(line['unreadable'], fg='red')} {line['detail']} ({line['size_bytes']} bytes)"
        if line["stream"] == ALARM_STREAM.name:  # what it means; each is news
            return f"{_head(line)}\n{_INDENT}{_alarm(line)}"
        return "\n".join([_head(line), *_wrapped(self._news(line))])

    def _news(self, line: dict[str, Any]) -> list[str]:
        """Return the values that differ from the row of this source that was shown last."""
        names = ("fleet", "node", "stream", "bay", "module")
        source = (*(line[name] for name in names), *line["keys"].values())
        before = self.shown.pop(source, None)
        self.shown[source] = values = line["values"] | dict.fromkeys(line["abnormal"], "abnormal")
        if len(self.shown) > _SOURCES_MAX:
            self.shown.popitem(last=False)
        if before is None:
            return [f"{name}={value}" for name, value in values.items()]
        changed = [f"{name}={value}" for name, value in values.items() if before.get(name) != value]
        gone = [f"{name}=none" for name in before if name not in values]
        return changed + gone or ["(unchanged)"]


def row_documents(item: Item) -> Iterator[dict[str, Any]]:
    """Yield a frame's rows as JSON-ready data."""
    header, stream, signals, rows = item.decoded
    for row in rows:
        values, abnormal = scale_row(signals, row[1:])
        yield {
            "time_utc_ms": item.anchor_utc_ms + row[0],
            "time_quality": item.time_quality,
            "fleet": item.sender.fleet,
            "node": item.sender.node,
            "stream": stream.name,
            "bay": header.bay or None,
            "module": header.owner or None,
            "journal": header.journal,
            "seq": header.seq,
            "keys": _keys(signals, row),
            "values": {name: value for name, value in values.items() if value is not None},
            "abnormal": list(abnormal),
        }


def _keys(signals: tuple[Signal, ...], row: tuple[int, ...]) -> dict[str, int]:
    return {signal.name: row[i] for i, signal in enumerate(signals, start=1) if signal.kind == KEY}


def _spoiled_lines(bad: Spoiled) -> Iterator[dict[str, Any]]:
    yield {
        "fleet": bad.sender.fleet,
        "node": bad.sender.node,
        "unreadable": bad.reason,
        "detail": bad.detail,
        "size_bytes": len(bad.data),
    }


def _head(line: dict[str, Any]) -> str:
    time = datetime.fromtimestamp(line["time_utc_ms"] / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    who = click.style(f"{line['fleet']}/{line['node']}", bold=True)
    place = f" bay {line['bay']}" if line["bay"] else ""
    module = f" {line['module']}" if line["module"] else ""
    keys = "".join(f" {name}={value}" for name, value in line["keys"].items())
    return f"{time} {who} {click.style(line['stream'], fg='cyan')}{place}{module}{keys}"


def _alarm(line: dict[str, Any]) -> str:
    colour = "red" if line["values"].get("level") else "green"
    return click.style(sentence(line["keys"], line["values"]), fg=colour)


def _wrapped(words: list[str]) -> list[str]:
    """Return the words as indented lines of the terminal's width, or as one line where there is no terminal."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1_000_000
    lines = [""]
    for word in words:
        if lines[-1] and len(_INDENT) + len(lines[-1]) + 2 + len(word) > width:
            lines.append("")
        lines[-1] += ("  " if lines[-1] else "") + word
    return [_INDENT + line.replace("=abnormal", "=" + click.style("abnormal", fg="yellow")) for line in lines if line]


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Take the broker from a gateway's file.")
@click.option("--host", help="The broker, without --config.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="Its port.  [default: 1883]")
@click.option("--username", help="Name at the broker.")
@click.option("--password", help="Its password.", envvar="SWAPLINE_MQTT_PASSWORD", show_envvar=True)
@click.option("--fleet", help="Only this fleet.")
@click.option("--node", "nodes", multiple=True, help="Only this node; may be repeated.")
@click.option(
    "--stream", "streams", multiple=True, type=click.Choice(_STREAM_NAMES), help="Only this stream; likewise."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row.")
@click.option("--count", "count_max", type=click.IntRange(1), help="End after so many rows.")
def tap(
    config_path: Path | None,
    fleet: str | None,
    nodes: tuple[str, ...],
    streams: tuple[str, ...],
    count_max: int | None,
    *,
    as_json: bool,
    **connection: Any,
) -> None:
    """Show live frames of a broker, decoded, until Ctrl-C.

    For people: of each row the values that changed since the last row of its source. With --json: all of every row.
    """
    base = configuration.load(config_path).mqtt.model_dump() if config_path else {}
    stated = {key: value for key, value in connection.items() if value is not None}
    raw = {**base, **stated, "client_id": None, "share_group": None}
    if fleet is not None:
        raw["fleet"] = fleet
    config = configuration.parse({"mqtt": raw}, source="options", folder=Path()).mqtt
    printer = Printer(streams, as_json, count_max)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_tap(config, nodes, printer))


async def _tap(config: MqttConfig, nodes: tuple[str, ...], printer: Printer) -> None:
    wanted = [topic.format_topic(config.fleet, node, channel) for node in nodes or ("+",) for channel in topic.FRAMES]
    try:
        async with make_client(config) as client:
            await subscribe(client, wanted)
            async for incoming in client.messages:
                _show(printer, incoming)
                if printer.is_done():
                    return
    except (AccessError, BrokenPipeError):
        raise  # refused, or the reader of our output (`| head`) has gone: click ends quietly
    except (aiomqtt.MqttError, OSError) as error:
        raise explain(config, error) from error


def _show(printer: Printer, incoming: aiomqtt.Message) -> None:
    try:
        address = topic.parse_topic(str(incoming.topic))
    except WireError:
        return  # a topic with names that no node of ours may have
    found = examine_message(Sender(address.fleet, address.node), incoming.payload)
    for item in found.items:
        printer.show(item)
    for bad in found.spoiled:
        printer.show(bad)
