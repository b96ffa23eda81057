"""The answers to a panel's queries, as columns, and what the panel's transformations make of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swapline_cloud.viewer import Ask, Look, Series, Target, series_of, table_of, targets

Rows = list[list[Any]]


@dataclass
class Frame:
    """One table. `ref_id` is the query's."""

    ref_id: str
    columns: list[str]
    rows: Rows

    def column(self, name: str) -> list[Any]:
        """Return a column's values; None each where there is none of that name."""
        if name not in self.columns:
            return [None] * len(self.rows)
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


@dataclass
class Shown:
    """What a panel has to show: its courses, and its tables."""

    series: list[Series]
    frames: list[Frame]

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing."""
        return not any(one.values for one in self.series) and not any(frame.rows for frame in self.frames)


def ask(panel: Mapping[str, Any], look: Look, query: Ask) -> Shown:
    """Ask all that a panel asks."""
    shown = Shown([], [])
    for target in targets(panel, look):
        answer = query(target.statement)
        if not answer:
            continue
        if target.is_table:
            shown.frames.append(_frame(target, answer))
        else:
            shown.series += series_of(target, answer)
    return shown


def _frame(target: Target, answer: list[dict[str, Any]]) -> Frame:
    columns, rows = table_of(answer)
    return Frame(target.ref_id, columns, rows)


def transform(panel: Mapping[str, Any], frames: list[Frame]) -> Frame:
    """Return the one table that a panel's transformations make of its frames."""
    done = list(frames)
    for step in panel.get("transformations", []):
        options = step["options"]
        if step["id"] == "joinByField":
            done = [_join(done, options["byField"])]
        elif step["id"] == "merge":
            done = [_join(done, done[0].columns[0])] if done else []
        elif step["id"] == "filterFieldsByName":
            done = [_filter(frame, options["include"]["names"]) for frame in done]
        elif step["id"] == "organize":
            done = [_organize(frame, options) for frame in done]
        elif step["id"] == "sortBy":
            done = [_sort(frame, options["sort"][0]) for frame in done]
        else:
            raise NotImplementedError(f"the preview knows no transformation {step['id']}")
    return done[0] if done else Frame("", [], [])


def _join(frames: list[Frame], by: str) -> Frame:
    columns = list(dict.fromkeys([by, *(name for frame in frames for name in frame.columns)]))
    rows: dict[Any, dict[str, Any]] = {}
    for frame in frames:
        for row in frame.rows:
            values = dict(zip(frame.columns, row, strict=True))
            rows.setdefault(values.get(by), {}).update(values)
    return Frame("", columns, [[values.get(name) for name in columns] for values in rows.values()])


def _filter(frame: Frame, names: list[str]) -> Frame:
    kept = [name for name in frame.columns if name in names]
    return Frame(frame.ref_id, kept, [list(row) for row in zip(*(frame.column(name) for name in kept), strict=True)])


def _organize(frame: Frame, options: Mapping[str, Any]) -> Frame:
    order, left_out = options.get("indexByName", {}), options.get("excludeByName", {})
    names = sorted((name for name in frame.columns if not left_out.get(name)), key=lambda name: order.get(name, 99))
    rows = [list(row) for row in zip(*(frame.column(name) for name in names), strict=True)]
    renamed = options.get("renameByName", {})
    return Frame(frame.ref_id, [renamed.get(name, name) for name in names], rows)


def _sort(frame: Frame, how: Mapping[str, Any]) -> Frame:
    if how["field"] not in frame.columns:
        return frame
    place = frame.columns.index(how["field"])
    known = [row for row in frame.rows if row[place] is not None]
    unknown = [row for row in frame.rows if row[place] is None]
    return Frame(
        frame.ref_id, frame.columns, sorted(known, key=lambda row: row[place], reverse=bool(how.get("desc"))) + unknown
    )
