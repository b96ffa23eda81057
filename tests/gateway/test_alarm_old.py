"""Alarms whose rows are kept for ever, where all that was around them is kept for a month: they end as they ended."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from swapline_bench import services
from swapline_bench.frame_source import FrameSource, module_row, row_of
from swapline_gateway.alarm.book import BY_ANSWER, BY_RESTART, Alarm, join
from swapline_gateway.alarm.source import Span
from swapline_gateway.alarm.source_influxql import InfluxqlAlarms
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.influxql import InfluxqlClient
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.spool import now_utc_ms
from swapline_wire.catalogue import ALARM_STREAM, BOOT, EVENT_STREAM, MODULE_LOST, NODE
from tests.gateway.policies import with_policies
from tests.gateway.written import write

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
TOO_HOT = 3


@pytest.fixture(scope="module")
def influx() -> Iterator[services.InfluxServer]:
    with services.influxd() as server:
        yield server


def tell(source: FrameSource, sink: Influxdb1Sink) -> None:
    """Raise two alarms that stand when the node is started again; it raises neither, and a module answers."""
    hot, lost = row_of(ALARM_STREAM, code=TOO_HOT, level=2), row_of(ALARM_STREAM, code=MODULE_LOST, level=2)
    cold = row_of(ALARM_STREAM, code=TOO_HOT + 1, level=1)
    frames = [source.frame([(MINUTE_MS, hot), (MINUTE_MS + 1, lost), (MINUTE_MS + 2, cold)], stream=ALARM_STREAM)]
    source.boot = 2
    at = HOUR_MS // 2
    frames.append(source.frame([(at, row_of(EVENT_STREAM, code=BOOT, count=2))], stream=EVENT_STREAM, bay=0, owner=""))
    uptimes = [(at + s * 1000, row_of(NODE, uptime_s=s)) for s in range(10, 3 * 3600, 600)]
    frames.append(source.frame(uptimes, stream=NODE, bay=0, owner=""))
    frames.append(source.frame([(at + 20_000, cold)], stream=ALARM_STREAM))
    frames.append(source.frame([(at + ms, module_row()) for ms in range(20_000, 2 * HOUR_MS, 600_000)]))
    write(sink, source, *frames)


def roll_up(client: InfluxqlClient) -> None:
    for stream, what in (
        ("node", 'max("uptime_s") AS "uptime_s_max"'),
        ("module", 'count("voltage_v") AS "voltage_v_count"'),
    ):
        client.query(f'SELECT {what} INTO "forever"."{stream}" FROM "{stream}" WHERE time >= 0 GROUP BY time(1h), *')  # noqa: S608


def test_alarms_of_old_end_as_they_did_when_their_rows_were_young(influx: services.InfluxServer) -> None:
    config = with_policies(influx, Influxdb1Config(type="influxdb1", url=influx.url, database="old"), raw="30d")
    start_ms = (now_utc_ms() - 20 * HOUR_MS) // HOUR_MS * HOUR_MS
    client = InfluxqlClient(config)
    with closing(Influxdb1Sink(config)) as sink, closing(InfluxqlAlarms(client)) as source:
        sink.open()
        tell(FrameSource(anchor_utc_ms=start_ms, boot=1), sink)
        roll_up(client)

        def alarms() -> list[Alarm]:
            span = Span(start_ms)
            return join(source.rows(span, 100), source.boots(span), source)

        young = {alarm.key.code: alarm for alarm in alarms()}
        influx.execute('DROP RETENTION POLICY "raw" ON "old"')
        influx.execute('CREATE RETENTION POLICY "raw" ON "old" DURATION 30d REPLICATION 1 DEFAULT')
        old = {alarm.key.code: alarm for alarm in alarms()}
    assert young[TOO_HOT].ending == old[TOO_HOT].ending == BY_RESTART
    assert young[TOO_HOT].cleared_utc_ms == old[TOO_HOT].cleared_utc_ms == start_ms + HOUR_MS // 2
    assert young[MODULE_LOST].ending == old[MODULE_LOST].ending == BY_ANSWER
    assert old[MODULE_LOST].cleared_utc_ms == start_ms + HOUR_MS  # the first full hour in which it is known to answer
    assert young[TOO_HOT + 1].told_count == old[TOO_HOT + 1].told_count == 2
    assert young[TOO_HOT + 1].is_standing
    assert old[TOO_HOT + 1].is_standing
