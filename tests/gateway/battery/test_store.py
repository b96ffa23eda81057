"""What every store promises, asked of the DuckDB file and of a real InfluxDB 1.x: the same answers."""

from functools import partial
from typing import Any, cast

import pytest

from swapline_bench.frame_source import MODULE_CODE, FrameSource, module_row, row_of
from swapline_gateway.battery.record import Place
from swapline_gateway.battery.store_duckdb import DuckdbStore
from swapline_gateway.battery.table import NUMBER, TABLES, TEXT, TRUTH, WHOLE, Row, Table
from swapline_gateway.error import SinkBusyError
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_wire.catalogue import ALARM_STREAM, BATTERY_IN, BATTERY_OUT, BOOT, CELLS, EVENT_STREAM, MODULE, VEHICLE
from tests.gateway.battery.conftest import Database
from tests.gateway.written import write

BASE_MS = 1_800_000_000_000
OTHER_CODE = "0AACDE12345678901234ABCE"
ODD_CODE = "o\"dd,='\\code"

NOTE = Table(
    "note",
    ("fleet", "node", "module"),
    {"is_void": TRUTH, "detail": TEXT, "count": WHOLE, "share": NUMBER, "is_good": TRUTH},
)


@pytest.fixture(autouse=True)
def _table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swapline_gateway.sinks.duckdb_schema.TABLES", (*TABLES, NOTE))


def note(time_ms: int, detail: str | None = None, *, node: str = "van-001", module: str = "M", **fields: Any) -> Row:
    return NOTE.row(time_ms, {"fleet": "test", "node": node, "module": module}, detail=detail, **fields)


def test_readings_of_a_module_come_in_order_with_their_places(database: Database) -> None:
    van = FrameSource(anchor_utc_ms=BASE_MS)
    station = FrameSource(node="station-1", anchor_utc_ms=BASE_MS, journal=9)
    write(database.sink, station, station.frame([(60_000 + i * 1000, module_row(5100 + i)) for i in range(3)], bay=4))
    write(database.sink, van, van.frame([(i * 1000, module_row(5000 + i)) for i in range(3)], bay=2))
    write(database.sink, van, van.frame([(0, module_row())], owner=OTHER_CODE))
    found = database.store.readings(
        MODULE_CODE, ["voltage_v", "cell_count"], start_utc_ms=BASE_MS + 1000, end_utc_ms=BASE_MS + 62_000
    )
    assert list(found.time_utc_ms) == [BASE_MS + ms for ms in (1000, 2000, 60_000, 61_000)]
    assert list(found.places) == [Place("test", "van-001", 2)] * 2 + [Place("test", "station-1", 4)] * 2
    assert {name: list(values) for name, values in found.columns.items()} == {
        "voltage_v": [50.01, 50.02, 51.0, 51.01],
        "cell_count": [16] * 4,
    }


def test_value_that_is_not_there_is_none_and_nothing_stored_is_no_rows(database: Database) -> None:
    source = FrameSource(anchor_utc_ms=BASE_MS)
    row = row_of(MODULE, current_a=-150)
    write(database.sink, source, source.frame([(0, row)]))
    ask = partial(database.store.readings, start_utc_ms=BASE_MS, end_utc_ms=BASE_MS + 1)
    found = ask(MODULE_CODE, ["voltage_v", "current_a"])
    assert {name: list(values) for name, values in found.columns.items()} == {"voltage_v": [None], "current_a": [-1.5]}
    nothing = ask(OTHER_CODE, ["voltage_v"])
    assert (list(nothing.time_utc_ms), list(nothing.places), list(nothing.columns["voltage_v"])) == ([], [], [])


def test_cells_come_with_their_segment(database: Database) -> None:
    source = FrameSource(anchor_utc_ms=BASE_MS)
    rows = [(0, row_of(CELLS, segment=segment, cell_01_v=3300 + segment)) for segment in range(2)]
    write(database.sink, source, source.frame(rows, stream=CELLS))
    found = database.store.readings(
        MODULE_CODE, ["segment", "cell_01_v"], stream="cells", start_utc_ms=BASE_MS, end_utc_ms=BASE_MS + 1
    )
    assert sorted(zip(found.columns["segment"], found.columns["cell_01_v"], strict=True)) == [(0, 3.3), (1, 3.301)]


