"""Modules in parallel on a van's traction bus: each takes the current that its voltage and resistance give it.

With source voltages E and resistances R, a bus at voltage V puts (V - E) / R into each module; V follows from the power
that the van draws: P = V * sum((V - E) / R). A module whose BMS has opened a switch takes no current in that direction.
"""

from math import sqrt

from .module import Module


class TractionBus:
    """The parallel connection of a van's bays; keeps what a step delivered too much or too little for the next."""

    def __init__(self) -> None:
        self.voltage_v = 0.0
        self.current_a = 0.0  # positive into the modules
        self.energy_in_j = 0.0  # into the modules, net
        self.undelivered_j = 0.0  # asked for and not to be had
        self.refused_j = 0.0  # recuperated and not taken by any module
        self.carry_j = 0.0

    def exchange(self, modules: list[Module], energy_j: float, dt_s: float) -> float:
        """Put `energy_j` into `modules` within `dt_s` (negative: draw it); return what they really took (J)."""
        asked_j = energy_j + self.carry_j
        sources = [(m, m.cells.source_v, m.cells.source_resistance_ohm(dt_s)) for m in modules]
        currents = self._balance(sources, asked_j / dt_s)
        taken_each_j = [m.advance(a, dt_s) for (m, _, _), a in zip(sources, currents, strict=True)]
        taken_j = sum(taken_each_j)
        self.current_a = sum(currents)
        self.energy_in_j += taken_j
        # Voltage moved a little during the step; the difference is made good in the next one. What the modules refused
        # or could not give is not.
        rest_j = asked_j - taken_j
        limit_j = 0.02 * sum([abs(j) for j in taken_each_j]) + 1.0
        self.carry_j = min(max(rest_j, -limit_j), limit_j)
        self.refused_j += max(rest_j - self.carry_j, 0.0)
        self.undelivered_j += max(self.carry_j - rest_j, 0.0)
        return taken_j

    def _balance(self, sources: list[tuple[Module, float, float]], power_w: float) -> list[float]:
        """Find the currents; leave out modules that refuse their direction until nobody does."""
        refused: set[int] = set()
        while len(refused) < len(sources):
            conductance = weighted = 0.0
            for n, (_, source_v, resistance_ohm) in enumerate(sources):
                if n not in refused:
                    conductance += 1.0 / resistance_ohm
                    weighted += source_v / resistance_ohm
            # V**2 * conductance - V * weighted - P = 0; below zero under the root, the most that can be drawn is taken.
            root = max(0.0, weighted * weighted + 4.0 * conductance * power_w)
            self.voltage_v = (weighted + sqrt(root)) / (2.0 * conductance)
            currents = [0.0 if n in refused else (self.voltage_v - e) / r for n, (_, e, r) in enumerate(sources)]
            refusing = {n for n, a in enumerate(currents) if n not in refused and _refuses(sources[n][0], a)}
            if not refusing:
                return currents
            refused |= refusing
        # Nobody takes part, as when the van recuperates into modules that are full: who could discharge holds it up.
        self.voltage_v = max([source_v for m, source_v, _ in sources if m.discharge_switch], default=0.0)
        return [0.0] * len(sources)


def _refuses(module: Module, current_a: float) -> bool:
    return (current_a > 0 and not module.charge_switch) or (current_a < 0 and not module.discharge_switch)
