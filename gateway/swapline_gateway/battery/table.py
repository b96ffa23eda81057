"""Tables of the battery's books, the same in DuckDB and InfluxDB: a name, tags, and fields with their type.

A row is known by its tags and its time; writing it again replaces it. Nothing is ever deleted, because not every
database that we write to can: a row that is no longer true is written again with `is_void` set, and every question
leaves such rows out. Tags are texts, `""` where there is none.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

TEXT, WHOLE, NUMBER, TRUTH = "text", "whole", "number", "truth"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table (InfluxDB: a measurement)."""

    name: str
    tags: tuple[str, ...]
    fields: dict[str, str]  # name -> TEXT, WHOLE, NUMBER or TRUTH

    def row(self, time_utc_ms: int, tags: dict[str, str], **fields: Any) -> "Row":
        """Return a row. What is None is not stored, and read back as not there."""
        unknown = (set(fields) - set(self.fields)) | (set(tags) ^ set(self.tags))
        assert not unknown, f"{self.name}: {sorted(unknown)}"
        values = {name: value for name, value in fields.items() if value is not None}
        return Row(self, time_utc_ms, tags, {"is_void": False} | values)


class Row(NamedTuple):
    """A row of a table."""

    table: Table
    time_utc_ms: int
    tags: dict[str, str]
    fields: dict[str, Any]

    @property
    def key(self) -> tuple[str, int, tuple[str, ...]]:
        """Return what the row is known by."""
        return self.table.name, self.time_utc_ms, tuple(self.tags[tag] for tag in self.table.tags)

    def void(self) -> "Row":
        """Return the row that takes this one back."""
        return self._replace(fields={**self.fields, "is_void": True})


_VOID = {"is_void": TRUTH}

# One module and hour of UTC: what `hour.py` makes of its readings. Sums over `known_s`, the time that readings cover;
# `detail` is JSON: sightings, bands, rests, steps, counters, cells. Marks tell which rows beside it an hour stands on.
_SUMS = (
    {"row_count": WHOLE, "known_s": NUMBER, "disputed_s": NUMBER, "voltage_unknown_s": NUMBER}
    | {"charge_in_ah": NUMBER, "charge_out_ah": NUMBER, "energy_in_kwh": NUMBER, "energy_out_kwh": NUMBER}
    | {"current_square_a2h": NUMBER, "temperature_c_h": NUMBER, "temperature_h": NUMBER}
    | {"rise_c_h": NUMBER, "rise_h": NUMBER, "soc_min_pct": NUMBER, "soc_max_pct": NUMBER}
    | {"temperature_min_c": NUMBER, "temperature_max_c": NUMBER, "rated_ah": NUMBER, "detail": TEXT}
)
MODULE_HOUR = Table(
    "module_hour",
    ("module",),
    _VOID
    | _SUMS
    | {"spread_mv": NUMBER, "head_mark": WHOLE, "tail_mark": WHOLE, "before_mark": WHOLE, "after_mark": WHOLE},
)
# The hours of one module and day of UTC, added up (`span.py`). `moments` is JSON: rests, anchors, steps.
MODULE_DAY = Table(
    "module_day",
    ("module",),
    _VOID | _SUMS | {"first_utc_ms": WHOLE, "last_utc_ms": WHOLE, "moments": TEXT},
)
# An end that is not known to have come. InfluxQL cannot ask for a field that is not there.
FOREVER_UTC_MS = 253_402_300_799_000  # the last second of the year 9999

_HELD = {
    "from_evidence": TEXT,
    "until_utc_ms": WHOLE,  # `FOREVER_UTC_MS`: it is there, as far as is known
    "until_evidence": TEXT,
    "first_seen_utc_ms": WHOLE,
    "last_seen_utc_ms": WHOLE,
    "came": TEXT,  # JSON of the swap event, without what the tags say
    "went": TEXT,
}
# What one module's own evidence says of its places, and what the bays make of all modules' claims (custody.py).
# The time is from when. Who was in a holder at T: `stay` with time <= T and until_utc_ms > T.
CLAIM = Table("claim", ("module", "fleet", "node", "bay"), _VOID | _HELD)
STAY = Table("stay", ("module", "fleet", "node", "bay"), _VOID | _HELD)
# `module` is the drained one; the charged one where none left for it. The time is the swap's beginning.
SWAP = Table(
    "swap",
    ("fleet", "van", "station", "module"),
    _VOID
    | {"end_utc_ms": WHOLE, "duration_s": NUMBER, "bay": WHOLE, "module_out": TEXT, "module_in": TEXT}
    | {"slot_out": WHOLE, "slot_in": WHOLE, "request_id": WHOLE, "basis": TEXT}
    | {"soc_out_pct": NUMBER, "soc_in_pct": NUMBER, "odometer_km": NUMBER}
    | {"latitude_deg": NUMBER, "longitude_deg": NUMBER, "where_from": TEXT}
    | {"told_by_van": WHOLE, "told_by_station": WHOLE},
)
CONTRADICTION = Table(
    "contradiction",
    ("kind", "module", "fleet", "node", "bay"),
    _VOID
    | {"until_utc_ms": WHOLE, "other_fleet": TEXT, "other_node": TEXT, "other_bay": WHOLE}
    | {"other_module": TEXT, "text": TEXT},
)
# One row a module; its time is the first one that is known of it. `detail` is JSON: the whole passport.
PASSPORT = Table(
    "passport",
    ("module",),
    _VOID
    | {"last_utc_ms": WHOLE, "known_s": NUMBER, "energy_in_kwh": NUMBER, "energy_out_kwh": NUMBER}
    | {"charge_in_ah": NUMBER, "charge_out_ah": NUMBER, "equivalent_full_cycles": NUMBER, "fast_charge_share": NUMBER}
    | {"capacity_ah": NUMBER, "capacity_sigma_ah": NUMBER, "resistance_mohm": NUMBER, "resistance_sigma_mohm": NUMBER}
    | {"spread_mv": NUMBER, "spread_trend_mv": NUMBER, "swap_count": WHOLE, "holder_count": WHOLE, "detail": TEXT},
)
# The time is since when the sign is there. `detail` is JSON: the evidence.
WARNING = Table("warning", ("module", "kind"), _VOID | {"score": NUMBER, "text": TEXT, "detail": TEXT})
# The time is when the alarm was raised; `said_by`, for `by` is a word of query languages.
ACKNOWLEDGEMENT = Table(
    "acknowledgement",
    ("fleet", "node", "bay", "code"),
    _VOID | {"module": TEXT, "acknowledged_utc_ms": WHOLE, "said_by": TEXT, "note": TEXT},
)
# Up to which version of these books, and after how many repairs of the file, everything stored was made due.
BOOK_STATE = Table("book_state", ("book",), _VOID | {"version": WHOLE, "repair_count": WHOLE})
TABLES = (BOOK_STATE, MODULE_HOUR, MODULE_DAY, CLAIM, STAY, SWAP, CONTRADICTION, PASSPORT, WARNING, ACKNOWLEDGEMENT)
