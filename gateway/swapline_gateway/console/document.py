"""Documents: what one page of one viewer shows, and the patches that keep it up to date.

A patch is `{"set": nested values, "gone": [paths]}`: `set` is merged into the document, then the paths are removed.
Only what differs travels, and one value that changed costs one value.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from swapline_gateway.state import Batch, FleetState, Move

from . import projection

MOVES_SHOWN = 20
HOUR_MS = 3_600_000
PIPELINE_INTERVAL_S = 1.0
STATIONS_INTERVAL_S = 30.0
ALARMS_INTERVAL_S = 5.0  # its changes wake everybody; this is for what was missed
BATTERY_INTERVAL_S = 2.0  # books change after what wakes everybody

PipelineProvider = Callable[[], Mapping[str, Any]]


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the patch that makes `new` of `old`, empty if they are equal."""
    changed, gone = _walk(old, new, ())
    patch: dict[str, Any] = {}
    if changed:
        patch["set"] = changed
    if gone:
        patch["gone"] = gone
    return patch


def _walk(
    old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...]
) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    changed: dict[str, Any] = {}
    gone = [(*path, key) for key in old if key not in new]
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            inner, inner_gone = _walk(before, value, (*path, key))
            gone += inner_gone
            if inner:
                changed[key] = inner
        elif key not in old or before != value:
            changed[key] = value
    return changed, gone


class Document(Protocol):
    """One page's data. `interval_s`: how often to refresh without a batch; None: only with one."""

    interval_s: float | None

    @property
    def content(self) -> dict[str, Any]:
        """The whole document as it is now."""
        ...

    def refresh(self, batch: Batch) -> dict[str, Any]:
        """Bring `content` up to date and return the patch, empty if nothing that is shown changed."""
        ...


def _swaps_last_hour(fleet: FleetState, now_utc_ms: int) -> int:
    """Count modules that a van received in the last hour; recent ones only, as the list of moves is bounded."""

    def is_swap(move: Move) -> bool:
        state = fleet.nodes.get(move.destination)
        return move.time_utc_ms > now_utc_ms - HOUR_MS and state is not None and state.holder == "van"

    return sum(is_swap(move) for move in fleet.moves)


class FleetDocument:
    """All nodes in short, and the last moves of modules."""

    interval_s: float | None = 10.0  # the hour of `swaps_last_hour` moves on

    def __init__(self, fleet: FleetState) -> None:
        self._fleet = fleet
        nodes = {"/".join(key): projection.node_summary(fleet, state) for key, state in fleet.nodes.items()}
        self.content: dict[str, Any] = {"nodes": nodes, **self._moves()}

    def _moves(self) -> dict[str, Any]:
        recent = list(self._fleet.moves)[-MOVES_SHOWN:]
        return {
            "moves": [projection.move_json(self._fleet, move) for move in reversed(recent)],
            "swaps_last_hour": _swaps_last_hour(self._fleet, self._fleet.now_utc_ms()),
        }

    def refresh(self, batch: Batch) -> dict[str, Any]:
        """Summarise the nodes of `batch` again."""
        nodes = {}
        for key in batch.nodes:
            state = self._fleet.nodes.get(key)
            if state is not None:
                nodes["/".join(key)] = projection.node_summary(self._fleet, state)
        shown = self.content["nodes"]
        before = {name: shown[name] for key in batch.nodes if (name := "/".join(key)) in shown}
        old, new = {**self.content, "nodes": before}, {"nodes": nodes, **self._moves()}
        for name in before.keys() - nodes.keys():
            del shown[name]
        shown.update(nodes)
        self.content = {**new, "nodes": shown}
        return diff(old, new)


class ModulesDocument:
    """All modules in short."""

    interval_s: float | None = None

    def __init__(self, fleet: FleetState) -> None:
        self._fleet = fleet
        modules = {code: projection.module_summary(fleet, module) for code, module in fleet.modules.items()}
        self.content: dict[str, Any] = {"modules": modules}

    def refresh(self, batch: Batch) -> dict[str, Any]:
        """Summarise the modules of `batch` again."""
        shown = self.content["modules"]
        new = {
            code: projection.module_summary(self._fleet, module)
            for code in batch.modules
            if (module := self._fleet.modules.get(code)) is not None
        }
        old = {code: shown[code] for code in batch.modules if code in shown}
        for code in old.keys() - new.keys():
            del shown[code]
        shown.update(new)
        return diff({"modules": old}, {"modules": new})