def test_rows_of_a_holder(database: Database) -> None:
    source = FrameSource(anchor_utc_ms=BASE_MS)
    rows = [(i * 1000, row_of(VEHICLE, odometer_km=100_000 + 100 * i)) for i in range(2)]
    write(database.sink, source, source.frame(rows, stream=VEHICLE, owner="", bay=0))
    found = database.store.holder_readings(
        "test", "van-001", ["odometer_km"], stream="vehicle", start_utc_ms=BASE_MS, end_utc_ms=BASE_MS + 5000
    )
    assert list(found.columns["odometer_km"]) == [100.0, 100.1]
    assert list(found.places) == [Place("test", "van-001", 0)] * 2


def test_swap_events_come_as_halves_and_other_events_do_not(database: Database) -> None:
    source = FrameSource(anchor_utc_ms=BASE_MS)
    rows = [
        (0, row_of(EVENT_STREAM, code=BATTERY_OUT, request_id=77, soc_pct=123, duration_s=900)),
        (5000, row_of(EVENT_STREAM, code=BATTERY_IN, soc_pct=950, soh_pct=988)),
        (6000, row_of(EVENT_STREAM, code=BOOT, reason=1)),
    ]
    write(database.sink, source, source.frame(rows, stream=EVENT_STREAM, bay=3))
    out, back = database.store.halves(module=MODULE_CODE)
    assert (out.time_utc_ms, out.is_in, out.request_id, out.soc_pct, out.duration_s) == (BASE_MS, False, 77, 12.3, 900)
    assert (back.time_utc_ms, back.is_in, back.request_id, back.soh_pct) == (BASE_MS + 5000, True, None, 98.8)
    assert out.place == back.place == Place("test", "van-001", 3)
    assert database.store.halves(fleet="another") == []
    assert database.store.halves(start_utc_ms=BASE_MS + 1, end_utc_ms=BASE_MS + 5000) == []


def test_alarms_come_newest_first_up_to_the_limit(database: Database) -> None:
    source = FrameSource(anchor_utc_ms=BASE_MS)
    rows = [(i * 1000, row_of(ALARM_STREAM, code=4, level=1 + i, value=-5, threshold=7)) for i in range(3)]
    write(database.sink, source, source.frame(rows, stream=ALARM_STREAM, bay=2))
    found = database.store.alarms(module=MODULE_CODE, limit=2)
    assert [(one["time_utc_ms"], one["level"], one["code"]) for one in found] == [
        (BASE_MS + 2000, 3, 4),
        (BASE_MS + 1000, 2, 4),
    ]
    assert found[0] | {"stream": None} == found[0]
    assert (found[0]["fleet"], found[0]["bay"], found[0]["module"], found[0]["value"]) == ("test", 2, MODULE_CODE, -5)


def test_modules_and_their_span(database: Database) -> None:
    source = FrameSource(anchor_utc_ms=BASE_MS)
    write(database.sink, source, source.frame([(0, module_row()), (9000, module_row())]))
    event = (20_000, row_of(EVENT_STREAM, code=BATTERY_OUT))
    write(database.sink, source, source.frame([event], stream=EVENT_STREAM))
    write(database.sink, source, source.frame([(3_600_000, module_row())], owner=OTHER_CODE))
    write(database.sink, source, source.frame([(0, row_of(EVENT_STREAM, code=BOOT))], stream=EVENT_STREAM, owner=""))
    assert database.store.modules() == [MODULE_CODE, OTHER_CODE]
    assert database.store.modules(start_utc_ms=BASE_MS + 600_000) == [OTHER_CODE]
    assert database.store.modules(end_utc_ms=BASE_MS + 600_000) == [MODULE_CODE]
    assert database.store.span(MODULE_CODE) == (BASE_MS, BASE_MS + 20_000)
    assert database.store.span("nobody") is None


def test_row_comes_back_as_it_was_put(database: Database) -> None:
    rows = [
        note(BASE_MS, 'two\nlines, "quotes", \\ back\\slash, = and \u00e9\u4e2d'),
        note(BASE_MS + 1, "", count=-(2**53) - 1, share=1 / 3, is_good=True),
        note(BASE_MS + 2, "x" * 200_000, count=0, share=-0.0, is_good=False),
    ]
    database.store.put(rows)
    assert database.store.read(NOTE) == rows


def test_row_that_is_put_again_replaces_the_one_before(database: Database) -> None:
    database.store.put([note(BASE_MS, "first"), note(BASE_MS + 5, "other")])
    database.store.put([note(BASE_MS, "second"), note(BASE_MS, "third")])
    assert [row.fields["detail"] for row in database.store.read(NOTE)] == ["third", "other"]


