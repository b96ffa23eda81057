"""The simulators: name, line, face and device of each. A new one is one entry here."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from swapline_bench.faces import gnss, jbd, jbd_up16s, jk, modbus, sdm630, seplos_v3, slot_charger, vcu
from swapline_bench.faces.turnaround import TURNAROUNDS, Turnaround
from swapline_bench.serial_line import Face
from swapline_bench.sim.device import (
    ChargerDevice,
    Device,
    MeterDevice,
    ModuleDevice,
    ReceiverDevice,
    VcuDevice,
)
from swapline_bench.sim.protocol import describe_jbd, describe_jk, describe_modbus
from swapline_bench.sim.receiver import ReceiverFace
from swapline_bench.sim.setting import Setting

LAYOUT_SEPLOS = {"cells": 16, "temps": 4}


class Made(NamedTuple):
    """A device and the face that speaks for it."""

    device: Device
    face: Face


class Simulator(NamedTuple):
    """One kind of simulated device. `address` None: the protocol has none."""

    title: str
    baudrate: int
    parity: str
    address: int | None
    settings: Mapping[str, Setting]
    make: Callable[[int, int], Made]  # of address and seed
    turnaround: Turnaround | None = None
    describe: Callable[[bytes], str] | None = None


def _make_jbd(_address: int, seed: int) -> Made:
    device = ModuleDevice(seed=seed)
    return Made(device, jbd.JbdFace(device.plugged))


def _make_jk(_address: int, seed: int) -> Made:
    device = ModuleDevice(seed=seed)
    return Made(device, jk.JkFace(device.plugged))


def _make_up16s(address: int, seed: int) -> Made:
    device = ModuleDevice(seed=seed)
    return Made(device, jbd_up16s.Up16sFace({address: jbd_up16s.Up16s(device.plugged)}))


def _make_seplos(address: int, seed: int) -> Made:
    device = ModuleDevice(seed=seed, layout=LAYOUT_SEPLOS)
    return Made(device, modbus.ModbusFace({address: seplos_v3.SeplosV3(device.plugged)}))


class _Meter(sdm630.Sdm630):
    """A meter whose cable can be pulled."""

    def __init__(self, device: MeterDevice, address: int) -> None:
        super().__init__(device.view, address=address)
        self._device = device

    def is_present(self) -> bool:
        return self._device.is_present


def _make_meter(address: int, seed: int) -> Made:
    device = MeterDevice(seed=seed)
    return Made(device, modbus.ModbusFace({address: _Meter(device, address)}))


def _make_charger(address: int, seed: int) -> Made:
    device = ChargerDevice(seed=seed)
    return Made(device, modbus.ModbusFace({address: slot_charger.SlotCharger(device.view)}))


def _make_vcu(address: int, seed: int) -> Made:
    device = VcuDevice(seed=seed)
    return Made(device, modbus.ModbusFace({address: vcu.Vcu(device.view)}))


def _make_gnss(_address: int, seed: int) -> Made:
    device = ReceiverDevice(seed=seed)
    return Made(device, ReceiverFace(device.view))


def _simulator(
    title: str,
    kind: str,
    device: type[Device],
    make: Callable[[int, int], Made],
    describe: Callable[[bytes], str],
    *,
    baudrate: int,
    parity: str = "none",
    address: int | None = 1,
) -> Simulator:
    return Simulator(title, baudrate, parity, address, device.settings, make, TURNAROUNDS[kind], describe)


SIMULATORS: Mapping[str, Simulator] = {
    "jbd": _simulator(
        "JBD BMS, classic protocol (DD A5)", "jbd", ModuleDevice, _make_jbd, describe_jbd, baudrate=9600, address=None
    ),
    "jbd-up16s": _simulator(
        "JBD UP16S BMS", "jbd_up16s", ModuleDevice, _make_up16s, describe_modbus, baudrate=jbd_up16s.BAUDRATE
    ),
    "seplos": _simulator(
        "Seplos BMS 3.0 (Modbus RTU)", "seplos_v3", ModuleDevice, _make_seplos, describe_modbus, baudrate=19200
    ),
    "jk": _simulator(
        "JK BMS, UART protocol (4E 57)", "jk", ModuleDevice, _make_jk, describe_jk, baudrate=jk.BAUDRATE, address=None
    ),
    "sdm630": _simulator(
        "Eastron SDM630 energy meter", "sdm630", MeterDevice, _make_meter, describe_modbus, baudrate=sdm630.BAUDRATE
    ),
    "charger": _simulator(
        "charger of one slot (docs/slot-charger.md)",
        "slot_charger",
        ChargerDevice,
        _make_charger,
        describe_modbus,
        baudrate=slot_charger.BAUDRATE,
        parity="even",
    ),
    "vcu": _simulator(
        "vehicle controller (docs/vehicle-controller.md)",
        "vcu",
        VcuDevice,
        _make_vcu,
        describe_modbus,
        baudrate=vcu.BAUDRATE,
        parity="even",
    ),
    "gnss": Simulator("GNSS receiver (NMEA)", gnss.BAUDRATE, "none", None, ReceiverDevice.settings, _make_gnss),
}
