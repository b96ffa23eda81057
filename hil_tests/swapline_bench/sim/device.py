"""What every simulated device can do for its user, whatever protocol it speaks."""

from collections.abc import Mapping, Sequence
from typing import Any

from swapline_bench.faces import slot_charger, vcu
from swapline_bench.grid import GridMeter
from swapline_bench.module import format_code
from swapline_bench.randomness import make_random
from swapline_bench.sim.error import SimError
from swapline_bench.sim.module import SetModule
from swapline_bench.sim.overlay import Overlay
from swapline_bench.sim.setting import (
    FREE,
    FREE_TEXT,
    Setting,
    bits_help,
    code,
    field_settings,
    find_setting,
    number,
    numbers,
    parse_setting,
    switch,
    whole,
)
from swapline_bench.station import Slot, Station
from swapline_bench.world import World
from swapline_wire.catalogue import METER, MODULE, SLOT, VEHICLE

CELLS_MAX = 24
SENSORS_MAX = 8
AMBIENT_C = 25.0
STEP_S_MAX = 2.0  # protections take seconds; 300 A for so long change a cell's voltage by millivolts


def _by_name(settings: Sequence[Setting]) -> dict[str, Setting]:
    return {setting.name: setting for setting in settings}


class Device:
    """One simulated device: settings by name, time that passes, and a module or cable that can be pulled."""

    settings: Mapping[str, Setting] = {}
    attributes: Mapping[str, str] = {}  # setting -> attribute of the object that the face reads; default: its name

    is_present = True

    def __init__(self, under: object) -> None:
        self.view: Any = Overlay(under)

    def advance(self, dt_s: float) -> None:
        """Let `dt_s` seconds of the device's world pass."""

    def set(self, texts: Mapping[str, str]) -> None:
        """Set all of `texts`, or nothing if one of them is wrong. Raises `SimError`."""
        parsed = {}
        for name, text in texts.items():
            setting = find_setting(self.settings, name)
            parsed[setting.name] = FREE if text == FREE_TEXT else parse_setting(setting, text)
        self.check(parsed)
        for name, value in parsed.items():
            self.apply(name, value)

    def check(self, values: Mapping[str, Any]) -> None:
        """Check values against each other and the device. Raises `SimError`."""

    def apply(self, name: str, value: Any) -> None:
        """Set one setting that has been checked; `FREE` gives it back to the physics."""
        attribute = self.attributes.get(name, name)
        if value is FREE:
            self.view.fixed.pop(attribute, None)
        else:
            self.view.fixed[attribute] = value

    def pull(self) -> None:
        """Take the module out; of a device that holds none, pull the cable."""
        self.is_present = False

    def insert(self, module_code: str | None) -> None:
        """Put in another module, or the same one; of a device that holds none, plug the cable in again."""
        if module_code is not None:
            raise SimError("This device holds no module: `insert` takes no code here.")
        self.is_present = True

    def values(self) -> dict[str, Any]:
        """Return what the device says now, by setting."""
        return {name: getattr(self.view, self.attributes.get(name, name)) for name in self.settings}


MODULE_SETTINGS = _by_name(
    [
        Setting("code", code, "The module's code, up to 24 characters."),
        Setting("soc", number(0, 100), "State of charge, percent."),
        Setting("temp", number(-40, 120), "Temperature of cells and surroundings, degC."),
        Setting("current", number(-327.68, 327.67), "Current in ampere, positive: charging. Protections may block it."),
        Setting("cells", numbers(0, 6, count_max=CELLS_MAX), "Cell voltages, for example 3.31,3.30,3.32."),
        Setting("temps", numbers(-40, 120, count_max=SENSORS_MAX), "Temperatures of the sensors, degC."),
        Setting("soh", number(1, 100), "State of health, percent: decides the capacity."),
        Setting("cycles", whole(0, 65535), "Equivalent full cycles."),
        Setting("voltage", number(0, 655.35), "Pack voltage; default: the sum of the cells."),
        Setting("capacity", number(0.01, 655.35), "Full capacity, Ah; default: 518 Ah by state of health."),
        Setting("capacity_remaining", number(0, 655.35), "Remaining capacity, Ah; default: by state of charge."),
        Setting("temp_mosfet", number(-40, 120), "Temperature of the power stage, degC."),
        Setting("temp_ambient", number(-40, 120), "Temperature beside the BMS, degC."),
        Setting("protections", whole(0, 0x3FFFF), f"Protections: {bits_help(MODULE, 'protections')}."),
        Setting("balancing", whole(0, 0xFFFFFF), "Cells that are being balanced, a bit each."),
        Setting("charge_switch", switch, "on or off."),
        Setting("discharge_switch", switch, "on or off."),
    ]
)


