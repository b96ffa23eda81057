"""The book of passports: one row a module in the table `passport`, derived from its days, stays and alarms.

What siblings say is added when a passport is read: it changes while the module itself lies still.
"""

import json
from collections.abc import Collection
from dataclasses import replace

from . import table
from .hour_book import HourBook
from .passport import as_json, compare, from_json, make_passport
from .record import Passport
from .span import merge
from .store import BatteryStore

ALARM_ROWS_MAX = 10_000


class PassportBook:
    """See the module's header."""

    def __init__(self, store: BatteryStore, hours: HourBook) -> None:
        self._store = store
        self._hours = hours

    def passport(self, module: str) -> Passport | None:
        """Return a module's passport as of now, compared with its siblings; None if nothing was ever read of it."""
        made = self._make(module)
        return None if made is None else replace(made, siblings=compare(made, self._stored()))

    def refresh(self, modules: Collection[str]) -> None:
        """Write the passports of these modules again, where something in them has changed."""
        rows = []
        for module in sorted(modules):
            stored = {row.key: row for row in self._store.read(table.PASSPORT, tags={"module": module})}
            made = self._make(module)
            if made is None:
                continue
            row = as_row(made)
            rows += [old.void() for key, old in stored.items() if key != row.key]
            if stored.get(row.key) != row:
                rows.append(row)
        self._store.put(rows)

    def _make(self, module: str) -> Passport | None:
        life = merge(self._hours.days(module))
        if life is None:
            return None
        stays = sorted(self._store.read(table.STAY, tags={"module": module}), key=lambda row: row.time_utc_ms)
        places = [(row.tags["fleet"], row.tags["node"]) for row in stays]
        return make_passport(
            module, life, places=places, alarms=self._store.alarms(module=module, limit=ALARM_ROWS_MAX)
        )

    def _stored(self) -> list[Passport]:
        return [from_json(json.loads(row.fields["detail"])) for row in self._store.read(table.PASSPORT)]


def as_row(passport: Passport) -> table.Row:
    """Return the row that is stored; its time is the first one that is known of the module."""
    return table.PASSPORT.row(
        passport.first_utc_ms,
        {"module": passport.module},
        last_utc_ms=passport.last_utc_ms,
        known_s=passport.known_s,
        energy_in_kwh=passport.energy_in_kwh,
        energy_out_kwh=passport.energy_out_kwh,
        charge_in_ah=passport.charge_in_ah,
        charge_out_ah=passport.charge_out_ah,
        equivalent_full_cycles=passport.equivalent_full_cycles,
        fast_charge_share=passport.fast_charge_share,
        capacity_ah=passport.capacity.value,
        capacity_sigma_ah=passport.capacity.uncertainty,
        resistance_mohm=passport.resistance.value,
        resistance_sigma_mohm=passport.resistance.uncertainty,
        spread_mv=passport.spread.value,
        spread_trend_mv=passport.spread_trend.value,
        swap_count=passport.swap_count,
        holder_count=passport.holder_count,
        detail=json.dumps(as_json(passport), separators=(",", ":"), sort_keys=True),
    )
