"""Boxes are cut so that none overlaps another, and no point is lost or won."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from onedock.nodeside.agent.firewall.intervals import Box, disjoint, merge

NUMBERS = range(8)
ranges = st.tuples(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS)).map(lambda ends: (min(ends), max(ends)))
boxes = st.lists(st.tuples(ranges, ranges, ranges), max_size=12)


def contains(box: Box, point: tuple[int, ...]) -> bool:
    return all(first <= number <= last for (first, last), number in zip(box, point, strict=True))


@given(boxes)
def test_the_same_points_and_no_overlap(some: list[Box]) -> None:
    cut = disjoint(some)
    for point in ((a, b, c) for a in NUMBERS for b in NUMBERS for c in NUMBERS):
        assert sum(contains(box, point) for box in cut) == any(contains(box, point) for box in some)
    for one, other in combinations(cut, 2):
        assert any(a[1] < b[0] or b[1] < a[0] for a, b in zip(one, other, strict=True))


def test_neighbours_become_one() -> None:
    assert merge([(5, 9), (1, 2), (3, 4), (8, 8), (20, 30)]) == ((1, 9), (20, 30))
    assert disjoint([((1, 5), (22, 22)), ((6, 9), (22, 22))]) == (((1, 9), (22, 22)),)


def test_as_many_as_are_needed_and_no_more() -> None:
    apart = [((number * 10, number * 10 + 3), (80, 90)) for number in range(1000)]
    assert disjoint(apart) == tuple(apart)
    assert disjoint([*apart, *apart, *(((first, last), (85, 85)) for (first, last), _ in apart)]) == tuple(apart)
    assert disjoint([((0, 9), (1, 9)), ((3, 4), (5, 12))]) == (((0, 2), (1, 9)), ((3, 4), (1, 12)), ((5, 9), (1, 9)))


def test_none() -> None:
    assert disjoint([]) == ()
