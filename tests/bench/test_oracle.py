"""The oracle on made-up runs: what is planted is found, and what is right is left alone."""

import ast
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from swapline_bench import oracle
from swapline_bench.oracle import ClockFault, FrameRecord, PowerCut, Truth, Verdict, judge
from swapline_bench.statement import Statement

BENCH = Path(oracle.__file__).parent
BEGIN_MS = 1_790_000_000_000
SEAL_MS = 2000
NODE = "van-001"
MODULE = "A" * 24
WRONG = ("rows_lost_undeclared", "duplicates", "altered", "misowned", "mistimed")


class Tables:
    """A database made of lists."""

    def __init__(self, rows: Iterable[tuple[str, dict[str, Any]]], frames: list[FrameRecord] | None = None) -> None:
        self.all = list(rows)
        self._frames = frames or []

    def nodes(self, stream: str) -> list[str]:
        return sorted({row["node"] for name, row in self.all if name == stream})

    def rows(self, stream: str, node: str) -> list[dict[str, Any]]:
        found = [row for name, row in self.all if name == stream and row["node"] == node]
        return sorted(found, key=lambda row: row["time_utc_ms"])

    def frames(self, node: str) -> list[FrameRecord]:
        assert node == NODE
        return self._frames


def said(
    second: float,
    *,
    bay: int = 1,
    module: str = MODULE,
    stream: str = "module",
    values: dict[str, float] | None = None,
    is_doubtful: bool = False,
) -> Statement:
    """Return a statement of a reading whose values are those of no other second and bay, unless they are given."""
    own = {"voltage_v": round(50 + second / 100, 2), "current_a": float(bay), "protections": 0}
    utc_ms = BEGIN_MS + round(1000 * second)
    return Statement(utc_ms, NODE, stream, bay, module, own if values is None else values, is_doubtful)


def row(statement: Statement, late_ms: int = 80, **changes: Any) -> tuple[str, dict[str, Any]]:
    """Return the row that a statement should become, with `changes`."""
    columns = {"fleet": "bench", "node": statement.node, "bay": statement.bay, "module": statement.module}
    time = {"time_utc_ms": statement.true_utc_ms + late_ms, "time_quality": 4}
    return statement.stream, {**columns, **time, **statement.values, **changes}


def event(second: float, code: int, **signals: Any) -> tuple[str, dict[str, Any]]:
    times = {"time_utc_ms": BEGIN_MS + round(1000 * second), "time_quality": 4}
    return "event", {"node": NODE, "bay": 0, "module": "", "code": code, **times, **signals}


def readings(count: int = 60, **options: Any) -> list[Statement]:
    return [said(second, **options) for second in range(count)]


def wrong(verdict: Verdict) -> dict[str, int]:
    return {kind: getattr(verdict, kind) for kind in WRONG if getattr(verdict, kind)}


def verdict_of(
    statements: list[Statement],
    rows: list[tuple[str, dict[str, Any]]],
    cuts: Iterable[float] = (),
    frames: list[FrameRecord] | None = None,
) -> Verdict:
    power_cuts = [PowerCut(NODE, BEGIN_MS + round(1000 * second)) for second in cuts]
    return judge(Truth(statements, power_cuts, SEAL_MS), Tables(rows, frames))


# ---- damage that no check finds


def damaged(second: float, *names: str) -> Statement:
    return said(second)._replace(is_doubtful=True, damaged=names)


def test_a_row_may_say_anything_about_signals_that_were_damaged_by_chance_and_is_counted() -> None:
    statements = [*readings(10), damaged(10, "voltage_v")]
    rows = [row(one) for one in statements[:-1]] + [row(statements[-1], voltage_v=99.0)]
    verdict = verdict_of(statements, rows)
    assert verdict.is_good
    assert verdict.rows_by_chance == 1


def test_signals_that_were_not_damaged_must_be_true_all_the_same() -> None:
    statements = [*readings(10), damaged(10, "voltage_v")]
    rows = [row(one) for one in statements[:-1]] + [row(statements[-1], voltage_v=99.0, current_a=5.0)]
    assert wrong(verdict_of(statements, rows)) == {"altered": 1}


def test_one_damaged_answer_excuses_one_row() -> None:
    statements = [*readings(10), damaged(10, "voltage_v")]
    spoiled = [row(statements[-1], voltage_v=99.0), row(statements[-1], late_ms=90, voltage_v=98.0)]
    verdict = verdict_of(statements, [row(one) for one in statements[:-1]] + spoiled)
    assert wrong(verdict) == {"altered": 1}
    assert verdict.rows_by_chance == 1


def test_a_damaged_answer_that_became_no_row_is_not_missed() -> None:
    statements = [*readings(10), damaged(10, "voltage_v")]
    verdict = verdict_of(statements, [row(one) for one in statements[:-1]])
    assert verdict.is_good
    assert verdict.rows_by_chance == 0


