"""Boxes are cut so that none overlaps another, no point is lost or won, and each is its first owner's."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from onedock.nodeside.agent.firewall.intervals import Box, Owned, disjoint

NUMBERS = range(8)
ranges = st.tuples(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS)).map(lambda ends: (min(ends), max(ends)))
owners = st.integers(0, 3)
boxes = st.lists(st.tuples(st.tuples(ranges, ranges, ranges), owners), max_size=12)
lines = st.lists(st.tuples(st.tuples(ranges), owners), max_size=12)


def contains(box: Box, point: tuple[int, ...]) -> bool:
    return all(first <= number <= last for (first, last), number in zip(box, point, strict=True))


def owners_at(boxes: tuple[Owned, ...] | list[Owned], point: tuple[int, ...]) -> list[int]:
    return sorted(owner for box, owner in boxes if contains(box, point))


@given(boxes)
def test_the_same_points_and_no_overlap(some: list[Owned]) -> None:
    cut = disjoint(some)
    for point in ((a, b, c) for a in NUMBERS for b in NUMBERS for c in NUMBERS):
        assert owners_at(cut, point) == owners_at(some, point)[:1]
    for (one, _), (other, _) in combinations(cut, 2):
        assert any(a[1] < b[0] or b[1] < a[0] for a, b in zip(one, other, strict=True))


@given(lines)
def test_a_line_has_as_few_ranges_as_possible(some: list[Owned]) -> None:
    cut = disjoint(some)
    whose = [next(iter(owners_at(some, (number,))), None) for number in NUMBERS]
    assert [next(iter(owners_at(cut, (number,))), None) for number in NUMBERS] == whose
    pieces = sum(owner is not None and owner != before for before, owner in zip([None, *whose], whose, strict=False))
    assert len(cut) == pieces


def one_owner(*some: Box) -> list[Owned]:
    return [(box, 7) for box in some]


def test_neighbours_become_one() -> None:
    line = one_owner(((5, 9),), ((1, 2),), ((3, 4),), ((8, 8),), ((20, 30),))
    assert disjoint(line) == tuple(one_owner(((1, 9),), ((20, 30),)))
    assert disjoint(one_owner(((1, 5), (22, 22)), ((6, 9), (22, 22)))) == tuple(one_owner(((1, 9), (22, 22))))
    apart: list[Owned] = [(((1, 5), (22, 22)), 1), (((6, 9), (22, 22)), 2)]
    assert disjoint(apart) == tuple(apart), "each of them is somebody else's"


def test_as_many_as_are_needed_and_no_more() -> None:
    apart = one_owner(*(((number * 10, number * 10 + 3), (80, 90)) for number in range(1000)))
    assert disjoint(apart) == tuple(apart)
    inner: list[Owned] = [((where, (85, 85)), 8) for (where, _), _ in apart]
    assert disjoint([*apart, *apart, *inner]) == tuple(apart)
    cut = disjoint(one_owner(((0, 9), (1, 9)), ((3, 4), (5, 12))))
    assert cut == tuple(one_owner(((0, 2), (1, 9)), ((3, 4), (1, 12)), ((5, 9), (1, 9))))


def test_none() -> None:
    assert disjoint([]) == ()
