"""What simulated devices state: one statement a complete poll, in doubt where the bench cannot know."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from swapline_bench.faces import gnss, slot_charger, vcu
from swapline_bench.faces.gnss import Fix, GnssFace
from swapline_bench.faces.jbd import JbdFace
from swapline_bench.faces.modbus import ModbusFace, crc16
from swapline_bench.faces.sdm630 import Sdm630
from swapline_bench.faces.seplos_v3 import SeplosV3
from swapline_bench.faces.witness import GAP_S_MAX, LATE_S, Scribe, UnitWitnesses
from swapline_bench.faces.witness_bms import JbdWitness, SeplosWitness
from swapline_bench.faces.witness_device import FIRST_EPOCHS, GnssWitness, MapWitness, MeterWitness, shown
from swapline_bench.grid import GridMeter
from swapline_bench.lag_watch import LagWatch
from swapline_bench.module import Module, format_code
from swapline_bench.rig import make_station_rig, make_van_rig
from swapline_bench.serial_line import RequestFace, SerialLine
from swapline_bench.statement import Statement, StatementLog, read_statements
from swapline_bench.van import Van
from swapline_bench.world import World

CODE, PACK, CELLS, STATE = "010417000033", "010410000011", "01041100001a", "010112000090"
JBD_CODE, JBD_NAME, JBD_BASIC, JBD_CELLS = "dda5a200ff5e77", "dda50500fffb77", "dda50300fffd77", "dda50400fffc77"


def make_module(serial: int = 1) -> Module:
    return Module(format_code(serial=serial), Random(serial), soc=0.6)  # noqa: S311 - not secret


class Desk:
    """A log, and a clock that only moves when told to."""

    def __init__(self, folder: Path) -> None:
        self.log = StatementLog(folder / "statements.jsonl")
        self.now_s = 1000.0

    def scribe(self, bay: int = 0) -> Scribe:
        return Scribe(self.log, "van-001", bay)

    def ask(self, face: RequestFace, request: str, *, late_s: float = 0.0) -> None:
        """Ask a face as its line does; a Modbus request is given without its CRC."""
        data = bytes.fromhex(request)
        if isinstance(face, ModbusFace):
            data += crc16(data)
        reply = face.answer(data)
        if reply is not None:
            assert face.witness is not None
            face.witness.look(data, reply)
            self.now_s += 0.05
            face.witness.said(late_s)

    def statements(self, stream: str) -> list[Statement]:
        self.log.close()
        return [one for one in read_statements(self.log.path) if one.stream == stream]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    made = Desk(tmp_path)
    monkeypatch.setattr(time, "monotonic", lambda: made.now_s)
    yield made
    made.log.close()


def seplos(desk: Desk, bays: list[Module | None]) -> ModbusFace:
    face = ModbusFace({1: SeplosV3(lambda: bays[0])})
    face.witness = SeplosWitness(desk.scribe(bay=2), lambda: bays[0])
    return face


# ---- the log


def test_statements_come_back_as_they_were_written(tmp_path: Path) -> None:
    statements = [
        Statement(1_790_000_000_123, "van-001", "module", 1, "A" * 24, {"voltage_v": 52.81, "cycles": 7}),
        Statement(1_790_000_000_456, "van-001", "position", 0, "", {"latitude_deg": 31.8260028}, True),
    ]
    with StatementLog(tmp_path / "deeper" / "log") as log:
        for one in statements:
            log.write(one)
    log.write(statements[0])  # a face that is cancelled after the end says nothing any more
    assert list(read_statements(log.path)) == statements


# ---- modules


def test_each_poll_between_two_equal_codes_is_one_statement(desk: Desk) -> None:
    module = make_module()
    face = seplos(desk, [module])
    for request in (CODE, CODE, *(PACK, CELLS, STATE, CODE) * 2):
        desk.ask(face, request)
    cells = desk.statements("cells")
    first, second = desk.statements("module")
    assert first.values == second.values
    assert (first.node, first.bay, first.module, first.is_doubtful) == ("van-001", 2, module.code, False)
    assert first.values["voltage_v"] == module.voltage_v
    assert first.values["cell_voltage_max_v"] == max(module.cell_voltages_v)
    assert first.values["cell_voltage_min_cell"] == module.cell_voltages_v.index(min(module.cell_voltages_v)) + 1
    assert first.values["charge_out_ah"] % 10 == 0  # the register counts tens
    assert first.values["switches"] == 3
    assert [one.values["cell_16_v"] for one in cells] == [module.cell_voltages_v[15]] * 2
    assert cells[0].values["segment"] == 0


def test_a_poll_without_the_state_says_nothing_of_it(desk: Desk) -> None:
    face = seplos(desk, [make_module()])
    for request in (CODE, PACK, CELLS, CODE):
        desk.ask(face, request)
    (statement,) = desk.statements("module")
    assert not statement.is_doubtful
    assert "protections" not in statement.values


@pytest.mark.parametrize(
    "requests", [(CODE, PACK, CODE), (CODE, CELLS, CODE), (PACK, CELLS, CODE), (CODE, PACK, CELLS, STATE)]
)
def test_half_a_poll_is_no_statement(desk: Desk, requests: tuple[str, ...]) -> None:
    face = seplos(desk, [make_module()])
    for request in requests:
        desk.ask(face, request)
    assert desk.statements("module") == []


def test_a_module_that_is_replaced_during_a_poll_makes_no_statement(desk: Desk) -> None:
    bays: list[Module | None] = [make_module(1)]
    face = seplos(desk, bays)
    desk.ask(face, CODE)
    desk.ask(face, PACK)
    bays[0] = make_module(2)
    for request in (CELLS, STATE, CODE, PACK, CELLS, STATE, CODE):
        desk.ask(face, request)
    (statement,) = desk.statements("module")
    assert statement.module == format_code(serial=2)


def test_a_late_answer_makes_a_poll_doubtful(desk: Desk) -> None:
    face = seplos(desk, [make_module()])
    desk.ask(face, CODE)
    for late_s in (LATE_S - 0.01, LATE_S + 0.01, 0.0):
        desk.ask(face, PACK)
        desk.ask(face, CELLS)
        desk.ask(face, CODE, late_s=late_s)
    assert [one.is_doubtful for one in desk.statements("module")] == [False, True, False]


def test_questions_that_come_too_far_apart_make_a_poll_doubtful(desk: Desk) -> None:
    face = seplos(desk, [make_module()])
    desk.ask(face, CODE)
    for gap_s in (GAP_S_MAX - 0.01, GAP_S_MAX + 0.01):
        desk.now_s += 1.0  # between polls a node rests
        desk.ask(face, PACK)
        desk.ask(face, CELLS)
        desk.now_s += gap_s
        desk.ask(face, CODE)
    assert [one.is_doubtful for one in desk.statements("module")] == [False, True]


def test_a_jbd_board_states_what_its_registers_show(desk: Desk) -> None:
    module = make_module()
    face = JbdFace(lambda: module)
    face.witness = JbdWitness(desk.scribe(bay=1), lambda: module)
    for request in (JBD_NAME, JBD_CODE, JBD_CELLS, JBD_BASIC, JBD_CODE):
        desk.ask(face, request)
    (statement,) = desk.statements("module")
    assert statement.values["soc_pct"] == round(module.soc_pct)
    assert statement.values["cell_count"] == 16
    assert "soh_pct" not in statement.values


# ---- other devices


def test_chargers_on_one_line_state_for_their_own_bays_and_repeat_themselves_in_doubt(desk: Desk) -> None:
    station = World(van_count=0, slot_count=2, seed=1).stations[0]
    units = {
        bay: slot_charger.SlotCharger(slot, clock_s=lambda: desk.now_s) for bay, slot in enumerate(station.slots, 1)
    }
    face = ModbusFace(units)
    face.witness = UnitWitnesses({bay: MapWitness(desk.scribe(bay), "slot", unit) for bay, unit in units.items()})
    for request in ("010400000011", "010400000013", "020400000013", "020400000013"):
        desk.ask(face, request)
    statements = desk.statements("slot")
    assert [(one.bay, one.is_doubtful) for one in statements] == [(1, False), (2, False), (2, True)]
    assert statements[0].values["energy_kwh"] == round(station.slots[0].energy_kwh, 3)


def test_a_controller_states_the_values_of_its_last_refresh(desk: Desk) -> None:
    van = World(station_count=1, seed=1).vans[0]
    unit = vcu.Vcu(van, clock_s=lambda: desk.now_s)
    face = ModbusFace({1: unit})
    face.witness = MapWitness(desk.scribe(), "vehicle", unit)
    desk.ask(face, "010400000025")
    desk.now_s += 1
    van.odometer_km += 1
    desk.ask(face, "010400000025")
    first, second = desk.statements("vehicle")
    assert second.values["odometer_km"] - first.values["odometer_km"] == pytest.approx(1)


def test_a_meter_states_when_both_of_its_blocks_were_read(desk: Desk) -> None:
    meter = GridMeter(Random(1))  # noqa: S311 - not secret
    meter.step((1000.4, 2000.0, 0.0), 1.0)
    face = ModbusFace({1: Sdm630(meter)})
    face.witness = MeterWitness(desk.scribe(), meter)
    for request in ("010400340018", "010400000012", "010400340018", "010400340018"):
        desk.ask(face, request)
    (statement,) = desk.statements("meter")
    assert statement.values["power_l1_kw"] == 1.0
    assert statement.values["voltage_l2_v"] == round(meter.voltage_l2_v, 2)


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(0.125, 2, "0.13"), (-0.125, 2, "-0.13"), (16777217.0, 2, "16777216.0"), (-0.0, 3, "0.0"), (230.015, 2, "230.01")],
)
def test_a_value_in_single_precision_is_rounded_half_away_from_zero(value: float, decimals: int, text: str) -> None:
    assert repr(shown(value, decimals)) == text


def heard(witness: GnssWitness, count: int, *, is_heard: bool = True) -> None:
    for _ in range(count):
        witness.said(FIX, gnss.SKY, FIX.utc, gnss.burst(FIX))
        witness.settle(is_heard=is_heard)


FIX = Fix(datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC), 31.82600284, -117.28985923, 33.94, 4.965, 88.314)


def test_a_receiver_is_in_doubt_until_somebody_listens_and_has_found_its_time(desk: Desk) -> None:
    witness = GnssWitness(desk.scribe())
    heard(witness, 2, is_heard=False)
    heard(witness, FIRST_EPOCHS + 2)
    heard(witness, 1, is_heard=False)
    heard(witness, FIRST_EPOCHS + 1)
    doubts = [one.is_doubtful for one in desk.statements("position")]
    assert doubts == [True] * (2 + FIRST_EPOCHS) + [False] * 2 + [True] * (1 + FIRST_EPOCHS) + [False]


def test_a_receiver_states_what_its_sentences_say_at_the_true_time(desk: Desk) -> None:
    witness = GnssWitness(desk.scribe())
    lie = FIX._replace(utc=FIX.utc + timedelta(days=1))
    witness.said(lie, gnss.SKY, FIX.utc, gnss.burst(lie))
    witness.settle(is_heard=True)
    witness.settle(is_heard=True)  # an epoch without power: nothing was said
    (statement,) = desk.statements("position")
    assert statement.true_utc_ms == 1_790_000_000_000
    assert statement.values["latitude_deg"] == 31.8260028
    assert statement.values["longitude_deg"] == -117.2898592
    assert statement.values["altitude_m"] == 33.9
    assert statement.values["speed_kmh"] == 4.97
    assert statement.values["satellites_in_view"] == 10


BEHIND_RMC = {"altitude_m", "fix_quality", "satellites_used", "hdop", "fix_mode", "pdop", "vdop"}
BEHIND_RMC |= {"satellites_in_view", "snr_max_db"}


def test_of_a_burst_that_is_cut_short_what_its_whole_sentences_say_counts(desk: Desk) -> None:
    witness = GnssWitness(desk.scribe())
    fix = FIX._replace(speed_kmh=18.085)  # 9.765 knots, and those are 18.0848 km/h
    weak_first = sorted(gnss.SKY, key=lambda satellite: satellite.snr_db or 0)
    ends = list(itertools.accumulate(map(len, gnss.sentences(fix, weak_first))))
    for count in (0, ends[0] - 1, ends[0], ends[1] - 1, ends[1], ends[-2] - 1, ends[-2], ends[-1]):
        witness.said(fix, weak_first, fix.utc, gnss.burst(fix, weak_first)[:count])
        witness.settle(is_heard=False)
    rmc, almost_vtg, vtg, one_gsv, two_gsv, whole = (one.values for one in desk.statements("position"))
    assert rmc == almost_vtg
    assert whole.keys() - rmc.keys() == BEHIND_RMC
    assert [one["speed_kmh"] for one in (rmc, vtg, whole)] == [18.08, 18.09, 18.09]
    assert [one["snr_max_db"] for one in (one_gsv, two_gsv, whole)] == [42, 46, 47]


# ---- on a line


async def until(condition: Callable[[], bool]) -> None:
    """Look until a line has moved: a pty tells nobody."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_face_states_what_it_has_said_when_it_has_left(tmp_path: Path) -> None:
    module = make_module()
    with StatementLog(tmp_path / "log") as log:
        face = JbdFace(lambda: module)
        face.witness = JbdWitness(Scribe(log, "van-001", 1), lambda: module)
        async with SerialLine("bay1", baudrate=115200) as line:
            line.attach(face)
            with Path(line.path).open("r+b", buffering=0) as port:  # noqa: ASYNC230 - a pty
                for count, request in enumerate((JBD_CODE, JBD_CELLS, JBD_BASIC, JBD_CODE), 1):
                    port.write(bytes.fromhex(request))
                    await until(lambda count=count: face.answers == count and line.unread_bytes() > 0)  # type: ignore[misc]
                    answer = b""
                    while not answer.endswith(b"\x77"):
                        await until(lambda: line.unread_bytes() > 0)
                        answer += port.read(512)
            await until(lambda: log.count == 2)
            line.detach()
    (statement,) = (one for one in read_statements(log.path) if one.stream == "module")
    assert abs(statement.true_utc_ms - time.time() * 1000) < 60_000


