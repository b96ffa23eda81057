"""Devices that nobody asked any more: the oracle judges what devices said, and one that is not asked says nothing.

A node that is on polls whatever is on its lines, whatever else is wrong. Where a device was there and its node was on
for `SILENCE_MS` without a single reading, a polling task has died, and no other check would see it.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from swapline_bench.custody import CustodyEvent
from swapline_bench.oracle_match import SELF_TIMED, Place
from swapline_bench.oracle_rest import describe, moment
from swapline_bench.statement import Statement

SILENCE_MS = 20_000  # a node on a busy machine boots, or finds a device again, in less

Span = tuple[int, int]  # UTC in ms


class Stay(NamedTuple):
    """From when to when a device was on a line of a node."""

    stream: str
    place: Place
    begin_utc_ms: int
    end_utc_ms: int


def module_stays(custody: Iterable[CustodyEvent], clock_utc_s: float, end_utc_ms: int) -> list[Stay]:
    """Return when each module was in which bay; `clock_utc_s` is UTC of the zero of the custody's real time."""
    stays = []
    arrived: dict[Place, int] = {}
    for event in custody:
        place = Place(event.holder, event.bay, event.code)
        utc_ms = round((event.real_time_s + clock_utc_s) * 1000)
        if event.kind == "in":
            arrived[place] = utc_ms
        elif place in arrived:
            stays.append(Stay("module", place, arrived.pop(place), utc_ms))
    return stays + [Stay("module", place, utc_ms, end_utc_ms) for place, utc_ms in arrived.items()]


def find_silences(
    stays: Sequence[Stay], statements: Iterable[Statement], off: Mapping[str, Sequence[Span]]
) -> list[str]:
    """Return a sentence for each time that a device was not asked for too long; `off`: when its node was not on.

    A receiver talks unasked: of it only those readings count that were certainly heard.
    """
    heard: dict[tuple[str, Place], list[int]] = {(stay.stream, stay.place): [] for stay in stays}
    for one in statements:
        place = Place(one.node, one.bay, one.module)
        if (one.stream, place) in heard and not (one.stream == SELF_TIMED and one.is_doubtful):
            heard[one.stream, place].append(one.true_utc_ms)
    return [sentence for stay in stays for sentence in _silences(stay, heard[stay.stream, stay.place], off)]


def _silences(stay: Stay, heard_ms: Iterable[int], off: Mapping[str, Sequence[Span]]) -> Iterable[str]:
    within = [utc_ms for utc_ms in sorted(heard_ms) if stay.begin_utc_ms < utc_ms < stay.end_utc_ms]
    moments = [stay.begin_utc_ms, *within, stay.end_utc_ms]
    for begin_ms, end_ms in pairwise(moments):
        stretch_ms = _longest_on_ms(begin_ms, end_ms, off.get(stay.place.node, ()))
        if stretch_ms > SILENCE_MS:
            what = f"{stay.stream} of {describe(stay.place)}"
            yield f"{what} was not read from {moment(begin_ms)} on, its node being on for {stretch_ms / 1000:.0f} s"


def _longest_on_ms(begin_ms: int, end_ms: int, off: Sequence[Span]) -> int:
    """Return the longest stretch of a time in which a node was on."""
    longest_ms = 0
    for off_begin_ms, off_end_ms in sorted(off):
        if off_end_ms > begin_ms and off_begin_ms < end_ms:
            longest_ms = max(longest_ms, off_begin_ms - begin_ms)
            begin_ms = off_end_ms
    return max(longest_ms, end_ms - begin_ms)
