"""The Flux of the roll-ups' tasks: no InfluxDB 2.x runs here, so its text is held to its documentation line by line."""

import re
from pathlib import Path

import pytest

from swapline_cloud.database import continuous, flux
from swapline_cloud.rollup import FOREVER, LATE_S, LEVELS, MINUTE, Column, Level, Rollup, rollups
from swapline_wire import catalogue
from swapline_wire.catalogue import STATE, TOTAL

HERE = Path(__file__).parent
SCRIPTS = flux.scripts("swapline", "swapline")
PIPE = re.compile(
    r"""from\(bucket: "(?P<raw>[^"]+)"\)
    \|> range\(start: start, stop: stop\)
    \|> filter\(fn: \(r\) => r\._measurement == "(?P<measurement>\w+)"\)
    \|> filter\(
        fn: \(r\) =>
            (?P<fields>r\._field == "\w+"(?:\n                or r\._field == "\w+")*),
    \)
    \|> aggregateWindow\(every: (?P<every>\w+), fn: (?P<aggregate>\w+), createEmpty: false, timeSrc: "_start"\)
    \|> map\(fn: \(r\) => \(\{r with _field: (?P<name>[^}]+)\}\)\)
    \|> to\(bucket: "(?P<kept>[^"]+)", org: "(?P<org>[^"]+)"\)
    \|> yield\(name: "(?P<result>\w+)"\)
"""
)


def columns_of(script: str) -> list[Column]:
    """Read back what a script makes."""
    found = []
    for pipe in PIPE.finditer(script):
        for field in re.findall(r'r\._field == "(\w+)"', pipe["fields"]):
            suffix = re.fullmatch(r'r\._field \+ "(\w+)"', pipe["name"])
            name = field + suffix[1] if suffix else pipe["name"].strip('"')
            found.append(Column(name, pipe["aggregate"], field))
    return found


@pytest.mark.parametrize("name", ["module.minute", "frames.forever"])
def test_a_script_reads_as_it_was_agreed(name: str) -> None:
    file = HERE / f"golden_task_{name.replace('.', '_')}.flux"
    assert SCRIPTS[f"{continuous.OWN}{name}"] == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.policy)
@pytest.mark.parametrize("rollup", rollups(), ids=lambda rollup: rollup.measurement)
def test_each_task_makes_the_very_columns_of_its_roll_up(rollup: Rollup, level: Level) -> None:
    begin = f"swapline.{rollup.measurement}.{level.policy}"
    scripts = [script for name, script in SCRIPTS.items() if name in (begin, f"{begin}.late")]
    assert len(scripts) == len(level.turns)
    for script in scripts:
        holds_the_columns(script, rollup, level)


def holds_the_columns(script: str, rollup: Rollup, level: Level) -> None:
    assert sorted(columns_of(script)) == sorted(rollup.columns)
    pipes = list(PIPE.finditer(script))
    assert {pipe["measurement"] for pipe in pipes} == {rollup.measurement}
    assert {pipe["raw"] for pipe in pipes} == {"swapline"}
    assert {pipe["kept"] for pipe in pipes} == {f"swapline_{level.policy}"}
    assert {pipe["every"] for pipe in pipes} == {level.interval}
    results = [pipe["result"] for pipe in pipes]
    assert len(set(results)) == len(results)  # Flux refuses two results of one name


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_else_is_in_a_script_and_its_imports_come_first(name: str) -> None:
    head, *_ = PIPE.split(SCRIPTS[name], maxsplit=1)
    lines = [line for line in head.splitlines() if line and not line.startswith("//")]
    assert [line.split()[0] for line in lines] == ["import", "option", "stop", "start"]
    assert PIPE.sub("", SCRIPTS[name]).strip() == head.strip()


def test_a_window_ends_with_a_whole_unit_and_the_turns_reach_back_beyond_the_latest_row() -> None:
    for level, unit in ((LEVELS[0], "1m"), (LEVELS[1], "1h")):
        for turn in level.turns:
            is_late = turn == level.turns[-1] and len(level.turns) > 1
            script = SCRIPTS[f"swapline.vehicle.{level.policy}" + (".late" if is_late else "")]
            assert f"every: {turn.every_s}s, offset: {flux.OFFSET_S}s" in script
            assert f"stop = date.truncate(t: now(), unit: {unit})" in script
            assert f"start = date.sub(from: stop, d: {turn.span_s}s)" in script
            assert turn.every_s % level.seconds == 0
            assert turn.span_s % level.seconds == 0
        assert level.turns[-1].span_s - level.turns[-1].every_s >= LATE_S


def test_totals_and_states_are_never_averaged() -> None:
    for rollup in rollups():
        stream = catalogue.stream_by_name(rollup.measurement)
        if stream is None:
            continue
        kinds = {signal.name: signal.kind for signal in stream.signals}
        for policy in (MINUTE, FOREVER):
            for column in columns_of(SCRIPTS[f"swapline.{rollup.measurement}.{policy}"]):
                assert not (kinds[column.field] in (TOTAL, STATE) and column.aggregate == "mean"), column


def test_names_cannot_break_out_of_their_quotes() -> None:
    assert flux.text('a"b\\c${d}') == '"a\\"b\\\\c\\${d}"'
