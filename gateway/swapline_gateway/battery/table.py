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

# One module and hour of UTC: what `hour.py` makes of its readings. `detail` is JSON: sightings, rests, steps.
MODULE_HOUR = Table("module_hour", ("module",), _VOID | {"detail": TEXT})
STAY = Table("stay", ("module", "fleet", "node", "bay"), _VOID | {"detail": TEXT})
SWAP = Table("swap", ("fleet", "van", "station", "module"), _VOID | {"detail": TEXT})
CONTRADICTION = Table("contradiction", ("kind", "module"), _VOID | {"detail": TEXT})
PASSPORT = Table("passport", ("module",), _VOID | {"detail": TEXT})
WARNING = Table("warning", ("module", "kind"), _VOID | {"detail": TEXT})
# The time is when the alarm was raised; `said_by`, for `by` is a word of query languages.
ACKNOWLEDGEMENT = Table(
    "acknowledgement",
    ("fleet", "node", "bay", "code"),
    _VOID | {"module": TEXT, "acknowledged_utc_ms": WHOLE, "said_by": TEXT, "note": TEXT},
)
TABLES = (MODULE_HOUR, STAY, SWAP, CONTRADICTION, PASSPORT, WARNING, ACKNOWLEDGEMENT)
