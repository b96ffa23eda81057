"""Which hours of which modules frames concern, once their rows are stored."""

from collections.abc import Iterable

from swapline_gateway.due import FIGURES, HOUR_MS, Touch
from swapline_gateway.fleet_record import key_places
from swapline_gateway.reading import FrameRows
from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT

MODULES_MAX = 200_000


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
            if not rows.module or stream not in ("module", "cells", "event", "alarm"):
                continue
            if stream == "alarm":
                found.setdefault((rows.module, FIGURES), False)
                continue
            if stream == "event" and not _is_swap(rows):
                continue
            is_custody = stream == "event" or (stream == "module" and self._has_moved(rows))
            times = rows.columns[0]
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


def _is_swap(rows: FrameRows) -> bool:
    places = {name: index for index, name in key_places(rows.signals)}
    return any(code in (BATTERY_IN, BATTERY_OUT) for code in rows.columns[1 + places["code"]])
