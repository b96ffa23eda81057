"""The book of early warnings: what the signs of `early_warning.py` say of each module, kept in the table `warning`.

A module's warnings are a function of its hours and of those of its siblings: up to `COHORT` modules of its family that
stand next to it in the order of codes, so that the work does not grow with the square of the fleet. They are derived
again whenever the module's own hours change, which is every hour of its life; a sibling's late hours count then.
"""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence

from .code import parse
from .early_warning import HOT_WINDOW_MS, WINDOW_MS, HeatHour, find_warnings, heat_of, rank
from .hour_book import HourBook
from .record import HOUR_MS, EarlyWarning
from .store import BatteryStore
from .table import MODULE_HOUR, WARNING, Row

COHORT = 24
REMEMBERED_S = 600.0  # of siblings: hours come hourly
MODULES_REMEMBERED = 3 * COHORT


class WarningBook:
    """See the module's header."""

    def __init__(self, store: BatteryStore, hours: HourBook, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._hours = hours
        self._clock_s = clock_s
        self._heat: OrderedDict[str, tuple[float, list[HeatHour]]] = OrderedDict()
        self._codes: tuple[float, list[str]] | None = None

    def warnings(self) -> list[EarlyWarning]:
        """Return what stands, the worst first."""
        return rank(map(_from_row, self._store.read(WARNING)))

    def derive(self, module: str) -> list[EarlyWarning]:
        """Return what a module's hours say now, without writing it down."""
        span = self._store.span(module)
        if span is None:
            return []
        end_utc_ms = span[1] // HOUR_MS * HOUR_MS
        hours = self._hours.hours(module, end_utc_ms - WINDOW_MS)
        start_utc_ms = end_utc_ms - HOT_WINDOW_MS
        siblings = {code: self._heat_of(code, start_utc_ms) for code in self._siblings(module)}
        return find_warnings(hours, siblings)

    def refresh(self, modules: Collection[str]) -> None:
        """Derive these modules' warnings, write those that are new or other, and take back those that are over."""
        rows: list[Row] = []
        for module in sorted(modules):
            wanted = {row.key: row for row in map(to_row, self.derive(module))}
            stored = {row.key: row for row in self._store.read(WARNING, tags={"module": module})}
            rows += [row.void() for key, row in stored.items() if key not in wanted]
            rows += [row for key, row in wanted.items() if stored.get(key) != row]
        self._store.put(rows)

    def _siblings(self, module: str) -> Sequence[str]:
        family = parse(module).family
        if family is None:
            return ()
        codes = [code for code in self._all_codes() if parse(code).family == family]
        if module not in codes:
            return codes[:COHORT]
        first = codes.index(module) // COHORT * COHORT
        return [code for code in codes[first : first + COHORT] if code != module]

    def _all_codes(self) -> list[str]:
        now_s = self._clock_s()
        if self._codes is None or now_s - self._codes[0] > REMEMBERED_S:
            self._codes = (now_s, sorted(self._store.modules()))
        return self._codes[1]

    def _heat_of(self, module: str, start_utc_ms: int) -> list[HeatHour]:
        """Return a sibling's hours as far as they tell about warmth; from its stored figures, not their detail."""
        now_s = self._clock_s()
        known = self._heat.get(module)
        if known is None or now_s - known[0] > REMEMBERED_S:
            rows = self._store.read(MODULE_HOUR, tags={"module": module}, start_utc_ms=start_utc_ms - HOT_WINDOW_MS)
            found = [heat_of(row.time_utc_ms, row.fields) for row in rows]
            known = (now_s, sorted(heat for heat in found if heat is not None))
            self._heat[module] = known
            if len(self._heat) > MODULES_REMEMBERED:
                self._heat.popitem(last=False)
        return [heat for heat in known[1] if heat.hour_utc_ms >= start_utc_ms]


def to_row(warning: EarlyWarning) -> Row:
    """Return a warning as it is stored."""
    return WARNING.row(
        warning.since_utc_ms,
        {"module": warning.module, "kind": warning.kind},
        score=warning.score,
        text=warning.text,
        detail=json.dumps(warning.evidence, sort_keys=True),
    )


def _from_row(row: Row) -> EarlyWarning:
    return EarlyWarning(
        row.tags["module"],
        row.tags["kind"],
        float(row.fields["score"]),
        row.fields["text"],
        row.time_utc_ms,
        json.loads(row.fields["detail"]),
    )