async def test_a_burst_that_nobody_reads_is_seen(tmp_path: Path) -> None:
    van = SimpleNamespace(
        is_powered=True, latitude_deg=31.8, longitude_deg=117.3, altitude_m=34.0, speed_kmh=0.0, heading_deg=0.0
    )
    with StatementLog(tmp_path / "log") as log:
        face = GnssFace(cast(Van, van))
        face.witness = GnssWitness(Scribe(log, "van-001"))
        async with SerialLine("gnss", baudrate=115200) as line:
            line.attach(face)
            await until(lambda: face.bursts > 0 and line.unread_bytes() == line.bytes_written > 0)
    (statement,) = read_statements(log.path)
    assert statement.is_doubtful


async def test_a_receiver_that_falls_silent_in_a_burst_states_what_has_left(tmp_path: Path) -> None:
    van = SimpleNamespace(
        is_powered=True, latitude_deg=31.8, longitude_deg=117.3, altitude_m=34.0, speed_kmh=18.085, heading_deg=88.3
    )
    with StatementLog(tmp_path / "log") as log:
        face = GnssFace(cast(Van, van))
        face.witness = GnssWitness(Scribe(log, "van-001"))
        async with SerialLine("gnss", baudrate=2400) as line:  # a sentence takes a third of a second
            line.attach(face)
            await until(lambda: line.bytes_written > 100)  # RMC has left, the last sentence has not
            line.detach()
            await until(lambda: log.count == 1)
            assert face.bursts == 0
    (statement,) = read_statements(log.path)
    assert statement.is_doubtful
    assert statement.values.keys() >= {"latitude_deg", "speed_kmh"}
    assert "snr_max_db" not in statement.values


