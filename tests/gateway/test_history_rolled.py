"""Charts of what is older than rows are kept: from the hourly roll-ups, joined with rows where these begin."""

import asyncio
from collections.abc import Iterator
from contextlib import closing

import pytest

from swapline_bench import services
from swapline_bench.frame_source import MODULE_CODE, FrameSource, module_row
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.history import Series, SeriesQuery
from swapline_gateway.history_influxql import InfluxqlHistory
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.spool import now_utc_ms
from tests.gateway.policies import with_policies
from tests.gateway.written import write

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SIGNALS = ("voltage_v", "energy_in_kwh")
NOW_MS = now_utc_ms()  # of all tests: an hour may begin between two of them
THIS_HOUR = NOW_MS // HOUR_MS * HOUR_MS


@pytest.fixture(scope="module")
def config() -> Iterator[Influxdb1Config]:
    """Fill a database: hours of forty days, each with its number as voltage; rows of the last day only."""
    with services.influxd() as server:
        config = with_policies(server, Influxdb1Config(type="influxdb1", url=server.url, database="long"), raw="30d")
        hours = range(THIS_HOUR - 40 * DAY_MS, THIS_HOUR - 2 * HOUR_MS, HOUR_MS)
        tags = f"module,fleet=test,node=van-001,bay=1,module={MODULE_CODE}"
        lines = [f"{tags} voltage_v_mean={n}.0,energy_in_kwh_last={n}.5 {ms}000000" for n, ms in enumerate(hours)]
        source = FrameSource(anchor_utc_ms=THIS_HOUR - DAY_MS)
        rows = [(ms, module_row(5555)) for ms in range(0, DAY_MS, 600_000)]
        with closing(Influxdb1Sink(config)) as sink:
            sink.open()
            sink.send_lasting("\n".join(lines).encode())
            write(sink, source, *(source.frame(rows[n : n + 10]) for n in range(0, len(rows), 10)))
        yield config


def ask(config: Influxdb1Config, start_ms: int, end_ms: int, points_max: int) -> Series:
    with closing(InfluxqlHistory(config)) as history:
        query = SeriesQuery(
            stream="module",
            fleet="test",
            signals=SIGNALS,
            start_utc_ms=start_ms,
            end_utc_ms=end_ms,
            points_max=points_max,
            module=MODULE_CODE,
        )
        return asyncio.run(history.series(query))


def test_old_hours_are_there_although_their_rows_are_gone(config: Influxdb1Config) -> None:
    start_ms = THIS_HOUR - 35 * DAY_MS
    found = ask(config, start_ms, start_ms + 6 * HOUR_MS, 1000)
    assert found.values["voltage_v"] == [120 + n for n in range(6)]
    assert found.values["energy_in_kwh"] == [120.5 + n for n in range(6)]


def test_long_range_ends_with_rows_that_have_no_roll_up_yet(config: Influxdb1Config) -> None:
    found = ask(config, NOW_MS - 40 * DAY_MS, NOW_MS, 300)
    assert found.time_utc_ms == sorted(found.time_utc_ms)
    assert found.values["voltage_v"][-1] == pytest.approx(55.55)
    assert found.values["voltage_v"][0] in (1, 1.5, 2, 2.5)
    assert 230 < len(found.time_utc_ms) <= 302
    assert max(later - one for one, later in zip(found.time_utc_ms, found.time_utc_ms[1:], strict=False)) < 5 * HOUR_MS


def test_short_range_of_now_is_made_of_rows(config: Influxdb1Config) -> None:
    found = ask(config, NOW_MS - 6 * HOUR_MS, NOW_MS, 1000)
    assert set(found.values["voltage_v"]) == {55.55}
