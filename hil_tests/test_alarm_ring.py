"""Around an alarm every reading of its module is in the database, those that were left out before it too, and true.

Two modules report by exception. One of them alarms: of it the database must hold every reading from before the alarm
until the end, each with the values and the time that its BMS gave it, as the oracle knows; of the other one, and
before the ring began, only what changed.
"""

from collections.abc import Callable
from itertools import count

import pytest

from swapline_bench import oracle
from swapline_bench.desk.strategy import Desk
from swapline_bench.module import Module
from swapline_bench.statement import read_statements
from swapline_bench.verdict import Truth
from swapline_wire.catalogue import ALARM_STREAM

pytestmark = [
    pytest.mark.promise("an alarm seals a frame at once and has the readings before and after it at full rate"),
    pytest.mark.needs("simulators", "bays:2"),
]
PROTECTION_BIT = 0
BEFORE_ROWS, AFTER_ROWS = 12, 8  # polls of the vehicle controller, one a second; less than half a minute each
EDGE_MS = 1500  # a reading is a statement a little before it is a row
LEFT_OUT_MIN = BEFORE_ROWS // 2


def let_it_breathe(module: Module) -> Callable[[], None]:
    """Let what a module's BMS says move by less than its deadband; return what makes it protect itself."""
    update = module.update
    ticks = count()
    protections = [0]

    def breathe(dt_s: float) -> None:
        update(dt_s)
        module.temperature_mosfet_c = 25.0 + next(ticks) % 5 / 10
        module.protections = protections[0]

    module.update = breathe  # type: ignore[method-assign]  # its BMS says what the test says

    def protect() -> None:
        protections[0] = 1 << PROTECTION_BIT

    return protect


async def test_every_reading_around_an_alarm_is_stored_as_it_was_said(
    desk: Desk, record_property: Callable[[str, object], None]
) -> None:
    desk.make_van(bays=2, bms=["seplos_v3", "seplos_v3"])
    assert desk.world is not None
    alarmed, quiet = (module for module in desk.world.vans[0].bays if module is not None)
    protect = let_it_breathe(alarmed)
    let_it_breathe(quiet)
    await desk.boot(streams={"module": {"report": "change"}, "vehicle": {"report": "all"}})
    heard = desk.tap[desk.name]
    await desk.tap.wait_rows(desk.name, "vehicle", BEFORE_ROWS)
    protect()
    await desk.tap.wait(lambda: heard.row_count("alarm") > 0, "the alarm")
    await desk.tap.wait_rows(desk.name, "vehicle", heard.row_count("vehicle") + AFTER_ROWS)
    await desk.judge()

    frames = [frame for frame in heard.frames.values() if frame.header.owner == alarmed.code]
    alarms_ms = [f.header.anchor_utc_ms + row[0] for f in frames if f.stream is ALARM_STREAM for row in f.rows]
    alarm_ms = min(alarms_ms)  # it is cleared when the bench falls silent
    rows_ms = sorted(f.header.anchor_utc_ms + row[0] for f in frames if f.stream.name == "module" for row in f.rows)
    statements = [
        one._replace(is_doubtful=one.is_doubtful or not (one.stream == "module" and one.module == alarmed.code))
        for one in read_statements(desk.folder / "statements.jsonl")
    ]
    first_ms, last_ms = rows_ms[0] + EDGE_MS, rows_ms[-1] - EDGE_MS
    statements = [
        one if first_ms <= one.true_utc_ms <= last_ms else one._replace(is_doubtful=True) for one in statements
    ]
    verdict = oracle.judge(Truth(statements, seal_interval_ms=desk.config["seal_interval_ms"]), desk.database)
    quiet_rows = [f for f in heard.frames.values() if f.header.owner == quiet.code and f.stream.name == "module"]
    figures = {
        "rows_before": sum(row_ms < alarm_ms for row_ms in rows_ms),
        "rows_after": sum(row_ms >= alarm_ms for row_ms in rows_ms),
        "rows_of_the_other": sum(len(frame.rows) for frame in quiet_rows),
        "readings_of_the_other": sum(one.module == quiet.code and one.stream == "module" for one in statements),
    }
    for name, value in figures.items():
        record_property(name, value)

    assert verdict.is_good, (verdict, verdict.examples)
    assert figures["rows_before"] >= LEFT_OUT_MIN, figures
    assert figures["rows_after"] >= AFTER_ROWS - 2, figures
    assert figures["rows_of_the_other"] < figures["readings_of_the_other"], figures
