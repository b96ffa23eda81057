"""Every device's every signal is read right: driven to its least, a usual, and its greatest value, and to none.

Each device says on its line what a stand-in tells it to say; node, broker and gateway carry it; the database must hold
exactly that, signal by signal, and nothing for what the device's protocol does not say. A protocol that is coarser than
the catalogue, or ends sooner, is so in `BMS`, by the makers' documents.
"""

import asyncio
import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

from swapline_bench.database import Row
from swapline_bench.desk.strategy import Desk
from swapline_bench.faces import gnss, jbd, jbd_up16s, jk, modbus, sdm630, seplos_v3, slot_charger, vcu
from swapline_bench.module import Module
from swapline_bench.rig import HolderRig
from swapline_bench.serial_line import Face, SerialLine
from swapline_bench.services import whole
from swapline_wire.catalogue import CELLS, METER, MODULE, POSITION, SLOT, VEHICLE, Signal, Stream

pytestmark = pytest.mark.promise("reads every signal of every device right")

Values = dict[str, float | None]  # by signal; None: no value
ROWS = 2  # of each phase
PERIOD_MS = 200


class Phase(NamedTuple):
    """What a device says for a while, and what of it must be stored: per stream, a row."""

    name: str
    says: Mapping[str, Any]
    stored: Mapping[str, Values]


class Device(NamedTuple):
    """A device on a line of its own: its driver, the bus that it sits on, its face, and what it says."""

    driver: str
    bus: str
    stream: Stream
    baudrate: int
    parity: str
    face: Callable[[SimpleNamespace], Face]
    phases: list[Phase]


def in_unit(signal: Signal, raw: int) -> float:
    return float(raw / 10**signal.decimals)


