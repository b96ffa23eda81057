"""Lives of a small fleet as its nodes would tell them: what a clean life is, and what is planted into it."""

from swapline_gateway.battery.custody_book import CustodyBook
from swapline_gateway.battery.record import HOUR_MS, Contradiction, Place, SwapHalf
from swapline_wire.catalogue import TIME_NTP
from swapline_wire.catalogue_text import CAME, FOUND, FOUND_GONE, LEFT
from tests.gateway.battery.custody_store import CustodyStore, MemoryHours, Reading, as_hours

START_MS = 1_800_000_000_000 // HOUR_MS * HOUR_MS
SECOND_MS = 1000
MINUTE_MS = 60_000
FLEET = "fleet"
VAN, SMALL, HUB, FAR = "van-1", "van-2", "hub-1", "hub-2"  # the small van has one bay
DRAINED, CHARGED = 21.0, 98.0


def code(number: int) -> str:
    return f"0SLPB045180016138{number:07d}"


def place(node: str, bay: int) -> Place:
    return Place(FLEET, node, bay)


class Life:
    """Modules sit in bays and answer once a minute; times are minutes since the beginning."""

    def __init__(self) -> None:
        self.evidence: list[Reading | SwapHalf] = []
        self.skew_ms: dict[str, int] = {}
        self.swap_minutes = 0

    def sit(self, module: str, where: Place, start: float, end: float, quality: int = TIME_NTP) -> None:
        skew = self.skew_ms.get(where.node, 0)
        times = range(int(start * MINUTE_MS) + 500, int(end * MINUTE_MS), MINUTE_MS)
        last = int(end * MINUTE_MS) - 2000
        self.evidence += [Reading(module, where, START_MS + skew + at, quality) for at in [*times, last]]

    def tell(
        self, module: str, where: Place, at: float, soc: float, *, is_in: bool, request: int = 0, reason: int = CAME
    ) -> None:
        time_ms = START_MS + self.skew_ms.get(where.node, 0) + int(at * MINUTE_MS)
        self.evidence.append(SwapHalf(time_ms, where, module, is_in, request, soc, reason=reason))

    def stay(self, module: str, where: Place, start: float, end: float, *, goes: int | None = 0) -> None:
        """Let a module come, sit and, with a request, go."""
        is_hub = where.node.startswith("hub")
        self.tell(module, where, start, DRAINED if is_hub else CHARGED, is_in=True)
        self.sit(module, where, start, end)
        if goes is not None:
            self.tell(module, where, end, CHARGED if is_hub else DRAINED, is_in=False, request=goes, reason=LEFT)

    def derive(self, *, now_minute: float = 0.0) -> "Derived":
        store = CustodyStore()
        store.holders = {(FLEET, n): "slot" if n.startswith("hub") else "vehicle" for n in (VAN, SMALL, HUB, FAR)}
        store.add(*self.evidence)
        latest = max(one.time_utc_ms for one in self.evidence)
        now_ms = START_MS + int(now_minute * MINUTE_MS) if now_minute else latest
        book = CustodyBook(store.as_store(), as_hours(MemoryHours(store)), now_utc_ms=lambda: now_ms)
        book.rebuild()
        return Derived(store, book)


class Derived:
    def __init__(self, store: CustodyStore, book: CustodyBook) -> None:
        self.store = store
        self.book = book

    @property
    def contradictions(self) -> list[Contradiction]:
        return self.book.contradictions()

    @property
    def kinds(self) -> list[str]:
        return [one.kind for one in self.contradictions]


def swap_life(*, van: str = VAN, drop: tuple[str, ...] = (), request: int = 7) -> Life:
    """Return a life with one exchange at minute 120: module 1 out of the van for module 2 out of the hub's slot 3.

    `drop` leaves out halves: `slot_out`, `van_out`, `van_in`, `slot_in`.
    """
    life = Life()
    one, two = code(1), code(2)
    van_bay, slot = place(van, 1), place(HUB, 3)
    if van == VAN:
        life.stay(code(8), place(VAN, 2), 0, 300, goes=None)
    life.stay(code(9), place(HUB, 1), 0, 300, goes=None)
    life.stay(one, van_bay, 0, 120.7, goes=None)
    life.stay(two, slot, 0, 120, goes=None)
    life.sit(two, van_bay, 121.2, 300)
    life.sit(one, slot, 121.8, 300)
    is_off = van == SMALL  # its power goes with its only module, and its node tells the departure at the next boot
    halves = {
        "slot_out": (two, slot, 120.0, CHARGED, False, LEFT),
        "van_out": (one, van_bay, 120.65 if is_off else 120.7, DRAINED, False, FOUND_GONE if is_off else LEFT),
        "van_in": (two, van_bay, 121.2, CHARGED, True, FOUND if is_off else CAME),
        "slot_in": (one, slot, 121.8, DRAINED, True, CAME),
    }
    for name, (module, where, at, soc, is_in, reason) in halves.items():
        if name not in drop:
            life.tell(
                module, where, at, soc, is_in=is_in, request=0 if reason == FOUND_GONE else request, reason=reason
            )
    return life