class BuiltDocument:
    """A document that is small enough to be built anew whenever something may have changed, and compared."""

    def __init__(
        self,
        build: Callable[[], dict[str, Any]],
        *,
        concerns: Callable[[Batch], bool],
        interval_s: float | None = None,
    ) -> None:
        self._build = build
        self._concerns = concerns
        self.interval_s = interval_s
        self.content = build()

    def refresh(self, batch: Batch) -> dict[str, Any]:
        """Build again if `batch` concerns this document; an empty batch (the interval is over) always does."""
        if not batch.is_empty() and not self._concerns(batch):
            return {}
        new = self._build()
        patch = diff(self.content, new)
        self.content = new
        return patch


def node_document(fleet: FleetState, *, fleet_name: str, node_name: str) -> BuiltDocument:
    """Return one holder's document; `known` is False until its node is heard of."""
    key = (fleet_name, node_name)

    def build() -> dict[str, Any]:
        state = fleet.nodes.get(key)
        return projection.node_detail(fleet, state) if state else {"known": False}

    return BuiltDocument(build, concerns=lambda batch: key in batch.nodes)


def module_document(fleet: FleetState, code: str) -> BuiltDocument:
    """Return one module's document; `known` is False until it is heard of."""

    def build() -> dict[str, Any]:
        module = fleet.modules.get(code)
        return projection.module_detail(fleet, module) if module else {"known": False}

    # Its history names any holder of the fleet, and it is small: comparing costs less than knowing what concerns it.
    return BuiltDocument(build, concerns=lambda _batch: True)


def alarms_document(figures: Callable[[], Mapping[str, int]]) -> BuiltDocument:
    """Return the alarm book's figures: a page that shows alarms asks for them again when `revision` grows."""

    def build() -> dict[str, Any]:
        return dict(figures())

    return BuiltDocument(build, concerns=lambda _batch: True, interval_s=ALARMS_INTERVAL_S)


def battery_document(figures: Callable[[], Mapping[str, Any]]) -> BuiltDocument:
    """Return the keeper's figures: a page that shows books asks for them again when `revision` grows."""

    def build() -> dict[str, Any]:
        return dict(figures())

    return BuiltDocument(build, concerns=lambda _batch: True, interval_s=BATTERY_INTERVAL_S)


def empty_document() -> BuiltDocument:
    """Return the document of a page that shows only what stands beside it (`joined.py`)."""
    return BuiltDocument(dict, concerns=lambda _batch: False)


def stations_document(fleet: FleetState) -> BuiltDocument:
    """Return which holders are stations: books name holders, and a station's bays are called slots."""

    def build() -> dict[str, Any]:
        return {"/".join(key): True for key, state in fleet.nodes.items() if state.holder == "station"}

    return BuiltDocument(build, concerns=lambda _batch: False, interval_s=STATIONS_INTERVAL_S)


def pipeline_document(fleet: FleetState, provider: PipelineProvider) -> BuiltDocument:
    """Return the pipeline's document: the gateway's figures and every node's counters."""

    def build() -> dict[str, Any]:
        figures = dict(provider())
        nodes = {"/".join(key): projection.node_pipeline(state) for key, state in fleet.nodes.items()}
        for flow in figures.pop("nodes", []):
            if (node := nodes.get(f"{flow['fleet']}/{flow['node']}")) is not None:
                node["flow"] = flow
        return {"gateway": figures, "nodes": nodes, "evictions": fleet.evictions}

    due_s = 0.0

    def concerns(_batch: Batch) -> bool:
        """Say whether the interval is over: a busy fleet changes something in every batch."""
        nonlocal due_s
        if time.monotonic() < due_s:
            return False
        due_s = time.monotonic() + PIPELINE_INTERVAL_S
        return True

    return BuiltDocument(build, concerns=concerns, interval_s=PIPELINE_INTERVAL_S)