def usual(signal: Signal) -> int:
    return int((signal.minimum + 2 * signal.maximum) // 3)


def of_catalogue(stream: Stream) -> dict[str, Values]:
    """Return the three readings that each signal's limits give, and the one without any value."""
    return {
        "least": {s.name: in_unit(s, s.minimum) for s in stream.signals},
        "usual": {s.name: in_unit(s, usual(s)) for s in stream.signals},
        "greatest": {s.name: in_unit(s, s.maximum) for s in stream.signals},
        "none": {s.name: None for s in stream.signals},
    }


def of_map(stream: Stream) -> list[Phase]:
    """Return the phases of one of our own register maps, which say whatever the catalogue can hold."""
    return [Phase(name, values, {stream.name: values}) for name, values in of_catalogue(stream).items()]


# ---- the grid meter: every quantity an IEEE 754 single, powers in W


def single(value: float) -> float:
    rounded: float = struct.unpack(">f", struct.pack(">f", value))[0]
    return rounded


def of_meter() -> list[Phase]:
    phases = []
    for name, values in of_catalogue(METER).items():
        says = {signal: math.nan if value is None else value for signal, value in values.items()}
        stored: Values = {}
        for signal in METER.signals:
            value = values[signal.name]
            factor = 1000 if signal.unit in {"kW", "kvar"} else 1
            exact = None if value is None else single(value * factor) * 10**signal.decimals / factor
            stored[signal.name] = None if exact is None else round(exact) / 10**signal.decimals
        phases.append(Phase(name, says, {"meter": stored}))
    return phases


# ---- the GNSS receiver: sentences that a test can read


class Epoch(NamedTuple):
    """One epoch's fields as they stand in the sentences, and what they mean."""

    name: str
    rmc: str
    vtg: str
    gga: str
    gsa: str
    snr: str
    stored: Values


EPOCHS = [
    Epoch(
        "least",
        "A,9000.00000,S,18000.00000,W,0.000,0.00",
        "0.00,T,,M,0.000,N,0.000,K,A",
        "9000.00000,S,18000.00000,W,1,00,0.00,-1000.0,M,0.0,M,,",
        "A,1,,,,,,,,,,,,,0.00,0.00,0.00",
        "00",
        {
            "latitude_deg": -90.0,
            "longitude_deg": -180.0,
            "altitude_m": -1000.0,
            "speed_kmh": 0.0,
            "heading_deg": 0.0,
            "fix_quality": 1,
            "fix_mode": 1,
            "satellites_used": 0,
            "satellites_in_view": 1,
            "hdop": 0.0,
            "pdop": 0.0,
            "vdop": 0.0,
            "snr_max_db": 0,
        },
    ),
    Epoch(
        "usual",
        "A,4807.03800,N,01131.00000,E,22.400,84.40",
        "84.40,T,,M,22.400,N,41.485,K,A",
        "4807.03800,N,01131.00000,E,4,08,0.90,545.4,M,46.9,M,,",
        "A,3,04,05,,09,12,,,24,,,,,2.50,1.30,2.10",
        "46",
        {
            "latitude_deg": 48.1173,
            "longitude_deg": 11.5166667,
            "altitude_m": 545.4,
            "speed_kmh": 41.49,  # half up
            "heading_deg": 84.4,
            "fix_quality": 4,
            "fix_mode": 3,
            "satellites_used": 8,
            "satellites_in_view": 1,
            "hdop": 1.3,
            "pdop": 2.5,
            "vdop": 2.1,
            "snr_max_db": 46,
        },
    ),
    Epoch(
        "greatest",
        "A,9000.00000,N,18000.00000,E,269.978,360.00",
        "360.00,T,,M,269.978,N,500.000,K,A",
        "9000.00000,N,18000.00000,E,8,99,99.99,20000.0,M,0.0,M,,",
        "A,3,,,,,,,,,,,,,99.99,99.99,99.99",
        "99",
        {
            "latitude_deg": 90.0,
            "longitude_deg": 180.0,
            "altitude_m": 20000.0,
            "speed_kmh": 500.0,
            "heading_deg": 360.0,
            "fix_quality": 8,
            "fix_mode": 3,
            "satellites_used": 99,
            "satellites_in_view": 1,
            "hdop": 99.99,
            "pdop": 99.99,
            "vdop": 99.99,
            "snr_max_db": 99,
        },
    ),
    Epoch(
        "none",
        "V,,,,,,",
        ",,,,,,,,N",
        ",,,,0,,,,M,,M,,",
        "A,1,,,,,,,,,,,,,,,",
        "",
        {signal.name: None for signal in POSITION.signals} | {"fix_quality": 0, "fix_mode": 1, "satellites_in_view": 1},
    ),
]


class Receiver:
    """Says the present epoch's sentences at every full second."""

    def __init__(self, view: SimpleNamespace) -> None:
        self._view = view

    async def run(self, line: SerialLine) -> None:
        while True:
            now = datetime.now(UTC)
            await asyncio.sleep(1 - now.microsecond / 1e6)
            utc = (now + timedelta(seconds=1)).replace(microsecond=0)
            epoch: Epoch = self._view.epoch
            time = f"{utc:%H%M%S}.00"
            bodies = [
                f"GNRMC,{time},{epoch.rmc},{utc:%d%m%y},,,{epoch.vtg[-1]}",
                f"GNVTG,{epoch.vtg}",
                f"GNGGA,{time},{epoch.gga}",
                f"GNGSA,{epoch.gsa}",
                f"GPGSV,1,1,01,02,25,181,{epoch.snr}",
            ]
            await line.write("".join(gnss.sentence(body) for body in bodies).encode())


def of_receiver() -> list[Phase]:
    return [Phase(epoch.name, {"epoch": epoch}, {"position": epoch.stored}) for epoch in EPOCHS]


# ---- battery modules


class Bms(NamedTuple):
    """What a BMS's protocol can say: per signal the least and the greatest value and the step between two of them."""

    face: Callable[[Callable[[], Any]], Face]
    address: int
    baudrate: int
    says: Mapping[str, tuple[float, float, float]]
    cells: int = 16
    sensors: int = 4
    protections: int = 0
    switches: int = 0
    balancing: int | None = None
    temperatures: tuple[float, float, float] = (-50.0, 200.0, 0.1)


def up16s_face(module: Callable[[], Any]) -> Face:
    return jbd_up16s.Up16sFace({1: jbd_up16s.Up16s(module)})


def seplos_face(module: Callable[[], Any]) -> Face:
    return modbus.ModbusFace({1: seplos_v3.SeplosV3(module)})


BMS = {
    "seplos_v3": Bms(
        seplos_face,
        1,
        seplos_v3.BAUDRATE,
        {
            "voltage_v": (0, 655.35, 0.01),
            "current_a": (-327.68, 327.67, 0.01),
            "soc_pct": (0, 100, 0.1),
            "soh_pct": (0, 120, 0.1),
            "capacity_remaining_ah": (0, 655.35, 0.01),
            "capacity_full_ah": (0, 655.35, 0.01),
            "charge_out_ah": (0, 655350, 10),
            "cycles": (0, 65535, 1),
            "temperature_mosfet_c": (-50, 200, 0.1),
            "temperature_ambient_c": (-50, 200, 0.1),
        },
        protections=0x16FFF,
        switches=0b1011,
        balancing=0xFFFF,
    ),
    "jbd": Bms(
        jbd.JbdFace,
        0,
        jbd.BAUDRATE,
        {
            "voltage_v": (0, 655.35, 0.01),
            "current_a": (-327.68, 327.67, 0.01),
            "soc_pct": (0, 100, 1),
            "capacity_remaining_ah": (0, 655.35, 0.01),
            "capacity_full_ah": (0, 655.35, 0.01),
            "cycles": (0, 65535, 1),
        },
        cells=20,
        sensors=8,
        protections=0x1FFF,
        switches=0b11,
        balancing=0xFFFFFFFD,  # the catalogue keeps two codes
    ),
    "jbd_up16s": Bms(
        up16s_face,
        1,
        jbd_up16s.BAUDRATE,
        {
            "voltage_v": (0, 655.35, 0.01),
            "current_a": (-2000, 2000, 0.01),
            "soc_pct": (0, 100, 0.1),
            "soh_pct": (0, 120, 1),
            "capacity_remaining_ah": (0, 655.35, 0.01),
            "capacity_full_ah": (0, 655.35, 0.01),
            "cycles": (0, 65535, 1),
            "temperature_mosfet_c": (-50, 200, 0.1),
            "temperature_ambient_c": (-50, 200, 0.1),
        },
        protections=0x6FFF,
        switches=0b1111,
    ),
    "jk": Bms(
        jk.JkFace,
        0,
        jk.BAUDRATE,
        {
            "voltage_v": (0, 655.35, 0.01),
            "current_a": (-327.67, 327.67, 0.01),
            "soc_pct": (0, 100, 1),
            "capacity_full_ah": (0, 10000, 1),
            "cycles": (0, 65535, 1),
            "temperature_mosfet_c": (-40, 100, 1),
        },
        cells=24,
        sensors=2,
        protections=0x6BFF,
        switches=0b11,
        temperatures=(-40, 100, 1),
    ),
}
OTHERS = ("gnss", "sdm630", "slot_charger", "vcu")
NOT_SAID = {  # by a BMS that its face asks for it all the same
    "soh_pct": 100.0,
    "charge_out_ah": 0.0,
    "temperature_mosfet_c": 25.0,
    "temperature_ambient_c": 25.0,
    "capacity_remaining_ah": 50.0,
}


def between(limits: tuple[float, float, float]) -> float:
    low, high, step = limits
    return round(low + round((high - low) * 2 / 3 / step) * step, 3)


def make_module(bms: Bms, name: str) -> SimpleNamespace:
    """Return a stand-in for a module at one end of what its BMS can say, or between."""
    pick: Callable[[tuple[float, float, float]], float] = {
        "least": lambda limits: limits[0],
        "usual": between,
        "greatest": lambda limits: limits[1],
    }[name]
    bits = {"least": 0, "usual": 0x55555555, "greatest": 0xFFFFFFFF}[name]
    cell_v = {"least": 0.0, "usual": 3.3, "greatest": 6.0}[name]
    spread = 0.001 if name == "usual" else 0.0
    warm, step = pick(bms.temperatures), bms.temperatures[2] if name == "usual" else 0
    return SimpleNamespace(
        **NOT_SAID | {signal: pick(limits) for signal, limits in bms.says.items()},
        code=f"MODULE-{name.upper()}",
        cell_voltages_v=[round(cell_v + spread * ((7 * i) % bms.cells), 3) for i in range(bms.cells)],
        cell_temperatures_c=[round(warm - step * ((3 * i) % bms.sensors), 1) for i in range(bms.sensors)],
        protections=bits & bms.protections,
        balancing_mask=bits & (bms.balancing or 0),
        charge_switch=bits & 1,
        discharge_switch=bits >> 1 & 1,
        precharge_switch=bits >> 2 & 1,
        heater_switch=bits >> 3 & 1,
    )


def extremes(values: list[float]) -> tuple[float, float, int, int]:
    low, high = min(values), max(values)
    return low, high, values.index(low) + 1, values.index(high) + 1


def stored_of_module(driver: str, bms: Bms, module: SimpleNamespace) -> dict[str, Values]:
    """Return what must be stored of a module: per stream (and segment of cells) a row."""
    cells, sensors = module.cell_voltages_v, list(module.cell_temperatures_c)
    if driver == "jk":
        sensors = jk.sensors_c(cast("Module", module))
    cell_min, cell_max, cell_min_cell, cell_max_cell = extremes(cells)
    sensor_min, sensor_max, sensor_min_sensor, sensor_max_sensor = extremes(sensors)
    switches = (module.charge_switch, module.discharge_switch, module.precharge_switch, module.heater_switch)
    protections = module.protections
    if driver == "jk":  # "too hot" and "too cold" are of charging and discharging alike
        for pair in (1 << 4 | 1 << 6, 1 << 5 | 1 << 7):
            protections |= pair if protections & pair else 0
    total_mv = sum(round(v * 1000) for v in cells)
    row: Values = {signal.name: None for signal in MODULE.signals}
    row |= {name: getattr(module, name) for name in bms.says}
    row |= {
        "cell_voltage_min_v": cell_min,
        "cell_voltage_max_v": cell_max,
        "cell_voltage_mean_v": (2 * total_mv + len(cells)) // (2 * len(cells)) / 1000,
        "cell_voltage_min_cell": cell_min_cell,
        "cell_voltage_max_cell": cell_max_cell,
        "temperature_min_c": sensor_min,
        "temperature_max_c": sensor_max,
        "temperature_min_sensor": sensor_min_sensor,
        "temperature_max_sensor": sensor_max_sensor,
        "cell_count": len(cells),
        "protections": protections,
        "switches": sum(bool(bit) << i for i, bit in enumerate(switches)) & bms.switches,
        "balancing": None if bms.balancing is None else module.balancing_mask,
    }
    stored = {"module": row}
    for segment in range((len(cells) + 15) // 16):
        here: Values = {signal.name: None for signal in CELLS.signals} | {"segment": segment}
        here |= {f"cell_{i + 1:02d}_v": v for i, v in enumerate(cells[16 * segment : 16 * segment + 16])}
        here |= {f"temperature_{i + 1}_c": t for i, t in enumerate(sensors[8 * segment : 8 * segment + 8])}
        stored[f"cells {segment}"] = here
    return stored


def of_bms(driver: str) -> list[Phase]:
    bms = BMS[driver]
    phases = []
    for name in ("least", "usual", "greatest"):
        module = make_module(bms, name)
        phases.append(Phase(name, {"module": module}, stored_of_module(driver, bms, module)))
    return phases


# ---- all devices


def device_of(driver: str) -> Device:
    """Return the device that a driver is for."""
    if driver == "vcu":
        unit = lambda view: modbus.ModbusFace({1: vcu.Vcu(view)})  # noqa: E731
        return Device(driver, "vcu", VEHICLE, vcu.BAUDRATE, "even", unit, of_map(VEHICLE))
    if driver == "slot_charger":
        charger = lambda view: modbus.ModbusFace({1: slot_charger.SlotCharger(view)})  # noqa: E731
        return Device(driver, "chargers", SLOT, slot_charger.BAUDRATE, "even", charger, of_map(SLOT))
    if driver == "sdm630":
        meter = lambda view: modbus.ModbusFace({1: sdm630.Sdm630(view)})  # noqa: E731
        return Device(driver, "meter", METER, sdm630.BAUDRATE, "none", meter, of_meter())
    if driver == "gnss":
        return Device(driver, "gnss", POSITION, gnss.BAUDRATE, "none", Receiver, of_receiver())
    bms = BMS[driver]
    pack = lambda view: bms.face(lambda: view.module)  # noqa: E731
    return Device(driver, "bay1", MODULE, bms.baudrate, "none", pack, of_bms(driver))


async def drive(desk: Desk, device: Device) -> None:
    """Have the device say one phase after the other; each until the node has made rows of it."""
    view = SimpleNamespace(is_powered=True, **device.phases[0].says)
    address = BMS[device.driver].address if device.driver in BMS else 1
    configured = {"driver": device.driver, "address": address, "bay": 1, "period_ms": PERIOD_MS}

    def make(**parts: Any) -> HolderRig:
        holder = HolderRig(desk.name, "van", desk.folder, **parts)
        face = device.face(view)
        holder.add_line(device.bus, face, [configured], baudrate=device.baudrate, parity=device.parity)
        return holder

    holder = desk.put(make)
    everything = {"report": "all"}
    await desk.boot(streams=dict.fromkeys((device.stream.name, "cells"), everything), seal_interval_ms=100)
    heard = desk.tap[desk.name]
    for phase in device.phases:
        if heard.row_count(device.stream.name):
            await holder.hush(lambda: desk.node.is_running)
            await holder.interrupt()  # no reading is half of one phase and half of the next
        vars(view).update(phase.says)
        count = heard.row_count(device.stream.name)
        holder.plug()
        await desk.tap.wait_rows(desk.name, device.stream.name, count + ROWS)
    await desk.switch_off()
    assert await whole(desk.gateway.stop) == 0


def values_of(row: Row, stream: Stream) -> Values:
    return {signal.name: row.get(signal.name) for signal in stream.signals}


def assert_equal(stored: Values, expected: Values, stream: Stream, where: str) -> None:
    """Compare signal by signal to half the last digit."""
    for signal in stream.signals:
        value, truth = stored[signal.name], expected[signal.name]
        is_equal = value == truth or (
            value is not None and truth is not None and abs(value - truth) < 0.5 / 10**signal.decimals
        )
        assert is_equal, f"{where}: {signal.name} is {value}, and the device said {truth}"


def differences(stored: Values, expected: Values) -> int:
    return sum(stored[name] != pytest.approx(expected[name]) for name in expected)


@pytest.mark.parametrize(
    "driver",
    [
        *(pytest.param(bms, marks=pytest.mark.needs("bays:1")) for bms in BMS),
        *(pytest.param(one, marks=pytest.mark.needs(one)) for one in OTHERS),
    ],
)
async def test_every_signal_is_stored_as_the_device_said_it(
    desk: Desk, driver: str, record_property: Callable[[str, Any], None]
) -> None:
    device = device_of(driver)
    await drive(desk, device)
    streams = [device.stream] if device.stream is not MODULE else [MODULE, CELLS]
    found: set[tuple[str, str]] = set()
    compared = 0
    for stream in streams:
        for row in desk.database.rows(stream.name, desk.name):
            stored = values_of(row, stream)
            key = f"{stream.name} {row['segment']}" if stream is CELLS else stream.name
            if stream is MODULE or stream is CELLS:
                (phase,) = [p for p in device.phases if p.says["module"].code == row["module"]]
            else:
                phase = min(device.phases, key=lambda p: differences(stored, p.stored[key]))
            assert_equal(stored, phase.stored[key], stream, f"{driver}, {phase.name}, {key}")
            found.add((phase.name, key))
            compared += len(stream.signals)
    record_property("values compared", compared)
    assert found == {(phase.name, key) for phase in device.phases for key in phase.stored}


def test_each_signal_of_the_catalogue_is_said_by_a_device_at_both_ends_of_its_range() -> None:
    """What no device here says is named."""
    said: dict[str, dict[str, set[str]]] = {}
    for driver in (*BMS, *OTHERS):
        for phase in device_of(driver).phases:
            for key, values in phase.stored.items():
                names = {name for name, value in values.items() if value is not None}
                said.setdefault(key.split()[0], {}).setdefault(phase.name, set()).update(names)
    for stream in (MODULE, CELLS, VEHICLE, POSITION, SLOT, METER):
        everything = {signal.name for signal in stream.signals}
        silent = {"module": {"insulation_kohm", "charge_in_ah", "energy_in_kwh", "energy_out_kwh"}}.get(
            stream.name, set()
        )
        for phase_name in ("least", "usual", "greatest"):
            assert said[stream.name][phase_name] == everything - silent
