"""A swap station: slots with chargers, a grid meter, and the robot of `robot.py` with its queue of vans."""

from random import Random

from .grid import GridMeter
from .module import Module
from .van import Van

IDLE, CONNECTED, CHARGING, FULL, FAULT, RESERVED = range(6)
CHARGE_V = 56.0  # 3.50 V a cell: as full as LFP gets without the last minutes that wear it
CURRENT_A_MAX = 260.0  # half a C
RECHARGE_BELOW_PCT = 97.0
STEP_S = 10.0  # longest step of a charger; its constant-voltage loop is stable far beyond
CONNECT_S = 20.0  # between locking and the first current
STANDBY_W, CONVERSION_LOSS = 35.0, 0.045
CHARGER_RELAX_S = 600.0
HOUSE_W, ROBOT_W = 900.0, 3200.0
GRID_W_MAX = 75000.0  # what the connection may draw; chargers share it
SLOT_COOLING = 3.0  # fans: surface heat transfer relative to still air


class Slot:
    """One place for a module, with its charger (constant current, then constant voltage)."""

    def __init__(self, module: Module | None = None) -> None:
        self.module: Module | None = None
        self.occupied = self.locked = self.is_reserved = False
        self.charger_state = IDLE
        self.charger_voltage_v = self.charger_current_a = self.charger_power_kw = 0.0
        self.current_limit_a = CURRENT_A_MAX
        self.energy_kwh = 0.0  # into modules, at the terminals
        self.charger_temperature_c = 25.0
        self.faults = 0
        self.request_id = 0  # of the exchange that the slot takes part in
        self.session_duration_s = 0.0  # since the module came, until it is full
        self.output_j = self.input_j = 0.0  # true energy out of and into the charger
        if module is not None:
            self.put(module)

    def put(self, module: Module) -> None:
        """Take a module in and lock it."""
        assert self.module is None
        self.module = module
        module.cells.cooling = SLOT_COOLING
        self.occupied = self.locked = True
        self.charger_state, self.session_duration_s = CONNECTED, 0.0

    def take(self) -> Module:
        """Unlock the module and give it out."""
        assert self.module is not None
        module, self.module = self.module, None
        module.cells.cooling = 1.0
        module.advance(0.0, 1e-3)
        self.occupied = self.locked = self.is_reserved = False
        self.charger_state, self.session_duration_s = IDLE, 0.0
        self.charger_voltage_v = self.charger_current_a = self.charger_power_kw = 0.0
        return module

    def step(self, ambient_c: float, dt_s: float) -> None:
        """Charge for `dt_s`."""
        output_j, left_s = 0.0, dt_s
        while self.module is not None and left_s > 1e-9:
            part_s = min(left_s, STEP_S)
            self.module.cells.surroundings_c = ambient_c
            output_j += self._charge(self.module, part_s)
            left_s -= part_s
        self.output_j += output_j
        self.input_j += output_j * (1.0 + CONVERSION_LOSS) + STANDBY_W * dt_s
        self.energy_kwh += output_j / 3.6e6
        power_w = output_j / dt_s
        self.charger_power_kw = power_w / 1000.0
        steady_c = ambient_c + 0.045 * power_w * CONVERSION_LOSS
        self.charger_temperature_c += (steady_c - self.charger_temperature_c) * min(1.0, dt_s / CHARGER_RELAX_S)
        if self.module is not None:
            self.module.update(dt_s)
            self._report(self.module, dt_s)

    def _charge(self, module: Module, dt_s: float) -> float:
        current_a = 0.0
        if self.charger_state == CHARGING and module.charge_switch:
            resistance_ohm = module.cells.source_resistance_ohm(dt_s)
            current_a = (CHARGE_V - module.cells.source_v) / resistance_ohm
            current_a = min(max(current_a, 0.0), self.current_limit_a)
        return module.advance(current_a, dt_s)

    def _report(self, module: Module, dt_s: float) -> None:
        self.charger_voltage_v = module.voltage_v
        self.charger_current_a = max(module.cells.current_a, 0.0)
        if self.charger_state != FULL:
            self.session_duration_s += dt_s
        is_done = module.is_full or (not module.charge_switch and module.soc_pct > RECHARGE_BELOW_PCT)
        if self.is_reserved:
            self.charger_state = RESERVED
        elif self.charger_state in {CONNECTED, RESERVED} and self.session_duration_s >= CONNECT_S:
            self.charger_state = FULL if is_done else CHARGING
        elif self.charger_state == CHARGING and is_done:
            self.charger_state = FULL
        elif self.charger_state == FULL and module.soc_pct < RECHARGE_BELOW_PCT:
            self.charger_state = CHARGING


class Station:
    """Slots, grid meter and queue of one station."""

    def __init__(self, name: str, slots: list[Slot], random: Random, *, crossing: int = 0) -> None:
        self.name = name
        self.slots = slots  # index n is slot n + 1, bay n + 1 of the frames
        self.meter = GridMeter(random)
        self.crossing = crossing
        self.queue: list[Van] = []  # the first one is being served
        self.is_robot_moving = False

    @property
    def house_w(self) -> float:
        """Return what the station draws beside its chargers."""
        return HOUSE_W + (ROBOT_W if self.is_robot_moving else 0.0)

    def step(self, ambient_c: float, dt_s: float) -> None:
        """Let chargers and meter run for `dt_s`."""
        self._share_grid()
        before_j = sum([s.input_j for s in self.slots])
        for slot in self.slots:
            slot.step(ambient_c, dt_s)
        chargers_w = (sum([s.input_j for s in self.slots]) - before_j) / dt_s
        # Chargers and robot load the phases alike; the house hangs on the first one.
        even_w = (chargers_w + self.house_w - HOUSE_W) / 3.0
        self.meter.step((even_w + HOUSE_W, even_w, even_w), dt_s)

    def _share_grid(self) -> None:
        charging = sum([s.charger_state == CHARGING for s in self.slots])
        share_w = (GRID_W_MAX - HOUSE_W - ROBOT_W) / max(charging, 1) / (1.0 + CONVERSION_LOSS)
        for slot in self.slots:
            slot.current_limit_a = min(CURRENT_A_MAX, share_w / CHARGE_V)

    def find_fullest(self) -> Slot | None:
        """Return the slot with the fullest module that nothing speaks against, or None."""
        candidates = [s for s in self.slots if s.module is not None and not s.faults and not s.module.protections]
        return max(candidates, key=lambda s: s.module.soc_pct if s.module else 0.0, default=None)
