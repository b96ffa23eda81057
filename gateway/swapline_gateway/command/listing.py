"""What the commands about modules print alike: times, tables, places."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click


def when(utc_ms: int | None, *, unknown: str = "") -> str:
    """Return a time for people, in UTC."""
    return unknown if utc_ms is None else datetime.fromtimestamp(utc_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def parse_time(text: str) -> int:
    """Return UTC in ms of a date or time as people write it; without a zone it is UTC. Raises `BadParameter`."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no time: write it as 2026-11-22 or 2026-11-22T18:10+01:00") from error
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)


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