# ---- independence


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or path.parent == BENCH
            package = "swapline_bench." if node.level else ""
            module = node.module or ""
            found.update({package + module, *(f"{package}{module}.{alias.name}" for alias in node.names)})
    return found


@pytest.mark.parametrize(
    "name",
    ["statement", "oracle", "faces.witness", "faces.witness_bms", "faces.witness_device"],
)
def test_the_oracle_shares_no_code_with_what_it_judges(name: str) -> None:
    waiting, seen = [name], set()
    while waiting:
        file = waiting.pop()
        path = BENCH / f"{file.replace('.', '/')}.py"
        if file in seen or not path.is_file():
            continue
        seen.add(file)
        found = imports(path)
        ours = {one for one in found if one.startswith(("swapline_wire", "swapline_node", "swapline_gateway"))}
        assert not ours, file
        waiting += [one.removeprefix("swapline_bench.") for one in found if one.startswith("swapline_bench.")]
    assert seen >= {name, "lag_watch"} if name != "oracle" else seen >= {"oracle_match", "oracle_loss", "verdict"}


# ---- what is right


def test_a_clean_run_is_good() -> None:
    statements = readings()
    verdict = verdict_of(statements, [row(one) for one in statements])
    assert verdict.is_good
    assert (verdict.rows_true, verdict.rows_stored, verdict.error_ms_max) == (60, 60, 80)
    assert verdict.examples == {}


def test_a_run_in_which_nothing_was_said_is_not_good() -> None:
    assert not verdict_of([], []).is_good


def test_tags_of_influxdb_are_the_same_as_columns_of_duckdb() -> None:
    statement = said(1, stream="cells", values={"segment": 0, "cell_01_v": 3.3})
    bare = said(2, bay=0, module="", stream="vehicle", values={"speed_kmh": 12.5})
    rows = [row(statement, bay="1", segment="0"), row(bare)]
    for tag in ("bay", "module"):
        del rows[1][1][tag]
    verdict = verdict_of([statement, bare], rows)
    assert verdict.is_good, verdict.examples


def test_readings_that_repeat_themselves_are_told_apart_by_time() -> None:
    still = {"speed_kmh": 0.0}
    statements = readings(values=still)
    rows = [row(one) for one in statements]
    assert verdict_of(statements, rows).is_good
    spoiled = rows[:20] + rows[21:40] + [rows[40], row(statements[40], late_ms=200)] + rows[41:]
    assert wrong(verdict_of(statements, spoiled)) == {"rows_lost_undeclared": 1, "duplicates": 1}


def test_a_clock_that_is_wrong_by_almost_a_poll_confuses_nobody() -> None:
    still, moving = readings(stream="vehicle", bay=0, module="", values={"speed_kmh": 0.0}), readings()
    statements = still + moving
    verdict = verdict_of(statements, [row(one, late_ms=900) for one in statements])
    assert verdict.is_good, verdict.examples
    assert verdict.error_ms_max == 900


def test_doubtful_readings_may_be_stored_and_need_not() -> None:
    statements = [said(second, is_doubtful=second % 3 == 0) for second in range(30)]
    rows = [row(one) for i, one in enumerate(statements) if i % 6]
    verdict = verdict_of(statements, rows)
    assert verdict.is_good, verdict.examples
    assert (verdict.rows_true, verdict.rows_doubtful, verdict.rows_doubtful_stored) == (20, 10, 5)


def test_of_a_doubtful_reading_a_part_may_have_been_heard() -> None:
    statement = said(5, is_doubtful=True)
    found = row(statement)
    del found[1]["protections"]
    assert wrong(verdict_of([statement], [found])) == {}
    assert wrong(verdict_of([said(5)], [found])) == {"altered": 1}


def test_an_estimated_time_may_be_wrong_and_is_counted_apart() -> None:
    statements = readings()
    rows = [row(one, late_ms=40_000, time_quality=1) for one in statements]
    verdict = verdict_of(statements, rows)
    assert verdict.is_good, verdict.examples
    assert (verdict.rows_estimated, verdict.estimated_error_ms_max, verdict.error_ms_max) == (60, 40_000, 0)
    assert verdict_of(statements, [row(one, late_ms=40_000) for one in statements]).mistimed == 60


def test_one_row_that_is_shifted_among_rows_of_a_poor_clock_is_found() -> None:
    statements = readings()
    rows = [row(one, late_ms=3000, time_quality=2) for one in statements]
    rows[30][1]["time_utc_ms"] += 4000
    assert wrong(verdict_of(statements, rows)) == {"mistimed": 1}


