"""Roll-ups as a real InfluxDB 1.x makes them, compared with the same values computed here."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from swapline_bench import services
from swapline_bench.services import InfluxServer
from swapline_cloud.config import CloudConfig
from swapline_cloud.database import continuous
from swapline_cloud.database.part1 import Influxdb1Part
from swapline_cloud.rollup import FOREVER, LATE_S, LEVELS, MINUTE, Level, Rollup, Turn, rollups
from swapline_gateway.sinks.line_protocol import FRAMES
from swapline_wire import catalogue

HOUR_S = 3600
WAIT_S_MAX = 30.0
AGGREGATE: dict[str, Callable[[list[Any]], Any]] = {
    "mean": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
    "count": len,
    "last": lambda values: values[-1],
    "sum": sum,
}
FRAME_FIELDS = ("seq", "boot", "row_count", "value_count", "rows_refused", "span_ms", "delay_ms")
Tags = tuple[tuple[str, str], ...]
Row = tuple[int, dict[str, Any]]  # seconds, fields
Points = dict[tuple[Tags, int], dict[str, Any]]


def set_up(server: InfluxServer, folder: Path, database: str, levels: tuple[Level, ...] = LEVELS) -> None:
    section = {"version": 1, "url": server.url, "database": database}
    part = Influxdb1Part(CloudConfig.model_validate({"database": section, "secrets": folder}), levels=levels)
    for change in part.changes():
        if change.kind != "user":
            change.do()


def write(server: InfluxServer, database: str, measurement: str, series: dict[Tags, list[Row]]) -> None:
    lines = []
    for tags, rows in series.items():
        head = ",".join([measurement, *(f"{name}={value}" for name, value in tags)])
        for second, fields in rows:
            body = ",".join(f"{name}={value}{'i' if isinstance(value, int) else ''}" for name, value in fields.items())
            lines.append(f"{head} {body} {second}")
    services.post(f"{server.url}/write?db={database}&precision=s", "\n".join(lines).encode())


def ask(server: InfluxServer, database: str, statement: str) -> list[dict[str, Any]]:
    answer = services.post(f"{server.url}/query?{urlencode({'db': database, 'epoch': 's', 'q': statement})}", b"")
    result = json.loads(answer)["results"][0]
    assert "error" not in result, result
    found: list[dict[str, Any]] = result.get("series", [])
    return found


def stored(server: InfluxServer, database: str, policy: str, measurement: str) -> Points:
    found: Points = {}
    statement = f'SELECT * FROM "{policy}"."{measurement}" GROUP BY *'  # noqa: S608 (our own names)
    for series in ask(server, database, statement):
        tags = tuple(sorted((name, value) for name, value in series["tags"].items() if value))
        for values in series["values"]:
            fields = dict(zip(series["columns"], values, strict=True))
            second = fields.pop("time")
            found[tags, second] = {name: value for name, value in fields.items() if value is not None}
    return found


def computed(rollup: Rollup, series: dict[Tags, list[Row]], seconds: int) -> Points:
    """Compute a roll-up in Python, by its definition."""
    found: Points = {}
    for tags, rows in series.items():
        for start in sorted({second // seconds * seconds for second, _ in rows}):
            inside = [fields for second, fields in rows if start <= second < start + seconds]
            point = {}
            for column in rollup.columns:
                values = [fields[column.field] for fields in inside if column.field in fields]
                if values:
                    point[column.name] = AGGREGATE[column.aggregate](values)
            if point:
                found[tuple(sorted(tags)), start] = point
    return found


def made_up(rollup: Rollup, start_s: int, luck: random.Random) -> dict[Tags, list[Row]]:
    """Return two hours of rows of three owners, with gaps, and fields that are often without a value."""
    series: dict[Tags, list[Row]] = {}
    for owner in range(3):
        values = {name: f"{name}{owner}" for name in rollup.tags}
        if owner == 2:
            values.pop("bay", None)  # a tag without a value is no tag
        seconds = sorted(luck.sample(range(start_s, start_s + 2 * HOUR_S), 60))
        series[tuple(values.items())] = [(second, fields_of(rollup, luck)) for second in seconds]
    return series


def fields_of(rollup: Rollup, luck: random.Random) -> dict[str, Any]:
    if rollup.measurement == FRAMES:
        return {name: luck.randint(0, 10_000) for name in FRAME_FIELDS}
    stream = catalogue.stream_by_name(rollup.measurement)
    assert stream is not None
    fields: dict[str, Any] = {"time_quality": 4}
    for signal in stream.signals:
        if signal.kind != catalogue.KEY and luck.random() < 0.4:
            raw = luck.randint(signal.minimum, signal.maximum)
            fields[signal.name] = raw if signal.decimals == 0 else raw / 10**signal.decimals
    return fields


def back_filled(text: str, start_s: int, end_s: int) -> str:
    """Return what a continuous query does, as one statement over a range."""
    select = text[text.index("BEGIN ") + 6 : text.index(" END")]
    return select.replace(" GROUP BY", f" WHERE time >= {start_s}s AND time < {end_s}s GROUP BY")


def test_every_roll_up_of_every_stream_holds_the_very_values(server: InfluxServer, tmp_path: Path) -> None:
    set_up(server, tmp_path, "whole")
    start_s = int(time.time()) // HOUR_S * HOUR_S - 48 * HOUR_S
    luck = random.Random(6)  # noqa: S311
    expected: dict[tuple[str, str], Points] = {}
    for rollup in rollups():
        series = made_up(rollup, start_s, luck)
        write(server, "whole", rollup.measurement, series)
        for level in LEVELS:
            expected[level.policy, rollup.measurement] = computed(rollup, series, level.seconds)
    for text in continuous.statements("whole").values():
        ask(server, "whole", back_filled(text, start_s, start_s + 2 * HOUR_S))
    for (policy, measurement), points in expected.items():
        assert stored(server, "whole", policy, measurement) == points, (policy, measurement)
    assert sum(map(len, expected.values())) > 1000


def test_a_total_is_never_averaged_and_a_state_is_only_counted_and_last() -> None:
    seen = set()
    for rollup in rollups():
        stream = catalogue.stream_by_name(rollup.measurement)
        kinds = {signal.name: signal.kind for signal in stream.signals} if stream else {}
        for column in rollup.columns:
            seen.add((kinds.get(column.field), column.aggregate))
    assert {aggregate for kind, aggregate in seen if kind == "total"} == {"min", "max", "count", "last"}
    assert {aggregate for kind, aggregate in seen if kind == "state"} == {"count", "last"}
    assert {aggregate for kind, aggregate in seen if kind == "measurement"} == {"mean", "min", "max", "count", "last"}


def test_what_happens_once_has_no_roll_up() -> None:
    assert {"event", "alarm"}.isdisjoint(rollup.measurement for rollup in rollups())


def test_whole_numbers_stay_whole_so_that_a_field_has_one_type(server: InfluxServer, tmp_path: Path) -> None:
    set_up(server, tmp_path, "types")
    start_s = int(time.time()) // HOUR_S * HOUR_S - HOUR_S
    rows = [(start_s + i, {"voltage_v": 1.5 + i, "cycles": i, "switches": i}) for i in range(3)]
    write(server, "types", "module", {(("fleet", "a"),): rows})
    for text in continuous.statements("types").values():
        ask(server, "types", back_filled(text, start_s, start_s + HOUR_S))
    series = ask(server, "types", 'SHOW FIELD KEYS FROM "forever"."module"')
    types = dict(series[0]["values"])
    assert types == {
        "voltage_v_mean": "float",
        "voltage_v_min": "float",
        "voltage_v_max": "float",
        "voltage_v_last": "float",
        "voltage_v_count": "integer",
        "cycles_min": "integer",
        "cycles_max": "integer",
        "cycles_last": "integer",
        "cycles_count": "integer",
        "switches_last": "integer",
        "switches_count": "integer",
    }


def test_the_server_itself_takes_new_rows_and_late_ones_into_its_roll_ups(server: InfluxServer, tmp_path: Path) -> None:
    second = Level(MINUTE, "1s", 1, (Turn(1, 10), Turn(2, LATE_S)))
    set_up(server, tmp_path, "live", (second, Level(FOREVER, "10s", 10, (Turn(2, LATE_S),))))
    module = next(rollup for rollup in rollups() if rollup.measurement == "module")
    tags = (("fleet", "a"), ("node", "van"), ("bay", "1"), ("module", "M"))
    now_s = int(time.time()) // 10 * 10
    rows = [(now_s - age, {"voltage_v": age / 7, "cycles": age, "switches": 3}) for age in (3, 2, 1)]
    late = [(now_s - LATE_S + 60 + n, {"voltage_v": n / 3, "cycles": n}) for n in range(30)]
    write(server, "live", "module", {tags: rows})
    wait_for(server, MINUTE, computed(module, {tags: rows}, 1))
    write(server, "live", "module", {tags: late})
    wait_for(server, MINUTE, computed(module, {tags: [*late, *rows]}, 1))
    wait_for(server, FOREVER, computed(module, {tags: [*late, *rows]}, 10))


def wait_for(server: InfluxServer, policy: str, expected: Points) -> None:
    """Wait until the server's own queries made the points that are expected."""
    end = time.monotonic() + WAIT_S_MAX
    while (found := stored(server, "live", policy, "module")) != expected and time.monotonic() < end:
        time.sleep(0.05)
    assert found == expected


def test_two_texts_are_the_same_if_they_mean_the_same() -> None:
    ours = 'CREATE CONTINUOUS QUERY "a.b" ON "s" RESAMPLE EVERY 9000s FOR 7200s BEGIN SELECT mean("x") AS "y" END'
    theirs = 'CREATE CONTINUOUS QUERY "a.b" ON s RESAMPLE EVERY 2h30m FOR 2h BEGIN SELECT mean(x) AS y END'
    assert continuous.normalise(ours) == continuous.normalise(theirs)
    for other in ("mean(z)", "max(x)"):
        assert continuous.normalise(ours) != continuous.normalise(theirs.replace("mean(x)", other))
    assert continuous.normalise(ours) != continuous.normalise(theirs.replace("2h30m", "2h31m"))
