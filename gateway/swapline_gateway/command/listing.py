"""What commands take and print alike: the configuration, times, holders, tables, places."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from swapline_gateway.battery.code import suggest
from swapline_gateway.error import GatewayError

TIME_MS_MAX = 1 << 43  # the year 2248
AGO = "90m, 36h, 14d"

with_config = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), required=True, help="The gateway's TOML file."
)


def when(utc_ms: int | None, *, unknown: str = "") -> str:
    """Return a time for people, in UTC."""
    return unknown if utc_ms is None else datetime.fromtimestamp(utc_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


class Moment(click.ParamType[int]):
    """A time, in UTC unless it names a zone: `2026-11-22`, `2026-11-22T17:30`, or so long ago: `90m`, `36h`, `14d`."""

    name = "time"
    _units = {"m": 60, "h": 3600, "d": 86400}  # noqa: RUF012 (click's own style)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it in milliseconds."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        try:
            if text[-1:] in self._units:
                utc_s = time.time() - float(text[:-1]) * self._units[text[-1]]
            else:
                moment = datetime.fromisoformat(text)
                utc_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
            utc_ms = round(utc_s * 1000)
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is no time: write 2026-11-22T17:30 (UTC), 2026-11-22T18:30+01:00, or how long ago: {AGO}",
                param,
                ctx,
            )
        if not 0 <= utc_ms < TIME_MS_MAX:
            self.fail(f"{text!r} is not between the years 1970 and 2248", param, ctx)
        return utc_ms


MOMENT = Moment()


def known_module(code: str, known: Sequence[str]) -> str:
    """Return the code if it is known. Raises `GatewayError` with those that may be meant."""
    if code in known:
        return code
    raise not_known("module", code, known)


def not_known(what: str, text: str, known: Sequence[str]) -> GatewayError:
    """Return the error that names those that may be meant."""
    meant = suggest(text, known)
    if meant:
        return GatewayError(f"No {what} {text!r} is known; did you mean {' or '.join(meant)}?")
    return GatewayError(f"No {what} {text!r} is known: {len(known)} others are.")


def split_holder(text: str) -> tuple[str, str]:
    """Return fleet and node of `FLEET/NODE`. Raises `BadParameter`."""
    fleet, slash, node = text.partition("/")
    if not (fleet and slash and node):
        raise click.BadParameter(f"{text!r} is no holder: write it as FLEET/NODE", param_hint="FLEET/NODE")
    return fleet, node


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return lines of columns that stand under each other."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines[0] = click.style(lines[0], bold=True)
    return lines


def place(one: dict[str, Any]) -> str:
    """Return `fleet/node bay n` of a record's place."""
    return f"{one['fleet']}/{one['node']} bay {one['bay']}"


def number(value: float | None, unit: str = "", digits: int = 1) -> str:
    """Return a figure with its unit, nothing where there is none."""
    return "" if value is None else f"{value:.{digits}f}{unit and ' '}{unit}"