def test_two_boots_with_clocks_of_their_own_are_told_apart_where_they_meet() -> None:
    statements = readings() + readings(bay=2)
    late_ms = [15_000 if one.true_utc_ms < BEGIN_MS + 30_000 else 8_600 for one in statements]
    rows = [row(one, late_ms=late, time_quality=1) for one, late in zip(statements, late_ms, strict=True)]
    verdict = verdict_of(statements, rows)
    assert verdict.is_good, verdict.examples
    assert verdict.rows_estimated == 120


def test_cells_are_kept_at_a_slower_pace() -> None:
    statements = readings(stream="cells")
    assert verdict_of(statements, [row(statements[i]) for i in (0, 10, 21, 31, 41, 52)]).is_good
    assert wrong(verdict_of(statements, [row(statements[i]) for i in (0, 10, 31, 41, 52)])) == {
        "rows_lost_undeclared": 1
    }


# ---- what is planted


def planted() -> tuple[list[Statement], list[tuple[str, dict[str, Any]]]]:
    """Return two modules' readings and their rows; that of bay 1 at second 30 is in place 30."""
    statements = readings() + readings(bay=2, module="B" * 24)
    return statements, [row(one) for one in statements]


def test_a_lost_row_is_found() -> None:
    statements, rows = planted()
    del rows[30]
    verdict = verdict_of(statements, rows)
    assert wrong(verdict) == {"rows_lost_undeclared": 1}
    assert verdict.examples["rows_lost_undeclared"] == [
        f"module reading of van-001 bay 1 module {MODULE} at 2026-09-21T14:13:50.000Z has no row, "
        "and nobody declared it lost"
    ]


@pytest.mark.parametrize("late_ms", [80, 81, 1100])
def test_a_duplicate_is_found(late_ms: int) -> None:
    statements, rows = planted()
    verdict = verdict_of(statements, [*rows, row(statements[30], late_ms=late_ms)])
    assert wrong(verdict) == {"duplicates": 1}


@pytest.mark.parametrize("owner", [{"bay": 2}, {"module": "B" * 24}, {"bay": 2, "module": "B" * 24}, {"node": "x"}])
def test_a_wrong_owner_is_found(owner: dict[str, Any]) -> None:
    statements, rows = planted()
    rows[30][1].update(owner)
    verdict = verdict_of(statements, rows)
    assert wrong(verdict) == {"misowned": 1}
    assert f"is what van-001 bay 1 module {MODULE} said" in verdict.examples["misowned"][0]


@pytest.mark.parametrize("shift_ms", [-86_400_000, -1700, 1700, 86_400_000, 1024 * 7 * 86_400_000])
def test_a_shifted_time_is_found(shift_ms: int) -> None:
    statements, rows = planted()
    rows[30][1]["time_utc_ms"] += shift_ms
    assert wrong(verdict_of(statements, rows)) == {"mistimed": 1}


@pytest.mark.parametrize(
    "change", [{"voltage_v": 50.305}, {"protections": 1}, {"current_a": math.nan}, {"soc_pct": 12.0}, {"voltage_v": 0}]
)
def test_an_altered_value_is_found(change: dict[str, Any]) -> None:
    statements, rows = planted()
    rows[30][1].update(change)
    verdict = verdict_of(statements, rows)
    assert wrong(verdict) == {"altered": 1}
    (name,) = change
    assert f"{name} " in verdict.examples["altered"][0]


def test_a_row_that_nobody_said_is_found() -> None:
    statements, rows = planted()
    rows.append(row(said(30, values={"voltage_v": 99.99})))
    assert wrong(verdict_of(statements, rows)) == {"altered": 1}


def test_everything_at_once_is_told_apart() -> None:
    statements, rows = planted()
    rows[5][1]["bay"] = 2
    rows[15][1]["time_utc_ms"] += 5000
    rows[25][1]["voltage_v"] += 0.005
    rows.append(row(statements[35]))
    del rows[45]
    assert wrong(verdict_of(statements, rows)) == dict.fromkeys(WRONG, 1)


def test_examples_are_few_and_tell_what_lied() -> None:
    statements = readings()
    fault = ClockFault(NODE, BEGIN_MS, BEGIN_MS + 60_000, "GNSS is a day ahead")
    rows = [row(one, late_ms=86_400_000) for one in statements]
    verdict = judge(Truth(statements, [], SEAL_MS, [fault._replace(end_utc_ms=BEGIN_MS + 90_000_000)]), Tables(rows))
    assert len(verdict.examples["mistimed"]) == 5
    assert verdict.examples["mistimed"][0].endswith("+86400.0 s, time quality 4 (while GNSS is a day ahead)")


# ---- what is declared


