"""Serial lines and Modbus servers, judged by pymodbus and pyserial from the node's end of the pty."""

import asyncio
import json
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import serial

from swapline_bench.faces import modbus, slot_charger, vcu
from swapline_bench.faces.modbus import ModbusFace, crc16
from swapline_bench.faces.register_map import REFRESH_S, Field, encode
from swapline_bench.faces.sdm630 import Sdm630
from swapline_bench.grid import GridMeter
from swapline_bench.serial_line import RequestFace, SerialLine
from swapline_bench.station import Slot
from swapline_bench.van import Van
from swapline_wire.catalogue import METER
from tests.bench.sim_process import SILENCE_S, modbus_client


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Registers(modbus.Unit):
    """A unit whose register n holds n, from 0 to 99."""

    def blocks(self, function: int) -> dict[int, Sequence[int]]:
        return {0: range(100)} if function == modbus.READ_INPUT else {0x10: [7, 8]}


def documented(name: str, example: int) -> tuple[bytes, bytes]:
    """Return request and answer of the example in a register map's page."""
    page = Path(__file__).parents[2].joinpath("docs", name).read_text(encoding="utf-8")
    block = page.split("## Example")[1].split("```")[1 + example]
    request, answer = block.strip().split("<-")
    return bytes.fromhex(request.removeprefix("->")), bytes.fromhex(answer)


def vcu_example() -> dict[str, Any]:
    """What the page's example says: some in words, the rest in its answer's integers."""
    return {
        "speed_kmh": 14.25,
        "odometer_km": 123456.789,
        "drive_mode": 3,
        "gear": 3,
        "doors": 0,
        "cargo_lock": 1,
        "auxiliary_voltage_v": 13.78,
        "traction_voltage_v": 380.6,
        "traction_current_a": -18.80,
        "soc_pct": 66.7,
        "range_km": 258.0,
        "accelerator_pct": 37.75,
        "brake_pct": 0.0,
        "motor_torque_nm": 37.0,
        "motor_speed_rpm": 2113,
        "motor_temperature_c": 42.5,
        "inverter_temperature_c": 38.8,
        "acceleration_mps2": 0.43,
        "ambient_temperature_c": 24.50,
        "cabin_temperature_c": 22.00,
        "cargo_temperature_c": None,
        "heating_power_kw": 1.52,
        "aircon_power_kw": 0.20,
        "insulation_kohm": 12000,
        "cargo_mass_kg": 640,
        "faults": 0,
        "request_id": 99,
    }


async def test_pymodbus_reads_units_of_one_bus_and_gets_exceptions_and_silence() -> None:
    async with SerialLine("bus", baudrate=115200) as line:
        line.attach(ModbusFace({1: Registers(), 7: Registers()}))
        async with modbus_client(line.path, 115200) as client:
            answer = await client.read_input_registers(3, count=4, device_id=7)
            assert answer.registers == [3, 4, 5, 6]
            answer = await client.read_holding_registers(0x10, count=2, device_id=1)
            assert answer.registers == [7, 8]
            assert (await client.read_input_registers(98, count=3, device_id=1)).exception_code == 2
            assert (await client.read_coils(0, count=3, device_id=1)).exception_code == 1
        async with modbus_client(line.path, 115200, SILENCE_S) as client:
            with pytest.raises(Exception, match="No response"):
                await client.read_input_registers(0, count=1, device_id=2)


def test_a_damaged_request_gets_no_answer_and_the_next_good_one_does() -> None:
    face = ModbusFace({1: Registers()})
    good = bytes.fromhex("010400000001")
    good += crc16(good)
    received = bytearray(good[:-1] + b"\0")
    assert face.take_request(received) is None
    received += good
    assert face.take_request(received) == good


def test_counts_of_zero_and_over_125_are_illegal_values() -> None:
    for count in (0, 126, 2000):
        with pytest.raises(modbus.ModbusError) as refusal:
            Registers().answer(b"\4\0\0" + count.to_bytes(2))
        assert refusal.value.code == modbus.ILLEGAL_VALUE