_HELD = ("code", "soc", "temp", "current", "soh")


class ModuleDevice(Device):
    """A battery module behind its BMS. `layout`: how many cells or temperatures the protocol has, where it is fixed."""

    settings = MODULE_SETTINGS
    attributes = {  # noqa: RUF012 - constant
        "soc": "soc_pct",
        "temp": "temperature_ambient_c",
        "current": "current_a",
        "cells": "cell_voltages_v",
        "temps": "cell_temperatures_c",
        "soh": "soh_pct",
        "voltage": "voltage_v",
        "capacity": "capacity_full_ah",
        "capacity_remaining": "capacity_remaining_ah",
        "temp_mosfet": "temperature_mosfet_c",
        "temp_ambient": "temperature_ambient_c",
        "balancing": "balancing_mask",
    }

    def __init__(self, *, seed: int = 1, layout: Mapping[str, int] | None = None) -> None:
        self._seed = seed
        self._layout = layout or {}
        self._held_a = 0.0
        self.module = self._make_module(format_code(serial=seed % 10_000_000))
        super().__init__(self.module)

    def _make_module(self, module_code: str) -> SetModule:
        return SetModule(module_code, soc_pct=80.0, health_pct=97.0, temperature_c=AMBIENT_C, seed=self._seed)

    def plugged(self) -> Any:
        """Return what the face reads: the module, or None while it is pulled."""
        return self.view if self.is_present else None

    def advance(self, dt_s: float) -> None:
        """Hold the current for `dt_s`, in steps that the protections can follow."""
        while self.is_present and dt_s > 0:
            step_s = min(dt_s, STEP_S_MAX)
            self.module.flow(self._held_a, step_s)
            dt_s -= step_s

    def check(self, values: Mapping[str, Any]) -> None:
        """Refuse what the protocol's layout has no room for, and to free what always has a value. Raises `SimError`."""
        for name, value in values.items():
            if name in _HELD and value is FREE:
                raise SimError(f"{name} cannot be freed: it always has a value, which you set.")
            exact = self._layout.get(name)
            if exact is not None and value is not FREE and len(value) != exact:
                raise SimError(f"{name}: this protocol's layout has {exact} of them, and {len(value)} were given.")

    def apply(self, name: str, value: Any) -> None:
        """Set or free one setting: what has physics changes them, the rest is laid over them."""
        module = self.module
        if name in {"cells", "temps", "capacity"}:
            module.fix(name, None if value is FREE else value)
        if name == "code":
            module.code = value
        elif name == "current":
            self._held_a = value
        elif name == "soc":
            module.make_cells(soc_pct=value)
        elif name == "temp":
            module.make_cells(temperature_c=value)
        elif name == "soh":
            module.soh_pct = value
            module.make_cells()
        elif name not in {"cells", "temps"}:
            super().apply(name, value)
        module.flow(self._held_a, 0.0)  # so that voltages follow the current at once

    def insert(self, module_code: str | None) -> None:
        """Put in a module of another code, at 80 %; without a code, the one that was pulled."""
        if module_code is not None:
            self.module = self._make_module(parse_setting(self.settings["code"], module_code))
            self.view = Overlay(
                self.module
            )  # another one: an answer that is under way ends where the old one was pulled
            self._held_a = 0.0
        self.is_present = True