def test_the_rows_of_one_sealing_interval_may_be_lost_at_a_declared_power_cut() -> None:
    statements = readings()
    rows = [row(one) for one in statements if not 27 <= (one.true_utc_ms - BEGIN_MS) / 1000 <= 30]
    declared = [*rows, event(31, 5, reason=3)]
    verdict = verdict_of(statements, declared, cuts=[30.2])
    assert verdict.is_good, verdict.examples
    assert (verdict.rows_lost_declared, verdict.rows_true, verdict.lost_before_cut_ms_max) == (4, 60, 3200)
    assert verdict_of(statements, rows, cuts=[30.2]).rows_lost_undeclared == 4
    assert verdict_of(statements, declared).rows_lost_undeclared == 4


def test_a_loss_outside_of_the_window_is_not_excused_by_a_power_cut() -> None:
    statements = readings()
    declared = event(31, 5, reason=3)
    for lost in (20, 33):
        rows = [row(one) for i, one in enumerate(statements) if i != lost]
        assert wrong(verdict_of(statements, [*rows, declared], cuts=[30.2])) == {"rows_lost_undeclared": 1}


def test_the_declaration_of_another_power_cut_does_not_count() -> None:
    statements = readings()
    rows = [row(one) for i, one in enumerate(statements) if i != 30]
    verdict = verdict_of(statements, [*rows, event(11, 5, reason=3), event(51, 5, reason=3)], cuts=[10, 30.2, 50])
    assert wrong(verdict) == {"rows_lost_undeclared": 1}


def test_a_row_is_not_lost_at_a_power_cut_when_the_device_said_something_later_that_is_stored() -> None:
    statements = readings()
    rows = [row(one) for i, one in enumerate(statements) if i not in (27, 29, 30)]
    verdict = verdict_of(statements, [*rows, event(31, 5, reason=3)], cuts=[30.2])
    assert wrong(verdict) == {"rows_lost_undeclared": 1}
    assert verdict.rows_lost_declared == 2


def test_a_declaration_with_a_poor_clock_speaks_for_one_power_cut_only() -> None:
    statements = readings()
    rows = [row(one) for i, one in enumerate(statements) if i not in (20, 40)]
    poor = event(42, 5, reason=3, time_quality=1)
    assert wrong(verdict_of(statements, [*rows, poor], cuts=[20.2, 40.2])) == {"rows_lost_undeclared": 1}
    assert verdict_of(statements, [*rows, poor, poor], cuts=[20.2, 40.2]).is_good
    exact = event(41, 5, reason=3)
    assert verdict_of(statements, [*rows, exact, poor], cuts=[20.2, 40.2]).is_good, "the poor one is the other's"


def test_a_boot_that_is_cut_short_leaves_the_declaration_to_the_next() -> None:
    statements = readings()
    rows = [row(one) for i, one in enumerate(statements) if i not in (29, 30)]
    assert verdict_of(statements, [*rows, event(34, 5, reason=3)], cuts=[30.2, 31.5, 33]).is_good


def test_declared_frames_excuse_what_lies_between_the_frames_around_them() -> None:
    statements = readings()
    frames = [FrameRecord(7, seq, BEGIN_MS + 2000 * seq, BEGIN_MS + 2000 * seq + 1000) for seq in range(30)]
    kept = [frame for frame in frames if not 10 <= frame.seq <= 14]
    rows = [row(one) for i, one in enumerate(statements) if not 20 <= i <= 29]
    dropped = event(59, 4, reason=1, first_seq=10, last_seq=14)
    verdict = verdict_of(statements, [*rows, dropped], frames=kept)
    assert verdict.is_good, verdict.examples
    assert verdict.rows_lost_declared == 10
    assert verdict_of(statements, rows, frames=kept).rows_lost_undeclared == 10
    less = [found for found in rows if found[1]["time_utc_ms"] != rows[40][1]["time_utc_ms"]]
    assert verdict_of(statements, [*less, dropped], frames=kept).rows_lost_undeclared == 1


def test_declared_rows_excuse_as_many_as_they_say() -> None:
    statements = readings()
    rows = [row(one) for i, one in enumerate(statements) if i not in (30, 31)]
    verdict = verdict_of(statements, [*rows, event(32, 5, reason=4, count=2)])
    assert verdict.is_good
    assert (verdict.rows_lost_declared, verdict.rows_lost_without_cut) == (2, 2)
    assert wrong(verdict_of(statements, [*rows, event(32, 5, reason=4, count=1)])) == {"rows_lost_undeclared": 1}


def test_a_receiver_talks_to_nobody_while_its_node_has_no_power() -> None:
    statements = readings(stream="position", bay=0, module="")
    rows = [row(one, late_ms=0) for i, one in enumerate(statements) if not 30 <= i <= 34]
    assert wrong(verdict_of(statements, rows)) == {"rows_lost_undeclared": 5}
    assert wrong(verdict_of(statements, [*rows, event(33, 5, reason=3)], cuts=[30.2])) == {}