def test_crc_gives_the_known_answers(recordings: Path) -> None:
    assert crc16(b"\x02\x07") == b"\x41\x12"  # the serial line specification's example
    entries = json.loads((recordings / "modbus/energy_meter_frames.json").read_text())
    frames = [bytes.fromhex(e[k]) for e in entries for k in ("request", "response") if e.get(k) and e[f"{k}_crc_ok"]]
    assert len(frames) >= 10
    for frame in frames:
        assert crc16(frame[:-2]) == frame[-2:]


def test_vcu_gives_the_documented_example() -> None:
    request, answer = documented("vehicle-controller.md", 0)
    van = cast(Van, SimpleNamespace(is_powered=True, **vcu_example()))
    unit = vcu.Vcu(van, clock_s=Clock())
    unit.alive = 6
    assert modbus_words(ModbusFace({1: unit}).answer(request)) == modbus_words(answer)
    assert ModbusFace({1: unit}).answer(request) == answer


def modbus_words(answer: bytes | None) -> list[str]:
    assert answer is not None
    return [answer[i : i + 2].hex() for i in range(3, len(answer) - 2, 2)]


def test_slot_charger_gives_the_documented_example() -> None:
    request, answer = documented("slot-charger.md", 0)
    slot = SimpleNamespace(
        occupied=True,
        locked=True,
        charger_state=2,
        charger_voltage_v=54.72,
        charger_current_a=200.0,
        charger_power_kw=10.944,
        current_limit_a=250.0,
        charger_temperature_c=41.3,
        faults=0,
        session_duration_s=754,
        request_id=99,
    )
    slot.energy_kwh = struct.unpack(">I", answer[25:29])[0] / 1000
    unit = slot_charger.SlotCharger(cast(Slot, slot), clock_s=Clock())
    unit.alive = 6
    assert modbus_words(ModbusFace({3: unit}).answer(request)) == modbus_words(answer)
    assert ModbusFace({3: unit}).answer(request) == answer


def test_one_refresh_is_one_reading_and_moves_the_alive_counter() -> None:
    clock = Clock()
    van = cast(Van, SimpleNamespace(is_powered=True, **vcu_example()))
    unit = vcu.Vcu(van, clock_s=clock)
    first = list(unit.read(4, 0, 37))
    van.speed_kmh = 50.0
    assert list(unit.read(4, 0, 37)) == first
    clock.now_s += REFRESH_S
    second = unit.read(3, 0, 37)
    assert second[2] == first[2] + 1
    assert second[4] == 5000
    unit.alive = 0xFFFF
    clock.now_s += REFRESH_S
    assert unit.read(4, 2, 1) == [0]


def test_a_van_without_power_has_a_silent_controller() -> None:
    van = cast(Van, SimpleNamespace(is_powered=False, **vcu_example()))
    request = bytes.fromhex("010400000023")
    assert ModbusFace({1: vcu.Vcu(van)}).answer(request + crc16(request)) is None


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("u16", None, [0xFFFF]),
        ("i16", None, [0x8000]),
        ("u32", None, [0xFFFF, 0xFFFF]),
        ("i32", None, [0x8000, 0]),
        ("u16", -3.0, [0]),
        ("u16", 1e9, [0xFFFD]),
        ("i16", -0.1, [0xFFFF]),
        ("i32", -18.8, [0xFFFF, 0xFF44]),
        ("u32", 6553.6, [1, 0]),
    ],
)
def test_numbers_become_registers(kind: str, value: float | None, words: list[int]) -> None:
    assert encode(Field(0, "x", kind, 1), value) == words


METER_NAMES = [signal.name for signal in METER.signals]


def meter_of(values: dict[str, float]) -> GridMeter:
    return cast(GridMeter, SimpleNamespace(**{**dict.fromkeys(METER_NAMES, 0.0), **values}))