async def test_a_loop_that_stands_still_is_noticed() -> None:
    watch = LagWatch()
    watch.start()
    begin_s = time.monotonic()
    time.sleep(0.3)  # noqa: ASYNC251 - the stall that is to be seen
    for _ in range(3):
        await asyncio.sleep(0)
    assert watch.stalled_s(begin_s) >= 0.25
    assert watch.stalled_s(time.monotonic() + 1) == 0
    watch.stop()


# ---- rigs


async def test_a_rig_that_states_reports_every_reading(tmp_path: Path) -> None:
    world = World(van_count=1, station_count=1, slot_count=2, seed=1)
    with StatementLog(tmp_path / "log") as log:
        rigs: list[Any] = [
            make_van_rig(world.vans[0], tmp_path, bms_driver="jbd", statements=log),
            make_station_rig(world.stations[0], tmp_path, statements=log),
        ]
        for one in rigs:
            streams = one.config(fleet="f", host="h", port=1)["streams"]
            assert len(streams) == 4
            assert set(map(str, streams.values())) == {"{'report': 'all'}"}
            assert all(face.witness is not None for face in one.faces)
            await one.close()
    silent = make_van_rig(world.vans[0], tmp_path)
    assert silent.config(fleet="f", host="h", port=1)["streams"] == {}
    assert all(cast(Any, face).witness is None for face in silent.faces)
    await silent.close()
