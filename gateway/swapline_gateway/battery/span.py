"""A stretch of a module's life: what hours add up to. Days are kept in the table `module_day`, a life is made of days.

Merging is a fold in the order of time over spans that follow each other: sums are added, counters joined over the gaps
between, rests that touch at an edge become one, and what has come in by then is counted from the span's begin.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from statistics import median
from typing import Any, TypeVar

from . import table
from .counter import COUNTERS, Count, join_counts
from .hour import FLOATS_OF_SUMS, ModuleHour
from .integral import Sums
from .record import HOUR_MS
from .resistance import Step
from .rest import Anchor, Rest

DAY_MS = 24 * HOUR_MS
SETTLED_MS = 1_800_000  # a shorter rest says little of a cell's open-circuit voltage
_DIGITS = 9
_NO_MOMENTS: Mapping[str, Any] = {"rests": (), "anchors": (), "steps": ()}
_Moment = TypeVar("_Moment", Rest, Anchor)
_FIGURES = ("soc_min_pct", "soc_max_pct", "temperature_min_c", "temperature_max_c", "rated_ah")


@dataclass(frozen=True, slots=True)
class Span:
    """See the module's header. Charges of rests and anchors count from `start_utc_ms`."""

    start_utc_ms: int
    end_utc_ms: int
    first_utc_ms: int  # first and last reading
    last_utc_ms: int
    row_count: int
    sums: Sums
    soc_min_pct: float | None
    soc_max_pct: float | None
    temperature_min_c: float | None
    temperature_max_c: float | None
    rated_ah: float | None
    rests: tuple[Rest, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    steps: tuple[Step, ...] = ()
    counts: Mapping[str, Count] = field(default_factory=dict)

    def as_row(self, module: str) -> table.Row:
        """Return the row of `module_day` that is stored; `from_row` takes it back."""
        detail = {
            "soc_s": self.sums.soc_s,
            "temperature_s": self.sums.temperature_s,
            "charge_by_rate_ah": self.sums.charge_by_rate_ah,
            "counts": {name: one.as_list() for name, one in self.counts.items()},
        }
        moments = {
            "rests": [rest.as_list() for rest in self.rests],
            "anchors": [anchor.as_list() for anchor in self.anchors],
            "steps": [step.as_list() for step in self.steps],
        }
        return table.MODULE_DAY.row(
            self.start_utc_ms,
            {"module": module},
            first_utc_ms=self.first_utc_ms,
            last_utc_ms=self.last_utc_ms,
            row_count=self.row_count,
            **{name: getattr(self.sums, name) for name in FLOATS_OF_SUMS},
            **{name: getattr(self, name) for name in _FIGURES},
            detail=_dump(detail),
            moments=_dump(moments),
        )

    @classmethod
    def from_row(cls, row: table.Row, *, has_moments: bool = True) -> "Span":
        """Return the day that `as_row` gave; without rests, anchors and steps where nobody needs them.

        Raises `ValueError`, `KeyError` or `TypeError` if it is not of this version.
        """
        stored, detail = row.fields, json.loads(row.fields["detail"])
        moments = json.loads(stored["moments"]) if has_moments else _NO_MOMENTS
        sums = Sums(
            **{name: float(stored.get(name) or 0.0) for name in FLOATS_OF_SUMS},
            soc_s=detail["soc_s"],
            temperature_s=detail["temperature_s"],
            charge_by_rate_ah=detail["charge_by_rate_ah"],
        )
        return cls(
            row.time_utc_ms,
            row.time_utc_ms + DAY_MS,
            int(stored["first_utc_ms"]),
            int(stored["last_utc_ms"]),
            int(stored["row_count"]),
            sums,
            **{name: stored.get(name) for name in _FIGURES},
            rests=tuple(Rest.from_list(one) for one in moments["rests"]),
            anchors=tuple(Anchor(*one) for one in moments["anchors"]),
            steps=tuple(Step(*one) for one in moments["steps"]),
            counts={name: Count(*one) for name, one in detail["counts"].items()},
        )


def _dump(content: Mapping[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), sort_keys=True)


def span_of_hour(hour: ModuleHour) -> Span:
    """Return an hour as a span."""
    return Span(
        hour.hour_utc_ms,
        hour.hour_utc_ms + HOUR_MS,
        min((s.first_utc_ms for s in hour.sightings), default=hour.hour_utc_ms),
        max((s.last_utc_ms for s in hour.sightings), default=hour.hour_utc_ms),
        hour.row_count,
        hour.sums,
        hour.soc_min_pct,
        hour.soc_max_pct,
        hour.temperature_min_c,
        hour.temperature_max_c,
        hour.rated_ah,
        hour.rests,
        hour.anchors,
        hour.steps,
        hour.counts,
    )


def day_of(hours: Iterable[ModuleHour], day_utc_ms: int) -> Span | None:
    """Return one day (UTC) of a module from its hours; None where nothing is known of it."""
    spans = [span_of_hour(hour) for hour in sorted(hours, key=lambda hour: hour.hour_utc_ms)]
    merged = merge(spans)
    if merged is None:
        return None
    rests = tuple(rest for rest in merged.rests if _is_kept(rest, day_utc_ms))
    return replace(merged, start_utc_ms=day_utc_ms, end_utc_ms=day_utc_ms + DAY_MS, rests=rests)


def _is_kept(rest: Rest, day_utc_ms: int) -> bool:
    is_cut = rest.start_utc_ms <= day_utc_ms or rest.end_utc_ms >= day_utc_ms + DAY_MS
    return is_cut or rest.end_utc_ms - rest.start_utc_ms >= SETTLED_MS


def merge(spans: Sequence[Span]) -> Span | None:
    """Return the span from the first one's begin to the last one's end; they must not overlap."""
    if not spans:
        return None
    assert all(before.end_utc_ms <= after.start_utc_ms for before, after in pairwise(spans))
    rests: list[Rest] = []
    anchors: list[Anchor] = []
    net_ah = known_s = 0.0
    for span in spans:
        for rest in span.rests:
            _append(rests, _shifted(rest, net_ah, known_s))
        anchors += [_shifted(anchor, net_ah, known_s) for anchor in span.anchors]
        net_ah += span.sums.charge_in_ah - span.sums.charge_out_ah
        known_s += span.sums.known_s
    rated = [span.rated_ah for span in spans if span.rated_ah is not None]
    return Span(
        spans[0].start_utc_ms,
        spans[-1].end_utc_ms,
        min(span.first_utc_ms for span in spans),
        max(span.last_utc_ms for span in spans),
        sum(span.row_count for span in spans),
        add_sums(span.sums for span in spans),
        min((s.soc_min_pct for s in spans if s.soc_min_pct is not None), default=None),
        max((s.soc_max_pct for s in spans if s.soc_max_pct is not None), default=None),
        min((s.temperature_min_c for s in spans if s.temperature_min_c is not None), default=None),
        max((s.temperature_max_c for s in spans if s.temperature_max_c is not None), default=None),
        round(median(rated), 3) if rated else None,
        tuple(rests),
        tuple(anchors),
        tuple(step for span in spans for step in span.steps),
        _join(spans),
    )


def add_sums(parts: Iterable[Sums]) -> Sums:
    """Return the sum of sums."""
    total = Sums()
    for part in parts:
        for one in fields(Sums):
            value = getattr(part, one.name)
            if isinstance(value, Mapping):
                bands = getattr(total, one.name)
                for band, number in value.items():
                    bands[band] = bands.get(band, 0.0) + number
            else:
                setattr(total, one.name, getattr(total, one.name) + value)
    total.round()
    return total


def _join(spans: Sequence[Span]) -> dict[str, Count]:
    joined = {}
    for name in COUNTERS:
        one = join_counts(name, [span.counts[name] for span in spans if name in span.counts])
        if one is not None:
            joined[name] = one
    return joined


def _append(rests: list[Rest], rest: Rest) -> None:
    """Add a rest; one that begins where another one was cut goes on with it."""
    for n in range(len(rests) - 1, max(-1, len(rests) - 4), -1):
        if rests[n].place == rest.place and rests[n].end_utc_ms == rest.start_utc_ms:
            rests[n] = replace(rest, start_utc_ms=rests[n].start_utc_ms)
            return
    rests.append(rest)


def _shifted(one: _Moment, net_ah: float, known_s: float) -> _Moment:
    """Count from an earlier begin."""
    return replace(one, net_ah=round(one.net_ah + net_ah, _DIGITS), known_s=round(one.known_s + known_s, _DIGITS))
