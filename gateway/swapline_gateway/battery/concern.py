"""Which hours of which modules frames concern, once their rows are stored."""

from collections.abc import Iterable

from swapline_gateway.due import FIGURES, HOLDER, HOUR_MS, Touch, is_running
from swapline_gateway.fleet_record import key_places
from swapline_gateway.reading import FrameRows
from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT

MODULES_MAX = 200_000
_HOLDER_STREAMS = ("vehicle", "position", "slot")  # by them a holder is known as van or station, and where a swap was


class Concerns:
    """Says which hours frames concern. It remembers where modules were, so belongs to one sink's frames."""

    def __init__(self, *, modules_max: int = MODULES_MAX) -> None:
        self._places: dict[str, tuple[str, str, int]] = {}
        self._modules_max = modules_max

    def of(self, frames: Iterable[FrameRows]) -> list[Touch]:
        """Return what frames, whose rows are stored now, make due."""
        found: dict[tuple[str, int], bool] = {}
        for rows in frames:
            stream = rows.stream.name
            if stream in _HOLDER_STREAMS:
                found |= dict.fromkeys(_late_hours(rows), False)
                continue
            if not rows.module or stream not in ("module", "cells", "event", "alarm"):
                continue
            if stream == "alarm":
                found.setdefault((rows.module, FIGURES), False)
                continue
            if stream == "event" and not _is_swap(rows):
                continue
            times = rows.columns[0]
            # What is told late is derived with all the rest that comes with it.
            is_live = is_running(max(times) // HOUR_MS * HOUR_MS, rows.frame.received_utc_ms)
            is_custody = is_live and (stream == "event" or (stream == "module" and self._has_moved(rows)))
            for hour in range(min(times) // HOUR_MS, max(times) // HOUR_MS + 1):
                key = (rows.module, hour * HOUR_MS)
                found[key] = found.get(key, False) or is_custody
        return [Touch(*key, is_custody) for key, is_custody in found.items()]

    def _has_moved(self, rows: FrameRows) -> bool:
        place = (rows.frame.fleet, rows.frame.node, rows.header.bay)
        before = self._places.pop(rows.module, None)
        self._places[rows.module] = place
        if len(self._places) > self._modules_max:
            del self._places[next(iter(self._places))]
        return before != place


def _late_hours(rows: FrameRows) -> list[tuple[str, int]]:
    """Return the hours that were over when a holder's own rows came: who was there may have been judged without them.

    In the running hour the modules' own rows do it, when it is over.
    """
    running = rows.frame.received_utc_ms // HOUR_MS
    times = rows.columns[0]
    hours = range(min(times) // HOUR_MS, min(max(times) // HOUR_MS + 1, running))
    return [(f"{HOLDER}{rows.frame.fleet}/{rows.frame.node}", hour * HOUR_MS) for hour in hours]


def _is_swap(rows: FrameRows) -> bool:
    places = {name: index for index, name in key_places(rows.signals)}
    return any(code in (BATTERY_IN, BATTERY_OUT) for code in rows.columns[1 + places["code"]])