class ChargerDevice(Device):
    """The charger of one slot, with a module in it."""

    settings = field_settings(slot_charger.FIELDS, SLOT)

    def __init__(self, *, seed: int = 1) -> None:
        self._modules = ModuleDevice(seed=seed)
        self._slot = Slot(self._modules.module)
        self._station = Station("simulated", [self._slot], make_random(seed, "charger"))
        super().__init__(self._slot)

    def advance(self, dt_s: float) -> None:
        """Charge for `dt_s`."""
        self._station.step(AMBIENT_C, dt_s)

    def pull(self) -> None:
        """Take the module out of the slot; the charger goes on answering."""
        if self._slot.module is not None:
            self._slot.take()

    def insert(self, module_code: str | None) -> None:
        """Put a module into the slot."""
        self.pull()
        self._modules.insert(module_code)
        self._slot.put(self._modules.module)


DEFAULT_LOAD_KW = 12.0


class MeterDevice(Device):
    """A three-phase meter with a load behind it."""

    settings = _by_name(
        [
            Setting("load", number(0, 1000), "Load in kW on all three phases; the other signals follow from it."),
            *(
                Setting(signal.name, number(-1e6, 1e6), f"Fixes this signal, in {signal.unit or '1'}.")
                for signal in METER.signals
            ),
        ]
    )

    def __init__(self, *, seed: int = 1) -> None:
        self.load_kw = DEFAULT_LOAD_KW
        self._meter = GridMeter(make_random(seed, "meter"))
        super().__init__(self._meter)
        self.advance(1.0)

    def advance(self, dt_s: float) -> None:
        """Measure the load for `dt_s`."""
        phase_w = self.load_kw * 1000.0 / 3.0
        self._meter.step((phase_w, phase_w, phase_w), dt_s)

    def apply(self, name: str, value: Any) -> None:
        """Set the load, or fix one signal."""
        if name == "load":
            self.load_kw = DEFAULT_LOAD_KW if value is FREE else value
            self.advance(1e-3)
        else:
            super().apply(name, value)

    def values(self) -> dict[str, Any]:
        """Return load and signals."""
        return {"load": self.load_kw} | {name: getattr(self.view, name) for name in self.settings if name != "load"}


class VanDevice(Device):
    """A van that drives through its invented city; a device in it reads it."""

    def __init__(self, *, seed: int = 1) -> None:
        self._world = World(van_count=1, slot_count=2, modules_per_van=(1,), speed=1.0, seed=seed)
        super().__init__(self._world.vans[0])

    def advance(self, dt_s: float) -> None:
        """Drive for `dt_s`."""
        self._world.step(dt_s)

    def pull(self) -> None:
        """Take the device's power away."""
        self.view.fixed["is_powered"] = False

    def insert(self, module_code: str | None) -> None:
        """Give the device power again."""
        super().insert(module_code)
        self.view.fixed.pop("is_powered", None)


class VcuDevice(VanDevice):
    """The van's controller."""

    settings = field_settings(vcu.FIELDS, VEHICLE)


class ReceiverDevice(VanDevice):
    """The van's GNSS receiver."""

    settings = _by_name(
        [
            Setting("latitude", number(-90, 90), "Degrees north."),
            Setting("longitude", number(-180, 180), "Degrees east."),
            Setting("altitude", number(-1000, 20000), "Metres above sea level."),
            Setting("speed_kmh", number(0, 1000), "Over ground."),
            Setting("heading", number(0, 360), "Degrees from north."),
            Setting("fix", switch, "on or off: off is a receiver without a fix."),
            Setting("satellites", whole(0, 12), "How many are used."),
            Setting("clock_error", number(-1e9, 1e9), "Seconds that the receiver's clock is ahead."),
        ]
    )
    attributes = {  # noqa: RUF012 - constant
        "latitude": "latitude_deg",
        "longitude": "longitude_deg",
        "altitude": "altitude_m",
        "heading": "heading_deg",
    }
    _DEFAULTS = {"fix": True, "satellites": 9, "clock_error": 0.0}  # noqa: RUF012 - constant

    def __init__(self, *, seed: int = 1) -> None:
        super().__init__(seed=seed)
        self.view.fixed.update(self._DEFAULTS)

    def apply(self, name: str, value: Any) -> None:
        """Set or free one setting; what the van does not know has a default instead."""
        if value is FREE and name in self._DEFAULTS:
            value = self._DEFAULTS[name]
        super().apply(name, value)
