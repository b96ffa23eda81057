"""Records of custody as rows of the tables `claim`, `stay`, `swap` and `contradiction`, and back."""

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from .record import (
    CODE_UNUSUAL,
    DEPARTURE_WITHOUT_ARRIVAL,
    HOUR_MS,
    Contradiction,
    Place,
    Stay,
    Swap,
    SwapHalf,
)
from .store import BatteryStore
from .table import CONTRADICTION, FOREVER_UTC_MS, SWAP, Row, Table

BESIDE_MS = 24 * HOUR_MS  # rows beside what they decide about, six hours at most, and half a day to spare
YEAR_MS = 365 * 24 * HOUR_MS
_HALF_FIELDS = tuple(field.name for field in fields(SwapHalf) if field.name not in ("place", "module"))
_SWAP_FIELDS = tuple(name for name in SWAP.fields if name not in ("is_void", "duration_s"))


def place_tags(place: Place) -> dict[str, str]:
    """Return a place as tags."""
    return {"fleet": place.fleet, "node": place.node, "bay": str(place.bay)}


def place_of(tags: dict[str, str]) -> Place:
    """Return the place that tags say."""
    return Place(tags["fleet"], tags["node"], int(tags["bay"] or 0))


def stay_row(table: Table, stay: Stay) -> Row:
    """Return a claim or stay as a row."""
    return table.row(
        stay.from_utc_ms,
        {"module": stay.module, **place_tags(stay.place)},
        from_evidence=stay.from_evidence,
        until_utc_ms=FOREVER_UTC_MS if stay.until_utc_ms is None else stay.until_utc_ms,
        until_evidence=stay.until_evidence,
        first_seen_utc_ms=stay.first_seen_utc_ms,
        last_seen_utc_ms=stay.last_seen_utc_ms,
        came=_half_text(stay.came),
        went=_half_text(stay.went),
    )


def stay_of(row: Row) -> Stay:
    """Return the claim or stay of a row."""
    told, place, module = row.fields, place_of(row.tags), row.tags["module"]
    return Stay(
        module=module,
        place=place,
        from_utc_ms=row.time_utc_ms,
        from_evidence=told["from_evidence"],
        until_utc_ms=_or_none(told["until_utc_ms"]),
        until_evidence=told.get("until_evidence"),
        first_seen_utc_ms=told.get("first_seen_utc_ms"),
        last_seen_utc_ms=told.get("last_seen_utc_ms"),
        came=_half_of(told.get("came"), place, module),
        went=_half_of(told.get("went"), place, module),
    )


def swap_row(swap: Swap) -> Row:
    """Return a swap as a row. Its key has the drained module, or the charged one where none left for it."""
    module = swap.module_out or swap.module_in or ""
    tags = {"fleet": swap.fleet, "van": swap.van or "", "station": swap.station or "", "module": module}
    told = {name: getattr(swap, name) for name in _SWAP_FIELDS}
    return SWAP.row(swap.start_utc_ms, tags, duration_s=swap.duration_s, **told)


def swap_of(row: Row) -> Swap:
    """Return the swap of a row."""
    told: dict[str, Any] = {name: row.fields.get(name) for name in _SWAP_FIELDS}
    return Swap(
        start_utc_ms=row.time_utc_ms,
        fleet=row.tags["fleet"],
        van=row.tags["van"] or None,
        station=row.tags["station"] or None,
        **told,
    )


def contradiction_row(one: Contradiction) -> Row:
    """Return a contradiction as a row."""
    place, other = one.place or Place("", "", 0), one.other_place
    return CONTRADICTION.row(
        one.time_utc_ms,
        {"kind": one.kind, "module": one.module, **place_tags(place)},
        until_utc_ms=FOREVER_UTC_MS if one.until_utc_ms is None else one.until_utc_ms,
        other_fleet=other and other.fleet,
        other_node=other and other.node,
        other_bay=other and other.bay,
        other_module=one.other_module,
        text=one.text,
    )


def contradiction_of(row: Row) -> Contradiction:
    """Return the contradiction of a row."""
    told, place = row.fields, place_of(row.tags)
    other = None
    if told.get("other_node") is not None:
        other = Place(told.get("other_fleet", ""), told["other_node"], told.get("other_bay", 0))
    return Contradiction(
        kind=row.tags["kind"],
        module=row.tags["module"],
        time_utc_ms=row.time_utc_ms,
        until_utc_ms=_or_none(told["until_utc_ms"]),
        place=place if place.node else None,
        other_place=other,
        other_module=told.get("other_module"),
        text=told.get("text", ""),
    )


def read_lasting(store: BatteryStore, table: Table, tags: dict[str, str], since_utc_ms: int) -> list[Row]:
    """Return the claims or stays that had not ended at a time.

    Most began within a year before; a database that holds many years is asked for those first.
    """
    lasting = [("until_utc_ms", ">=", since_utc_ms)]
    start_ms = max(0, since_utc_ms - YEAR_MS)
    rows = store.read(table, tags=tags, where=lasting, start_utc_ms=start_ms)
    if start_ms == 0 or any(row.time_utc_ms < since_utc_ms for row in rows):
        return rows
    return store.read(table, tags=tags, where=lasting)


class Bygone:
    """Knows before when swaps and contradictions stood on readings that are gone; databases drop them by the day."""

    def __init__(self, store: BatteryStore, now_utc_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_utc_ms = now_utc_ms
        self._asked_ms: int | None = None
        self._found_ms = 0

    def utc_ms(self) -> int:
        """Return the time, 0 if nothing is gone. It is asked for once an hour."""
        now_ms = self._now_utc_ms()
        if self._asked_ms is None or not 0 <= now_ms - self._asked_ms < HOUR_MS:
            gone_ms = self._store.gone_before_utc_ms()
            self._asked_ms, self._found_ms = now_ms, gone_ms + BESIDE_MS if gone_ms else 0
        return self._found_ms


def changes(stored: list[Row], derived: list[Row], *, kept_before_ms: float = 0) -> list[Row]:
    """Return the rows to write: what is new or different, and what is no longer true as void.

    Rows that ended before `kept_before_ms` stood on readings that may be gone: without those they are not taken back,
    and go on saying what only those told.
    """
    before = {row.key: row for row in stored}
    after = {row.key: _with(before.get(row.key), row, kept_before_ms) for row in derived}
    gone = [row.void() for key, row in before.items() if key not in after and not _ended(row, kept_before_ms)]
    return gone + [row for key, row in after.items() if key not in before or before[key].fields != row.fields]


def _with(before: Row | None, row: Row, kept_before_ms: float) -> Row:
    if before is None or not _ended(before, kept_before_ms):
        return row
    return row._replace(fields={**before.fields, **row.fields})


def _ended(row: Row, before_ms: float) -> bool:
    """Say whether a swap or contradiction was over before a time."""
    if row.tags.get("kind") in (CODE_UNUSUAL, DEPARTURE_WITHOUT_ARRIVAL):
        return False  # stands on nothing that the database forgets
    end = row.fields.get("end_utc_ms", row.fields.get("until_utc_ms"))
    return end is not None and end < before_ms


def _half_text(half: SwapHalf | None) -> str | None:
    if half is None:
        return None
    told = {name: getattr(half, name) for name in _HALF_FIELDS}
    return json.dumps({name: value for name, value in told.items() if value is not None}, sort_keys=True)


def _half_of(text: str | None, place: Place, module: str) -> SwapHalf | None:
    return None if text is None else SwapHalf(place=place, module=module, **json.loads(text))


def _or_none(utc_ms: int) -> int | None:
    return None if utc_ms >= FOREVER_UTC_MS else utc_ms
