"""The outlook over a real InfluxDB: what is asked of rows, what is written, and by whole gateways."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import aiomqtt
import pytest

from swapline_bench import services
from swapline_bench.frame_source import AckListener, FrameSource, row_of
from swapline_gateway.config import Influxdb1Config, OutlookConfig
from swapline_gateway.influxql import InfluxqlClient
from swapline_gateway.outlook.outlook import Outlook
from swapline_gateway.outlook.question import Questions
from swapline_gateway.outlook.table import OUTLOOK, OUTLOOK_STATION
from swapline_gateway.vitals.point import make_line_sink
from swapline_wire.catalogue import ALARM_STREAM, METER, MODULE, POSITION, SLOT, VEHICLE
from tests.gateway.conftest import MakeGateway
from tests.gateway.outlook.fleet_rows import HOUR_MS, MINUTE_MS, FleetRows
from tests.gateway.test_gateway import fetch, until

FRAMES_TOLD = 9
# In the middle of an hour: what was driven in the last minutes is not known yet. The last one, so that rows are not of
# the future.
THIS_HOUR = time.time_ns() // 1_000_000 // HOUR_MS * HOUR_MS - HOUR_MS
NOW_MS = THIS_HOUR + HOUR_MS // 2 + 17_300


class Base:
    """A database of one test."""

    def __init__(self, config: Influxdb1Config) -> None:
        self.config = config
        self.client = InfluxqlClient(config)
        self._sink = make_line_sink(config)
        self._outlooks: list[Outlook] = []

    def write(self, rows: FleetRows) -> None:
        self._sink.send("\n".join(rows.lines).encode())

    def outlook(self, **config: Any) -> Outlook:
        questions = Questions(InfluxqlClient(self.config))
        found = Outlook(OutlookConfig(**config), questions=questions, sink=make_line_sink(self.config))
        self._outlooks.append(found)
        return found

    def rows(self, measurement: str, *, since_ms: int = 0) -> list[dict[str, Any]]:
        """Return the points, by time, each with its columns that have a value."""
        series = self.client.query(f'SELECT * FROM "{measurement}" WHERE time >= {since_ms}ms')  # noqa: S608
        return [
            {name: value for name, value in zip(one["columns"], values, strict=True) if value is not None}
            for one in series
            for values in one["values"]
        ]

    def close(self) -> None:
        self.client.close()
        self._sink.close()
        for outlook in self._outlooks:
            outlook.close()


@pytest.fixture
def base(influx: services.InfluxServer, request: pytest.FixtureRequest) -> Iterator[Base]:
    name = request.node.name
    influx.execute(f'CREATE DATABASE "{name}"')
    found = Base(Influxdb1Config(type="influxdb1", url=influx.url, database=name))
    yield found
    found.close()


async def test_van_at_15_percent_far_from_its_station_is_low_and_its_numbers_are_right(base: Base) -> None:
    rows = FleetRows()
    rows.module("van-1", NOW_MS - 8000, bay=1, code="old", soc_pct=90.0)
    rows.module("van-1", NOW_MS - 7000, bay=1, code="a", soc_pct=10.0)
    rows.module("van-1", NOW_MS - 6000, bay=2, code="b", soc_pct=25.0, capacity_full_ah=25.0)
    rows.position("van-1", NOW_MS - 5000, 31.3, 121.4)
    rows.module("van-2", NOW_MS - 5000, bay=1, code="c", soc_pct=80.0)
    rows.position("van-2", NOW_MS - 5000, 31.0, 121.4)
    rows.add("slot", "station-1", NOW_MS - 4000, ",bay=1", occupied=1, charger_state=2)
    for number, latitude in enumerate((31.0, 31.0001, 35.0)):  # the median leaves out who was wrong
        rows.swap(NOW_MS - HOUR_MS // 2 + number, "station-1", latitude, 121.4)
    rows.swap(NOW_MS - HOUR_MS // 3, "station-1", 40.0, 121.4, is_void=True)
    rows.swap(NOW_MS - 2 * HOUR_MS, "station-1", 31.0002, 121.4)
    base.write(rows)
    outlook = base.outlook(detour_factor=1.2)
    await outlook.do_round(NOW_MS)
    assert (outlook.problem, outlook.lost) == ("", 0)
    low, fine = base.rows("outlook")
    assert low == pytest.approx(
        {
            "time": NOW_MS - NOW_MS % MINUTE_MS,
            "fleet": "test",
            "node": "van-1",
            "modules": 2,
            "soc_pct": 15.0,  # 2.5 of 25 kWh and 3.125 of 12.5
            "soc_min_pct": 10.0,
            "energy_left_kwh": 5.625,
            "consumption_kwh_per_km": 0.2,
            "range_km": 28.125,
            "latitude_deg": 31.3,
            "longitude_deg": 121.4,
            "station": "station-1",
            "station_distance_km": pytest.approx(1.2 * (31.3 - 31.00015) * 111.195, rel=1e-4),
            "is_low": 1,
            "age_s": 5.0,
        }
    )
    assert (fine["node"], fine["is_low"], fine["soc_pct"]) == ("van-2", 0, 80)
    (station,) = base.rows("outlook_station")
    assert [station[name] for name in ("slots", "occupied", "ready", "charging", "swaps_hour")] == [1, 1, 0, 1, 3]
    assert (station["latitude_deg"], station["longitude_deg"]) == (pytest.approx(31.00015), 121.4)


async def test_consumption_is_what_the_modules_gave_while_they_were_in_the_van(base: Base) -> None:
    rows = FleetRows()
    rows.drive("van-1", THIS_HOUR - 3 * HOUR_MS, km=30, kwh=9, code="a")
    for minute in range(10, 50):  # charged at a station, where it gains more than it gave
        rows.module(
            "station-1", THIS_HOUR - 2 * HOUR_MS + minute * MINUTE_MS, bay=1, code="a", energy_in_kwh=5.0 + minute
        )
    rows.drive("van-1", THIS_HOUR - HOUR_MS, km=20, kwh=3, code="a", start_km=130)
    base.write(rows)
    outlook = base.outlook()
    for minute in range(4):
        await outlook.do_round(NOW_MS + minute * MINUTE_MS)
    assert outlook.vans["test", "van-1"]["consumption_kwh_per_km"] == pytest.approx(12 / 50, rel=0.001)


async def test_two_gateways_write_the_same_points(base: Base) -> None:
    rows = FleetRows()
    rows.drive("van-1", THIS_HOUR - 2 * HOUR_MS, km=30, kwh=9, code="a")
    rows.module("van-1", NOW_MS - 9000, bay=1, code="a", soc_pct=55.5)
    rows.add("meter", "station-1", NOW_MS - 9000, power_kw=33.5)
    base.write(rows)
    minute_ms = NOW_MS - NOW_MS % MINUTE_MS
    one, other = base.outlook(), base.outlook()
    for early in range(1, 3):  # while the day is not known yet, replicas know the same of it
        for outlook in (one, other):
            await outlook.do_round(minute_ms - early * MINUTE_MS)
    await one.do_round(minute_ms + 1000)
    assert one.vans["test", "van-1"]["consumption_kwh_per_km"] == pytest.approx(0.3, rel=0.001)
    alone = [base.rows(name, since_ms=minute_ms) for name in ("outlook", "outlook_station")]
    await other.do_round(minute_ms + 1000)
    assert [base.rows(name, since_ms=minute_ms) for name in ("outlook", "outlook_station")] == alone
    await other.do_round(minute_ms + 11_000)
    again = base.rows("outlook", since_ms=minute_ms)
    assert [row["time"] for row in again] == [minute_ms]
    assert again[0] | {"age_s": 0} == alone[0][0] | {"age_s": 0}
    await one.do_round(minute_ms + MINUTE_MS)
    assert [row["time"] for row in base.rows("outlook", since_ms=minute_ms)] == [minute_ms, minute_ms + MINUTE_MS]


async def test_swaps_are_looked_for_where_they_are_kept_for_ever(influx: services.InfluxServer, base: Base) -> None:
    name = base.config.database
    influx.execute(f'CREATE RETENTION POLICY "forever" ON "{name}" DURATION INF REPLICATION 1')
    rows = FleetRows()
    rows.add("slot", "station-1", NOW_MS, ",bay=1", occupied=0, charger_state=0)
    base.write(rows)
    swaps = FleetRows()
    swaps.swap(NOW_MS - MINUTE_MS, "station-1", 31.5, 121.5)
    services.post(f"{influx.url}/write?db={name}&rp=forever", "\n".join(swaps.lines).encode())
    base.config = base.config.model_copy(update={"forever": "forever"})
    outlook = base.outlook()
    await outlook.do_round(NOW_MS)
    found = outlook.stations["test", "station-1"]
    assert (found["latitude_deg"], found["longitude_deg"], found["swaps_hour"]) == (31.5, 121.5, 1)


async def test_what_strangers_wrote_into_our_measurements_ends_no_gateway(base: Base) -> None:
    strangers, rows = FleetRows(), FleetRows()
    strangers.lines = [
        f'module,node=stranger soc_pct="full" {NOW_MS * 1_000_000}',
        f'vehicle,fleet=test,node=v time_quality="good" {NOW_MS * 1_000_000}',
        f"slot,fleet=test,node=s,bay=left occupied=true {NOW_MS * 1_000_000}",
        f"swap,fleet=test is_void=false {NOW_MS * 1_000_000}",
    ]
    base.write(strangers)
    rows.position("van-1", NOW_MS, 31.0, 121.0)
    rows.position("van-2", NOW_MS + 3 * MINUTE_MS, 31.0, 121.0)  # a clock that runs ahead
    rows.add("node", "van-2", NOW_MS - MINUTE_MS, uptime_s=1)
    rows.add("meter", "s", NOW_MS, power_kw=1.0)
    base.write(rows)
    outlook = base.outlook()
    await outlook.do_round(NOW_MS)
    assert outlook.problem == ""
    assert [*outlook.vans, *outlook.stations] == [("test", "van-1"), ("test", "s")]


async def test_empty_database_has_nothing_to_say_and_one_that_is_away_is_a_problem(base: Base) -> None:
    outlook = base.outlook()
    await outlook.do_round(NOW_MS)
    assert (outlook.vans, outlook.stations, outlook.problem) == ({}, {}, "")
    base.config = base.config.model_copy(update={"url": f"http://127.0.0.1:{services.free_port()}"})
    away = base.outlook()
    await away.do_round(NOW_MS)
    assert "does not answer" in away.problem


def raw(value: float, decimals: int) -> int:
    return round(value * 10.0**decimals)


async def send(client: aiomqtt.Client, source: FrameSource, *frames: bytes) -> None:
    """Send frames and wait until they are stored."""
    acks = await AckListener(client, source).begin()
    await source.publish(client, *frames)
    await acks.wait_for(set(range(1, source.seq + 1)))


async def tell(client: aiomqtt.Client) -> None:
    """Be a van and a station, by frames."""
    now = HOUR_MS  # since the boot of a source
    held = {"voltage_v": raw(500, 2), "capacity_full_ah": raw(50, 2)}
    van, station = FrameSource(node="van-1", journal=1), FrameSource(node="station-1", journal=2)
    place = row_of(POSITION, latitude_deg=raw(31.2, 7), longitude_deg=raw(121.4, 7))
    await send(
        client,
        van,
        van.frame([(now, row_of(MODULE, soc_pct=150, **held))], owner="A"),
        van.frame([(now, place)], stream=POSITION, bay=0, owner=""),
        van.frame([(now, row_of(VEHICLE, odometer_km=raw(100, 3)))], stream=VEHICLE, bay=0, owner=""),
    )
    charged, slot = row_of(MODULE, soc_pct=990, **held), row_of(SLOT, occupied=1, charger_state=3)
    await send(
        client,
        station,
        *(station.frame([(now, slot)], stream=SLOT, bay=bay, owner="") for bay in (1, 2)),
        *(station.frame([(now, charged)], bay=bay, owner=f"S{bay}") for bay in (1, 2)),
        station.frame([(now, row_of(METER, power_kw=raw(12.5, 3)))], stream=METER, bay=0, owner=""),
        station.frame([(now, row_of(ALARM_STREAM, code=1, level=2))], stream=ALARM_STREAM, bay=2, owner="S2"),
    )


async def test_gateways_tell_the_outlook_of_what_came_by_mqtt(
    make_gateway: MakeGateway, influx: services.InfluxServer, broker: services.Server, base: Base
) -> None:
    sink = {"type": "influxdb1", "url": influx.url, "database": base.config.database}
    outlook = {"interval_s": 1, "stations": {"station-1": [31.0, 121.4]}}
    both = {"sink": sink, "outlook": outlook, "http": {"port": 0}}
    async with (
        make_gateway(**both, mqtt={"share_group": "g"}) as one,
        make_gateway(**both, mqtt={"share_group": "g"}, spool={"path": "other.sqlite"}) as other,
        aiomqtt.Client(broker.host, broker.port) as client,
    ):
        await tell(client)
        await until(lambda: one.figures.frames_stored + other.figures.frames_stored == FRAMES_TOLD)
        stored_ms = time.time_ns() // 1_000_000
        answers = []
        async with asyncio.timeout(30):
            for gateway in (one, other):
                while True:
                    status, text = await fetch(gateway, "/api/outlook")
                    answer = json.loads(text)
                    is_new = (answer["time_utc_ms"] or 0) > stored_ms
                    if is_new and [station["ready"] for station in answer["stations"]] == [1]:
                        break
                    await asyncio.sleep(0.1)
                answers.append(answer)
        _, metrics = await fetch(one, "/metrics")
    assert status == 200
    for answer in answers:
        (van,), (station,) = answer["vans"], answer["stations"]
        assert (van["node"], van["soc_pct"], van["is_low"], van["station"]) == ("van-1", 15.0, 1, "station-1")
        assert van["energy_left_kwh"] == pytest.approx(3.75)
        # Both are charged; a standing alarm of level 2 is about the second one.
        assert [station[name] for name in ("slots", "occupied", "ready", "power_kw")] == [2, 2, 1, 12.5]
    assert "swapline_outlook_vans_low 1.0" in metrics
    assert "swapline_outlook_working 1.0" in metrics
    for table, node in ((OUTLOOK, "van-1"), (OUTLOOK_STATION, "station-1")):
        points = base.rows(table.name)
        assert {point["node"] for point in points} == {node}
        assert set(points[-1]) == {"time", *table.tags, *table.fields}
        assert len({point["time"] for point in points}) == len(points)


async def test_gateway_of_a_file_has_no_outlook_and_says_so(make_gateway: MakeGateway) -> None:
    async with make_gateway(http={"port": 0}) as gateway:
        status, text = await fetch(gateway, "/api/outlook")
    assert (status, "needs an InfluxDB" in text) == (404, True)
