"""Questions to the book of custody: who held a module, which modules a holder had, swaps, contradictions."""

from collections.abc import Callable
from typing import Any

from swapline_gateway.spool import now_utc_ms

from .custody_rows import contradiction_of, stay_of, swap_of
from .record import CODE_UNUSUAL, SWAP_HALF_TOLD, TWO_MODULES, Contradiction, Ledger, Stay, Swap
from .store import BatteryStore
from .swap import EXCHANGE_MS
from .table import CONTRADICTION, STAY, SWAP, Row

LIMIT = 500


class CustodyLedgers:
    """Answers from the tables that `CustodyBook` keeps. `now_utc_ms`: where modules are now is asked with it."""

    def __init__(self, store: BatteryStore, *, now_utc_ms: Callable[[], int] = now_utc_ms) -> None:
        self._store = store
        self._now_utc_ms = now_utc_ms

    def ledger(
        self, module: str, *, since_utc_ms: int = 0, before_utc_ms: int | None = None, limit: int | None = None
    ) -> Ledger:
        """Return what is known of a module's custody: what had not ended at a time; of that the newest `limit` stays.

        `before_utc_ms`: of the stays that began before it, as `Ledger.older_utc_ms` told. Swaps and contradictions
        are those of the same time as the stays.
        """
        tags = {"module": module}
        lasting = [("until_utc_ms", ">", since_utc_ms)] if since_utc_ms else []
        stays, is_cut = self._newest_stays(tags, lasting, before_utc_ms, limit)
        start_ms = max(since_utc_ms, stays[0].time_utc_ms) if is_cut else since_utc_ms
        swaps = self._swaps_of(module, stays, max(0, start_ms - EXCHANGE_MS), before_utc_ms)
        ended = [("until_utc_ms", ">=", start_ms)] if start_ms else []
        contradictions = self._store.read(CONTRADICTION, tags=tags, where=ended, end_utc_ms=before_utc_ms)
        for kind in (TWO_MODULES, SWAP_HALF_TOLD):  # those that name another module
            other = [("other_module", "=", module), *ended]
            contradictions += self._store.read(
                CONTRADICTION, tags={"kind": kind}, where=other, end_utc_ms=before_utc_ms
            )
        return Ledger(
            module,
            tuple(map(stay_of, stays)),
            tuple(sorted(map(swap_of, swaps), key=lambda swap: swap.start_utc_ms)),
            tuple(sorted(map(contradiction_of, contradictions), key=lambda one: one.time_utc_ms)[-(limit or 0) :]),
            is_complete=not is_cut and not since_utc_ms,
            older_utc_ms=start_ms if is_cut else None,
        )

    def _newest_stays(
        self, tags: dict[str, str], lasting: list[tuple[str, str, int]], before_ms: int | None, limit: int | None
    ) -> tuple[list[Row], bool]:
        """Return the newest stays in the order of time, and whether there are older ones.

        Stays that began at one time are not parted: whoever asks for older ones names a time.
        """
        wanted = None if limit is None else limit + 1
        found = self._store.read(STAY, tags=tags, where=lasting, end_utc_ms=before_ms, limit=wanted, newest_first=True)
        is_cut = wanted is not None and len(found) == wanted
        if is_cut:
            edge_ms = found[-1].time_utc_ms
            kept = [row for row in found if row.time_utc_ms > edge_ms]
            found = kept or self._store.read(
                STAY, tags=tags, where=lasting, start_utc_ms=edge_ms, end_utc_ms=edge_ms + 1
            )
        return sorted(found, key=lambda row: (row.time_utc_ms, row.key)), is_cut

    def _swaps_of(self, module: str, stays: list[Row], start_ms: int, end_ms: int | None) -> list[Row]:
        """Return swaps that a module left or came with.

        A swap's key has the module that left. The others are asked for by their holders: InfluxDB finds tags at once,
        but for a field it reads every swap of the fleet.
        """
        found = self._store.read(SWAP, tags={"module": module}, start_utc_ms=start_ms, end_utc_ms=end_ms)
        came: dict[Any, Row] = {}
        for fleet, node in sorted({(row.tags["fleet"], row.tags["node"]) for row in stays}):
            for role in ("van", "station"):
                tags, came_in = {"fleet": fleet, role: node}, [("module_in", "=", module)]
                rows = self._store.read(SWAP, tags=tags, where=came_in, start_utc_ms=start_ms, end_utc_ms=end_ms)
                came |= {row.key: row for row in rows if row.tags["module"] != module}
        return found + list(came.values())

    def at(self, fleet: str, node: str, time_utc_ms: int) -> list[Stay]:
        """Return which modules were in a holder's bays at a time."""
        rows = self._store.read(
            STAY,
            tags={"fleet": fleet, "node": node},
            where=[("until_utc_ms", ">", time_utc_ms)],
            end_utc_ms=time_utc_ms + 1,
        )
        return sorted((stay_of(row) for row in rows), key=lambda stay: (stay.place.bay, stay.from_utc_ms))

    def is_holder(self, fleet: str, node: str) -> bool:
        """Say whether any module ever was there."""
        return bool(self._store.read(STAY, tags={"fleet": fleet, "node": node}, limit=1))

    def holders(self) -> list[tuple[str, str]]:
        """Return all vans and stations in which a module is, as far as is known."""
        rows = self._store.read(STAY, where=[("until_utc_ms", ">", self._now_utc_ms())])
        return sorted({(row.tags["fleet"], row.tags["node"]) for row in rows})

    def swaps(self, *, since_utc_ms: int = 0, limit: int = LIMIT, fleet: str | None = None) -> list[Swap]:
        """Return swaps, newest first."""
        tags = None if fleet is None else {"fleet": fleet}
        rows = self._store.read(SWAP, tags=tags, start_utc_ms=since_utc_ms, limit=limit, newest_first=True)
        return [swap_of(row) for row in rows]

    def contradictions(
        self, *, since_utc_ms: int = 0, limit: int = LIMIT, kind: str | None = None
    ) -> list[Contradiction]:
        """Return contradictions of a kind, or of all, that began since then, newest first.

        Of all kinds codes that are unusual come last: a fleet may have one for each module, and nothing has happened.
        """
        parts = (("!=", CODE_UNUSUAL), ("=", CODE_UNUSUAL)) if kind is None else (("=", kind),)
        rows: list[Row] = []
        for how, name in parts:
            if len(rows) < limit:
                where = [("kind", how, name)]
                room = limit - len(rows)
                rows += self._store.read(
                    CONTRADICTION, where=where, start_utc_ms=since_utc_ms, limit=room, newest_first=True
                )
        return [contradiction_of(row) for row in rows]
