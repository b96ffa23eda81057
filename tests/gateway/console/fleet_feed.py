"""A fleet of real frames: sealed by swapline_wire, decoded as the gateway does, put into FleetState, kept to chart."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from swapline_gateway.spool import SpooledFrame
from swapline_gateway.state import FleetState, StateChange
from swapline_wire import catalogue
from swapline_wire.catalogue import stream_by_name
from swapline_wire.decode import decode
from swapline_wire.frame import FrameBuilder

ANCHOR_UTC_MS = 1_795_000_000_000


def seal_frame(stream_name: str, rows: list[tuple[int, dict[str, float]]], **place: Any) -> bytes:
    """Seal rows of (ms since boot, scaled values); signals that are not named are not available."""
    stream = stream_by_name(stream_name)
    assert stream is not None
    builder = FrameBuilder(stream, bay=place.get("bay", 0), owner=place.get("owner", ""), buffer_bytes=4096)
    for time_ms, values in rows:
        raw = catalogue.not_available(stream.signals)
        for index, signal in enumerate(stream.signals):
            if signal.name in values:
                raw[index] = round(values[signal.name] * 10**signal.decimals)
        assert not values.keys() - {signal.name for signal in stream.signals}
        builder.add(time_ms, raw)
    header = {"journal": 1, "seq": 1, "boot": 1, "time_quality": catalogue.TIME_GNSS, "anchor_utc_ms": ANCHOR_UTC_MS}
    return bytes(builder.seal(**{name: place.get(name, value) for name, value in header.items()}))


@dataclass
class Unit:
    """One node's journal: numbers its frames and hands them to the fleet's state and, for charts, to `keep`."""

    state: FleetState
    node: str
    fleet: str = "demo"
    journal: int = 1
    boot: int = 1
    anchor_utc_ms: int = ANCHOR_UTC_MS
    seq: int = 0
    keep: Callable[[SpooledFrame], None] | None = None

    def send(
        self, stream: str, rows: list[tuple[int, dict[str, float]]], *, bay: int = 0, owner: str = ""
    ) -> list[StateChange]:
        self.seq += 1
        place = {"bay": bay, "owner": owner, "journal": self.journal, "seq": self.seq, "boot": self.boot}
        data = seal_frame(stream, rows, **place, anchor_utc_ms=self.anchor_utc_ms)
        if self.keep is not None:
            received = self.anchor_utc_ms + rows[-1][0] + 2_000
            quality = catalogue.TIME_GNSS
            self.keep(SpooledFrame(self.seq, self.fleet, self.node, self.anchor_utc_ms, quality, received, data))
        return self.state.apply(self.fleet, self.node, decode(data), self.anchor_utc_ms)

    def say_birth(self, holder: str, bays: list[int], **more: Any) -> None:
        birth = {"online": True, "protocol": 1, "firmware": "0.1.0", "board": "esp32", "boot": self.boot}
        rest = {"journal": self.journal, "clock_quality": 4, "holder": holder, "bays": bays, "safe_mode": False}
        self.state.apply_status(self.fleet, self.node, birth | rest | more)


def module_values(soc_pct: float, *, current_a: float = -40.0, warm_c: float = 0.0) -> dict[str, float]:
    """A 16-cell LFP module at this state of charge."""
    cell_v = 3.2 + 0.12 * soc_pct / 100
    return {
        "voltage_v": 16 * cell_v,
        "current_a": current_a,
        "soc_pct": soc_pct,
        "soh_pct": 97.4,
        "capacity_remaining_ah": 5.18 * soc_pct,
        "capacity_full_ah": 518.0,
        "cell_voltage_min_v": cell_v - 0.006,
        "cell_voltage_max_v": cell_v + 0.007,
        "cell_voltage_mean_v": cell_v,
        "cell_voltage_min_cell": 4,
        "cell_voltage_max_cell": 11,
        "temperature_min_c": 24.5 + warm_c,
        "temperature_max_c": 27.1 + warm_c,
        "temperature_min_sensor": 1,
        "temperature_max_sensor": 3,
        "temperature_mosfet_c": 33.0 + warm_c,
        "temperature_ambient_c": 22.0,
        "insulation_kohm": 2400,
        "cycles": 312,
        "charge_in_ah": 151_200.5,
        "charge_out_ah": 149_880.25,
        "energy_in_kwh": 7_851.2,
        "energy_out_kwh": 7_402.8,
        "cell_count": 16,
        "switches": 0b0011,
        "protections": 0,
        "balancing": 0b0000_0100_0000_0000,
    }


def cell_values(soc_pct: float) -> dict[str, float]:
    """The sixteen cells and four sensors of such a module."""
    cell_v = 3.2 + 0.12 * soc_pct / 100
    spread = {f"cell_{n + 1:02d}_v": cell_v + 0.007 * math.sin(2.4 * n) for n in range(16)}
    return {"segment": 0, **spread, **{f"temperature_{n + 1}_c": 24.5 + 0.9 * n for n in range(4)}}


def vehicle_values(soc_pct: float, *, speed_kmh: float = 42.5, drive_mode: int = 3) -> dict[str, float]:
    """A van on the road."""
    return {
        "speed_kmh": speed_kmh,
        "odometer_km": 18_204.512,
        "drive_mode": drive_mode,
        "gear": 3 if speed_kmh else 0,
        "doors": 0,
        "cargo_lock": 1,
        "auxiliary_voltage_v": 13.8,
        "traction_voltage_v": 52.9,
        "traction_current_a": -2.4 * speed_kmh,
        "soc_pct": soc_pct,
        "range_km": 4 * soc_pct,
        "accelerator_pct": 22.0 if speed_kmh else 0,
        "brake_pct": 0,
        "motor_torque_nm": 1.8 * speed_kmh,
        "motor_speed_rpm": 71 * speed_kmh,
        "motor_temperature_c": 51.0,
        "inverter_temperature_c": 46.5,
        "acceleration_mps2": 0.12,
        "ambient_temperature_c": 17.5,
        "cabin_temperature_c": 19.0,
        "cargo_temperature_c": 6.2,
        "heating_power_kw": 0,
        "aircon_power_kw": 0.4,
        "insulation_kohm": 1800,
        "cargo_mass_kg": 640,
        "faults": 0,
    }


def position_values(index: int, progress: float) -> dict[str, float]:
    """A point of a loop through town, its size and centre depending on `index`."""
    angle = progress + index * 1.1
    return {
        "latitude_deg": 52.5 + 0.018 * math.sin(angle) * (1 + index % 3),
        "longitude_deg": 13.4 + 0.03 * math.cos(angle) * (1 + index % 4),
        "altitude_m": 34.0,
        "speed_kmh": 42.5,
        "heading_deg": (360 - math.degrees(angle)) % 360,
        "fix_quality": 1,
        "fix_mode": 3,
        "satellites_used": 14,
        "satellites_in_view": 22,
        "hdop": 0.8,
    }


def slot_values(*, occupied: bool, charger_state: int, power_kw: float = 0.0) -> dict[str, float]:
    """One charging slot of a station."""
    return {
        "occupied": int(occupied),
        "locked": int(occupied),
        "charger_state": charger_state,
        "charger_voltage_v": 53.2 if occupied else 0,
        "charger_current_a": power_kw * 1000 / 53.2,
        "charger_power_kw": power_kw,
        "current_limit_a": 200,
        "energy_kwh": 10_412.75,
        "charger_temperature_c": 31.5,
        "faults": 0,
        "session_duration_s": 1_830 if occupied else 0,
    }


def meter_values(power_kw: float) -> dict[str, float]:
    """The grid meter of a station."""
    return {
        "voltage_l1_v": 230.4,
        "voltage_l2_v": 231.1,
        "voltage_l3_v": 229.8,
        "current_l1_a": power_kw * 1.45,
        "power_kw": power_kw,
        "power_factor": 0.98,
        "frequency_hz": 50.01,
        "energy_import_kwh": 84_120.4,
        "energy_export_kwh": 12.5,
    }


def node_values(*, sealed: int = 5_210, backlog: int = 0) -> dict[str, float]:
    """What a node says about itself."""
    return {
        "uptime_s": 86_520,
        "reset_cause": 1,
        "heap_used_bytes": 92_160,
        "heap_free_bytes": 63_488,
        "heap_peak_bytes": 118_784,
        "journal_used_bytes": 81_920,
        "journal_limit_bytes": 1_500_000,
        "backlog_frames": backlog,
        "frames_sealed": sealed,
        "frames_acknowledged": sealed - backlog,
        "frames_sent_again": 3,
        "frames_dropped": 0,
        "rows_kept": 40_210,
        "rows_unchanged": 61_004,
        "values_abnormal": 2,
        "bus_requests": 120_400,
        "bus_timeouts": 12,
        "bus_checksum_errors": 1,
        "bus_protocol_errors": 0,
        "link_connects": 2,
        "link_failures": 1,
        "link_rtt_ms": 38,
        "rssi_dbm": -67,
        "clock_quality": 4,
        "clock_step_ms": 0,
        "loop_lag_ms_max": 21,
        "task_restarts": 0,
        "safe_mode": 0,
    }