def test_field_that_is_left_out_of_a_new_row_is_gone(database: Database) -> None:
    database.store.put([note(BASE_MS, "said", count=3)])
    database.store.put([note(BASE_MS, count=4)])
    (row,) = database.store.read(NOTE)
    assert row.fields == {"is_void": False, "count": 4}
    assert database.store.read(NOTE, where=[("detail", "=", "said")]) == []
    assert database.store.read(NOTE, where=[("detail", "!=", "said")]) == []


def test_void_row_is_not_read_and_can_come_back(database: Database) -> None:
    row = note(BASE_MS, "one")
    database.store.put([row, note(BASE_MS + 1, "two")])
    database.store.put([row.void()])
    assert [found.fields["detail"] for found in database.store.read(NOTE)] == ["two"]
    database.store.put([row])
    assert [found.fields["detail"] for found in database.store.read(NOTE)] == ["one", "two"]


def test_rows_are_chosen_by_tags_fields_and_time(database: Database) -> None:
    database.store.put([note(BASE_MS + i, f"d{i % 3}", node=f"van-{i % 2}", count=i) for i in range(10)])

    def times(**question: Any) -> list[int]:
        return [row.time_utc_ms - BASE_MS for row in database.store.read(NOTE, **question)]

    assert times(tags={"node": "van-1"}) == [1, 3, 5, 7, 9]
    assert times(tags={"node": "van-1"}, where=[("detail", "=", "d0")]) == [3, 9]
    assert times(where=[("detail", "!=", "d0"), ("detail", "!=", "d1")]) == [2, 5, 8]
    assert times(start_utc_ms=BASE_MS + 4, end_utc_ms=BASE_MS + 6) == [4, 5]
    assert times(newest_first=True, limit=3) == [9, 8, 7]
    assert times(where=[("count", ">", 3), ("count", "<=", 6), ("node", "=", "van-0")]) == [4, 6]
    assert times(limit=2, where=[("detail", "=", "d2")]) == [2, 5]


def test_empty_tag_is_a_tag_of_its_own(database: Database) -> None:
    database.store.put([note(BASE_MS, module=code) for code in ("", MODULE_CODE)])
    assert {row.tags["module"] for row in database.store.read(NOTE)} == {"", MODULE_CODE}
    assert len(database.store.read(NOTE, tags={"module": ""})) == 1


def test_module_with_an_odd_code_is_found_under_the_name_the_store_gives_it(database: Database) -> None:
    source = FrameSource(anchor_utc_ms=BASE_MS)
    write(database.sink, source, source.frame([(0, module_row())], owner=ODD_CODE))
    known_as = database.store.known_as(ODD_CODE)
    assert database.store.modules() == [known_as]
    for code in (ODD_CODE, known_as):
        assert database.store.span(code) == (BASE_MS, BASE_MS)
        assert len(database.store.readings(code, [], start_utc_ms=BASE_MS, end_utc_ms=BASE_MS + 1).time_utc_ms) == 1
    row = note(BASE_MS, module=known_as)
    database.store.put([row])
    assert database.store.read(NOTE, tags={"module": known_as}) == [row]


def test_more_rows_than_one_answer_holds_come_whole(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swapline_gateway.battery.store_influxql.PAGE_ROWS", 7)
    rows = [note(BASE_MS + i // 3, str(i), module=str(i % 3)) for i in range(50)]
    database.store.put(rows)
    assert [row.fields["detail"] for row in database.store.read(NOTE)] == [str(i) for i in range(50)]
    assert len(database.store.read(NOTE, newest_first=True, limit=20)) == 20


def test_unknown_table_of_a_newer_version_is_empty(database: Database) -> None:
    assert database.store.read(Table("table_of_tomorrow", ("module",), {"is_void": "truth"})) == []


def test_question_that_takes_too_long_is_interrupted(duckdb_file: Database) -> None:
    sink = cast("DuckdbSink", duckdb_file.sink)
    endless = "(SELECT COUNT(*) FROM range(100000000) AS a, range(100000000) AS b WHERE a.range * 7 < b.range)"
    with sink.cursor() as cursor:
        cursor.execute(f"DROP TABLE note; CREATE VIEW note AS SELECT {endless} AS count, false AS is_void")
    impatient = DuckdbStore(sink.cursor, query_s_max=0.2)
    with pytest.raises(SinkBusyError, match="INTERRUPT"):
        impatient.count(NOTE)
    assert impatient.modules() == []
