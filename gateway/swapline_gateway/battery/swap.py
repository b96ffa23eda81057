"""Swaps out of stays: a drained module that went from a van's bay to a station, a charged one that came the other way.

A swap is found by where the modules went, so that it is known whatever part of it was told; the events add who told it,
its request id, charge and position. Pure functions.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from .record import Place, Stay, Swap, SwapHalf

# From one half to the other: a robot needs two to five minutes, one that waits for a slot longer.
EXCHANGE_MS = 1_800_000
BY_REQUEST = "request"
BY_MATCH = "matched"
FROM_EVENT = "event"
FROM_NEAREST = "nearest"
Value = TypeVar("Value")


class Move(NamedTuple):
    """A module's way from one holder to another one. `after` None: it was not seen to arrive."""

    before: Stay
    after: Stay | None


class Whereabouts(NamedTuple):
    """Odometer and position of a van."""

    odometer_km: float | None
    latitude_deg: float | None
    longitude_deg: float | None


def is_one_exchange(delivered: Move, removed: Move) -> bool:
    """Say whether two moves between a van's bay and a station belong to one swap, by who went where and when."""
    put, stored = delivered.after, removed.after
    if put is None or stored is None or put.module == stored.module:
        return False
    left_ms = delivered.before.until_utc_ms
    return (
        holder(delivered.before.place) == holder(stored.place)
        and put.place == removed.before.place
        and abs(stored.from_utc_ms - put.from_utc_ms) <= EXCHANGE_MS
        and left_ms is not None
        and abs(put.from_utc_ms - left_ms) <= EXCHANGE_MS
    )


def holder(place: Place) -> tuple[str, str]:
    """Return the van or station of a bay."""
    return place.fleet, place.node


def make_swap(delivered: Move | None, removed: Move | None, nearest: Whereabouts | None = None) -> Swap:
    """Return the swap of a charged module that was delivered, a drained one that was removed, or both."""
    slot_out = delivered.before if delivered else None
    van_in = delivered.after if delivered else None
    van_out = removed.before if removed else None
    slot_in = removed.after if removed else None
    by_station = [slot_out.went if slot_out else None, slot_in.came if slot_in else None]
    by_van = [van_out.went if van_out else None, van_in.came if van_in else None]
    request_id, basis = _request([half for half in by_station + by_van if half is not None])
    times = _times(delivered, removed)
    place = _first([stay.place for stay in (van_in, van_out) if stay])
    station = _first([stay.place for stay in (slot_out, slot_in) if stay])
    where, where_from = _whereabouts(by_van, nearest)
    anywhere = place or station
    assert anywhere is not None
    return Swap(
        start_utc_ms=min(times),
        end_utc_ms=max(times),
        fleet=anywhere.fleet,
        van=place.node if place else None,
        bay=place.bay if place else None,
        station=station.node if station else None,
        module_out=removed.before.module if removed else None,
        module_in=delivered.before.module if delivered else None,
        slot_out=slot_out.place.bay if slot_out else None,
        slot_in=slot_in.place.bay if slot_in else None,
        request_id=request_id,
        basis=basis,
        soc_out_pct=_charge(by_van[0], by_station[1]),
        soc_in_pct=_charge(by_van[1], by_station[0]),
        odometer_km=where.odometer_km,
        latitude_deg=where.latitude_deg,
        longitude_deg=where.longitude_deg,
        told_by_van=sum(half is not None for half in by_van),
        told_by_station=sum(half is not None for half in by_station),
        where_from=where_from,
    )


def _times(delivered: Move | None, removed: Move | None) -> list[int]:
    """Return when its halves were."""
    found = []
    for move in (delivered, removed):
        if move is None:
            continue
        arrived = move.after.from_utc_ms if move.after else None
        left = move.before.until_utc_ms
        found += [time for time in (left, arrived) if time is not None]
    return found


def _request(halves: list[SwapHalf]) -> tuple[int | None, str]:
    """Return the id that joins the halves, and whether it is that which joins them."""
    counts = Counter(half.request_id for half in halves if half.request_id)
    if not counts:
        return None, BY_MATCH
    request_id, count = max(counts.items(), key=lambda one: (one[1], -(one[0] or 0)))
    return request_id, BY_REQUEST if count > 1 else BY_MATCH


def _charge(*halves: SwapHalf | None) -> float | None:
    return _first([half.soc_pct for half in halves if half is not None])


def _whereabouts(halves: list[SwapHalf | None], nearest: Whereabouts | None) -> tuple[Whereabouts, str | None]:
    """Return what the van's events say of odometer and position, else what its nearest rows say."""
    told = [half for half in reversed(halves) if half is not None]
    where = Whereabouts(
        _first([half.odometer_km for half in told]),
        _first([half.latitude_deg for half in told]),
        _first([half.longitude_deg for half in told]),
    )
    if any(value is not None for value in where):
        return where, FROM_EVENT
    if nearest is not None and any(value is not None for value in nearest):
        return nearest, FROM_NEAREST
    return where, None


def _first(values: Sequence[Value | None]) -> Value | None:
    return next((value for value in values if value is not None), None)
