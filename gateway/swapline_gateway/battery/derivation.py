"""One step of the keeper's work, in its thread: hours, custody, passports and warnings of some modules.

What goes wrong with one module (rows that a formula does not survive) stays with it: the others are derived, and the
caller hears which failed and why. A database that does not answer ends the step.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from swapline_gateway.due import HOLDER, HOUR_MS
from swapline_gateway.error import SinkBusyError
from swapline_gateway.log import get
from swapline_gateway.spool import now_utc_ms

from .books import Books
from .store import BatteryStore
from .table import BOOK_STATE, CONTRADICTION, STAY, WARNING

# Raise it when a formula or a table changes: every gateway then derives everything stored again. Rows older than the
# database keeps are not there for it, so what an older version wrote of them must still be read.
BOOKS_VERSION = 1
WHOLE_HOURS = 24  # of one module in one step
CUSTODY_MODULES = 16  # in one step
CUSTODY_APART_MS = 24 * HOUR_MS  # since when their custody is to be derived

P = ParamSpec("P")
T = TypeVar("T")

_log = get("battery")


@dataclass(slots=True)
class Derived:
    """What a step did. `changed`: modules of which something is different now. `failed`: by module, why."""

    hour_count: int = 0
    changed: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    custody_since: dict[str, int] = field(default_factory=dict)  # modules whose custody is to be derived, since when

    def add(self, other: "Derived") -> None:
        """Take in what another step did."""
        self.hour_count += other.hour_count
        self.changed |= other.changed
        self.failed |= other.failed
        for module, since_utc_ms in other.custody_since.items():
            self.custody_since[module] = min(since_utc_ms, self.custody_since.get(module, since_utc_ms))


@dataclass(frozen=True, slots=True)
class Counts:
    """What is in the books."""

    contradictions: int = 0
    warnings: int = 0
    is_outdated: bool = False  # the file was replaced, or the books are of another version


def custody_parts(since: Mapping[str, int]) -> Iterator[tuple[list[str], int]]:
    """Yield modules whose custody is derived at once, and since when: it costs little more for some than for one."""
    part: list[str] = []
    start_ms = 0
    for module, since_utc_ms in sorted(since.items(), key=lambda one: (one[1], one[0])):
        if part and (len(part) >= CUSTODY_MODULES or since_utc_ms - start_ms > CUSTODY_APART_MS):
            yield part, start_ms
            part = []
        start_ms = start_ms if part else since_utc_ms
        part.append(module)
    if part:
        yield part, start_ms


class Derivation:
    """See the module's header."""

    def __init__(self, store: BatteryStore, books: Books | None = None) -> None:
        self._store = store
        self._books = books or Books(store, is_kept=True)

    def known_as(self, module: str) -> str:
        """See `BatteryStore.known_as`."""
        return self._store.known_as(module)

    def modules(self) -> list[str]:
        """Return all modules that rows are stored of."""
        return self._store.modules()

    def hours(self, due: Iterable[tuple[str, int]]) -> Derived:
        """Derive hours, and the custody that stands on them. Raises `SinkBusyError`."""
        derived = self.only_hours(due)
        for modules, since_utc_ms in custody_parts(derived.custody_since):
            derived.add(self.custody(modules, since_utc_ms))
        return derived

    def only_hours(self, due: Iterable[tuple[str, int]]) -> Derived:
        """Derive hours, and say whose custody stands on them. Raises `SinkBusyError`."""
        derived = Derived()
        by_module: dict[str, list[int]] = defaultdict(list)
        by_holder: dict[str, list[int]] = defaultdict(list)
        for name, hour in due:
            owner = (by_holder, name) if name.startswith(HOLDER) else (by_module, self.known_as(name))
            owner[0][owner[1]].append(hour)
        for module, hours in by_module.items():
            if self._one(derived, module, self._refresh_hours, module, hours):
                derived.changed.add(module)
            if module not in derived.failed:
                derived.hour_count += len(hours)
                derived.custody_since[module] = min(hours)
        for holder, hours in by_holder.items():
            for module in self._modules_of(holder, min(hours), max(hours) + HOUR_MS):
                known_ms = derived.custody_since.get(module, hours[0])
                derived.custody_since[module] = min(*hours, known_ms)
        return derived

    def custody(self, modules: Collection[str], since_utc_ms: int) -> Derived:
        """Derive the custody of these modules. Raises `SinkBusyError`."""
        derived = Derived()
        self._custody(derived, modules, since_utc_ms)
        return derived

    def sweep(self) -> Derived:
        """Find what becomes a contradiction by waiting, also where nobody speaks. Raises `SinkBusyError`."""
        return self.custody([], now_utc_ms())

    def _modules_of(self, holder: str, start_utc_ms: int, end_utc_ms: int) -> list[str]:
        """Return the modules that a van or station had in that time, as far as is known."""
        fleet, node = holder.removeprefix(HOLDER).split("/")
        rows = self._store.read(
            STAY,
            tags={"fleet": fleet, "node": node},
            where=[("until_utc_ms", ">=", start_utc_ms)],
            end_utc_ms=end_utc_ms,
        )
        return sorted({row.tags["module"] for row in rows})

    def _custody(self, derived: Derived, modules: Collection[str], since_utc_ms: int) -> None:
        """Refresh custody of all at once, and where that fails of each by itself."""
        try:
            derived.changed |= self._books.custody.refresh(modules, since_utc_ms=since_utc_ms)
        except SinkBusyError:
            raise
        except Exception:  # noqa: BLE001 (below it is found whose fault it is)
            for module in modules:
                found = self._one(derived, module, self._refresh_custody, module, since_utc_ms)
                derived.changed |= found or set()

    def _refresh_custody(self, module: str, since_utc_ms: int) -> set[str]:
        return self._books.custody.refresh([module], since_utc_ms=since_utc_ms)

    def _refresh_hours(self, module: str, hours: Iterable[int]) -> bool:
        return self._books.hours.refresh(module, hours)

    def _refresh_figures(self, module: str) -> None:
        self._books.passports.refresh([module])
        self._books.warnings.refresh([module])

    def figures(self, modules: Collection[str]) -> Derived:
        """Derive passports and warnings. Raises `SinkBusyError`."""
        derived = Derived()
        for module in sorted({self.known_as(module) for module in modules}):
            self._one(derived, module, self._refresh_figures, module)
            derived.changed.add(module)
        return derived

    def whole(self, module: str, next_utc_ms: int | None) -> tuple[Derived, int | None]:
        """Derive the next day of everything that is stored of a module. Returns where to go on, None at the end."""
        derived = Derived()
        known = self.known_as(module)
        span = self._store.span(known)
        if span is None:
            return derived, None
        start = span[0] // HOUR_MS * HOUR_MS if next_utc_ms is None else next_utc_ms
        hours = range(start, min(start + WHOLE_HOURS * HOUR_MS, span[1] + 1), HOUR_MS)
        if self._one(derived, known, self._refresh_hours, known, hours):
            derived.changed.add(known)
        derived.hour_count = len(hours)
        end = start + WHOLE_HOURS * HOUR_MS
        if end <= span[1] and not derived.failed:
            return derived, end
        self._custody(derived, [known], span[0])
        return derived, None

    def _one(self, derived: Derived, module: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return what the call does; note its failure as this module's."""
        try:
            return call(*args, **kwargs)
        except SinkBusyError:
            raise
        except Exception as error:  # noqa: BLE001 (one module's rows must not keep the others from their books)
            derived.failed[module] = f"{type(error).__name__}: {error}"
            _log.warning("books of a module cannot be derived", module=module, error=derived.failed[module])
            return None

    def is_outdated(self) -> bool:
        """Say whether everything has to be derived again. Raises `SinkBusyError`."""
        found = self._store.read(BOOK_STATE)
        wanted = {"version": BOOKS_VERSION, "repair_count": self._store.repair_count()}
        return not found or any(found[0].fields.get(name) != value for name, value in wanted.items())

    def mark_up_to_date(self) -> None:
        """Write down that everything stored is due, or derived. Raises `SinkBusyError`."""
        state = {"version": BOOKS_VERSION, "repair_count": self._store.repair_count()}
        self._store.put([BOOK_STATE.row(0, {"book": "all"}, **state)])

    def counts(self) -> Counts:
        """Count what is in the books. Raises `SinkBusyError`."""
        return Counts(self._store.count(CONTRADICTION), self._store.count(WARNING), self.is_outdated())
