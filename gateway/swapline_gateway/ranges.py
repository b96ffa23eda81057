"""Inclusive ranges of sequence numbers."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence


def as_ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return the numbers as inclusive ranges, ascending."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and number <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def merge(ranges: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the union of inclusive ranges, ascending and disjoint."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted([*ranges, *others]):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def covers(ranges: Sequence[tuple[int, int]], number: int) -> bool:
    """Say whether one of the ranges (ascending, disjoint) holds `number`."""
    index = bisect_right(ranges, number, key=lambda item: item[0])
    return index > 0 and number <= ranges[index - 1][1]


def subtract(ranges: Iterable[tuple[int, int]], others: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what of `ranges` is in none of `others`; both are ascending and disjoint."""
    rest: list[tuple[int, int]] = []
    for first, last in ranges:
        low = first
        for other_first, other_last in others[max(0, bisect_right(others, low, key=lambda item: item[0]) - 1) :]:
            if other_first > last:
                break
            if low < other_first:
                rest.append((low, other_first - 1))
            low = max(low, other_last + 1)
        if low <= last:
            rest.append((low, last))
    return rest