def test_sdm630_gives_the_published_and_the_captured_voltage(recordings: Path) -> None:
    entries = {e["name"]: e for e in json.loads((recordings / "modbus/energy_meter_frames.json").read_text())}
    meter = meter_of({})
    face = ModbusFace({1: Sdm630(meter)})
    request = bytes.fromhex(entries["sdm_read_L1_voltage"]["request"])
    for name in ("sdm_read_L1_voltage", "sdm630_L1_voltage_scope_capture"):
        recorded = bytes.fromhex(entries[name]["response"])
        (meter.voltage_l1_v,) = struct.unpack(">f", recorded[3:7])
        assert face.answer(request) == recorded
    settings = entries["sdm_read_pulse1_width"]
    assert face.answer(bytes.fromhex(settings["request"])) == bytes.fromhex(settings["response"])


def test_sdm630_shows_the_whole_meter() -> None:
    values = {name: 10.5 + i for i, name in enumerate(METER_NAMES)} | {"power_factor": 0.5}
    words = Sdm630(meter_of(values)).read(4, 0, 80)

    def value(address: int) -> float:
        (number,) = struct.unpack(">f", struct.pack(">HH", *words[address : address + 2]))
        return cast(float, number)

    assert [value(a) for a in (0, 2, 4)] == [values[f"voltage_l{n}_v"] for n in (1, 2, 3)]
    assert [value(a) for a in (6, 8, 10)] == [values[f"current_l{n}_a"] for n in (1, 2, 3)]
    assert [value(a) for a in (12, 14, 16)] == [1000 * values[f"power_l{n}_kw"] for n in (1, 2, 3)]
    assert value(0x34) == 1000 * values["power_kw"]
    assert value(0x3C) == 1000 * values["reactive_power_kvar"]
    assert value(0x3E) == 0.5
    assert value(0x46) == values["frequency_hz"]
    assert value(0x48) == values["energy_import_kwh"]
    assert value(0x4A) == values["energy_export_kwh"]


async def test_an_answer_takes_as_long_as_on_the_real_line() -> None:
    async with SerialLine("slow", baudrate=9600, parity="even") as line:
        line.attach(ModbusFace({1: Registers()}, turnaround_s=0.02))
        request = bytes.fromhex("010400000064")
        request += crc16(request)

        def ask() -> tuple[bytes, float]:
            with serial.Serial(line.path, 9600, timeout=2.0) as port:
                started = time.monotonic()
                port.write(request)
                answer = port.read(205)
                return answer, time.monotonic() - started

        answer, duration_s = await asyncio.to_thread(ask)
        assert struct.unpack(">100H", answer[3:-2]) == tuple(range(100))
        # 8 + 205 characters of 11 bits at 9600 baud, and the device's own 20 ms
        assert duration_s >= 213 * 11 / 9600 + 0.02


async def test_a_line_outlives_the_node_that_opened_it() -> None:
    async with SerialLine("bus", baudrate=115200) as line:
        line.attach(ModbusFace({1: Registers()}))
        request = bytes.fromhex("010400050001")
        request += crc16(request)

        def ask() -> bytes:
            with serial.Serial(line.path, 115200, timeout=2.0) as port:
                port.write(request)
                return port.read(7)

        for _ in range(2):
            assert (await asyncio.to_thread(ask))[3:5] == b"\0\5"
        line.detach()
        with serial.Serial(line.path, 115200, timeout=0.1) as port:
            port.write(request)
            assert await asyncio.to_thread(port.read, 7) == b""


class Echo(RequestFace):
    """Answers every three bytes with themselves."""

    def take_request(self, received: bytearray) -> bytes | None:
        if len(received) < 3:
            return None
        request = bytes(received[:3])
        del received[:3]
        return request

    def answer(self, request: bytes) -> bytes | None:
        return request


async def test_half_a_request_is_forgotten_after_silence() -> None:
    async with SerialLine("bus", baudrate=115200) as line:
        line.attach(Echo())
        with serial.Serial(line.path, 115200, timeout=2.0) as port:
            port.write(b"ab")
            await asyncio.sleep(0.2)
            port.write(b"xyz")
            assert await asyncio.to_thread(port.read, 3) == b"xyz"


async def test_what_nobody_reads_is_discarded_and_counted() -> None:
    async with SerialLine("deaf", baudrate=10_000_000) as line:
        await line.write(bytes(200_000))
        assert line.bytes_discarded > 0
        assert line.bytes_written + line.bytes_discarded == 200_000
