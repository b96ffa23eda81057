from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from swapline_gateway.ranges import as_ranges, covers, merge

numbers = st.sets(st.integers(0, 60))


def spell(ranges: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(numbers)
def test_ranges_hold_exactly_the_numbers_and_never_touch(given_numbers: set[int]) -> None:
    ranges = as_ranges(given_numbers)
    assert spell(ranges) == given_numbers
    assert all(left[1] + 1 < right[0] for left, right in pairwise(ranges))


@given(numbers, numbers)
def test_merge_is_the_union(left: set[int], right: set[int]) -> None:
    assert merge(as_ranges(left), as_ranges(right)) == as_ranges(left | right)


@given(numbers, st.integers(-1, 61))
def test_covers_agrees_with_the_set(given_numbers: set[int], number: int) -> None:
    assert covers(as_ranges(given_numbers), number) == (number in given_numbers)
