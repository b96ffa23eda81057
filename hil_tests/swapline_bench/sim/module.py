"""A battery module that a user sets: its physics run from there on, and what is fixed stays as it is."""

from itertools import cycle, islice
from random import Random
from typing import Any

from swapline_bench.battery import CELLS, CellString
from swapline_bench.module import Module
from swapline_bench.protection import CHARGE_BLOCKING, DISCHARGE_BLOCKING

FIXED = {"cells": "cells_fixed_v", "temps": "temperatures_fixed_c", "capacity": "capacity_fixed_ah"}


class SetModule(Module):
    """A module whose sensors are exact, so that it says what it was set to.

    `cells_fixed_v` and `temperatures_fixed_c` stand in place of what the cells would have: the BMS protects by the
    voltages. With `capacity_fixed_ah` the module shows another size at the same state of charge.
    """

    def __init__(self, code: str, *, soc_pct: float, health_pct: float, temperature_c: float, seed: int) -> None:
        self.cells_fixed_v: list[float] | None = None
        self.temperatures_fixed_c: list[float] | None = None
        self.capacity_fixed_ah: float | None = None
        self._is_judging = False
        self._seed = seed
        super().__init__(code, Random(seed), soc=soc_pct / 100.0, health_pct=health_pct)  # noqa: S311 - repeatable
        self._sensor_gain, self._sensor_offset_a = 1.0, 0.0
        self._cell_offset_v = [0.0] * len(self._cell_offset_v)
        self.make_cells(soc_pct=soc_pct, temperature_c=temperature_c)

    def make_cells(self, *, soc_pct: float | None = None, temperature_c: float | None = None) -> None:
        """Put in cells of the same make at another state of charge or temperature, rested; the count starts there."""
        soc_pct = self.soc_pct if soc_pct is None else soc_pct
        temperature_c = self.cells.temperature_c if temperature_c is None else temperature_c
        seeded = Random(self._seed)  # noqa: S311 - repeatable
        self.cells = CellString(seeded, soc=soc_pct / 100.0, health_pct=self.soh_pct, temperature_c=temperature_c)
        self.capacity_full_ah = round(self.cells.capacity_min_ah, 2)
        self._counted_ah = self.capacity_full_ah * soc_pct / 100.0
        self.temperature_mosfet_c = self.temperature_ambient_c = temperature_c
        self.is_full = False

    @property
    def cell_voltages_v(self) -> list[float]:
        """Return the cells' voltages, as fixed or as they are."""
        if self.cells_fixed_v is None:
            return super().cell_voltages_v
        return list(islice(cycle(self.cells_fixed_v), CELLS)) if self._is_judging else self.cells_fixed_v

    @property
    def cell_temperatures_c(self) -> list[float]:
        """Return the sensors' temperatures, as fixed or as they are."""
        fixed = self.temperatures_fixed_c
        return super().cell_temperatures_c if fixed is None else fixed

    @property
    def capacity_remaining_ah(self) -> float:
        """Return what is left, of the fixed capacity if there is one."""
        if self.capacity_fixed_ah is None:
            return super().capacity_remaining_ah
        return round(self.capacity_fixed_ah * self.soc_pct / 100.0, 2)

    def flow(self, current_a: float, dt_s: float) -> None:
        """Let `current_a` flow for `dt_s`, unless the BMS has opened the switch of that direction."""
        blocked = CHARGE_BLOCKING if current_a > 0 else DISCHARGE_BLOCKING
        is_open = self.protections & blocked or not self.is_connected
        self.advance(0.0 if is_open else current_a, dt_s)
        self.update(dt_s)

    def update(self, dt_s: float) -> None:
        """Let the BMS look at its cells. Its pack limits are sixteen cells' own: fixed ones are repeated up to that."""
        self._is_judging = True
        super().update(dt_s)
        self._is_judging = False
        if self.cells_fixed_v is not None:
            self.balancing_mask &= (1 << len(self.cells_fixed_v)) - 1

    def fix(self, name: str, value: Any) -> None:
        """Set or, with None, free what only a module has."""
        setattr(self, FIXED[name], value)
