"""Boxes of numbers (addresses by ports by …) cut so that none overlaps another: nftables refuses sets that overlap."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from itertools import pairwise

Range = tuple[int, int]
"""First and last, both included."""
Box = tuple[Range, ...]
Owned = tuple[Box, int]
"""A box and whose it is; where several are at a point, it is the least owner's."""


def disjoint(boxes: Iterable[Owned]) -> tuple[Owned, ...]:
    """The same points in boxes that do not overlap; all boxes have the same number of dimensions, at least one.

    The first dimension is cut wherever a box begins or ends, and the rest of the boxes is solved in each slice;
    neighbouring slices with the same rest become one again.
    """
    distinct = set(boxes)
    if not distinct:
        return ()
    if len(next(iter(distinct))[0]) == 1:
        return tuple(
            (((first, last),), owner) for first, last, owner in _line((*box[0], owner) for box, owner in distinct)
        )
    done: list[tuple[Range, tuple[Owned, ...]]] = []
    for (first, last), rests in _slices(distinct):
        rest = disjoint(rests)
        if done and done[-1][0][1] + 1 == first and done[-1][1] == rest:
            done[-1] = ((done[-1][0][0], last), rest)
        else:
            done.append(((first, last), rest))
    return tuple(((head, *tail), owner) for head, rest in done for tail, owner in rest)


def _line(ranges: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """First, last and owner of ranges of one dimension."""
    begin = defaultdict[int, list[tuple[int, int]]](list)
    cuts: set[int] = set()
    for first, last, owner in ranges:
        begin[first].append((owner, last))
        cuts |= {first, last + 1}
    done: list[tuple[int, int, int]] = []
    active: list[tuple[int, int]] = []
    """Owner and last number, the least owner first; those that are over go when they come to the top."""
    for cut, following in pairwise(sorted(cuts)):
        for one in begin[cut]:
            heappush(active, one)
        while active and active[0][1] < cut:
            heappop(active)
        if not active:
            continue
        owner = active[0][0]
        if done and done[-1][1] + 1 == cut and done[-1][2] == owner:
            done[-1] = (done[-1][0], following - 1, owner)
        else:
            done.append((cut, following - 1, owner))
    return done


def _slices(boxes: Iterable[Owned]) -> Iterator[tuple[Range, tuple[Owned, ...]]]:
    """Ranges of the first dimension, in order, each with what the other dimensions hold throughout it."""
    begin, end = defaultdict[int, list[Owned]](list), defaultdict[int, list[Owned]](list)
    for ((first, last), *rest), owner in boxes:
        begin[first].append((tuple(rest), owner))
        end[last + 1].append((tuple(rest), owner))
    active: Counter[Owned] = Counter()
    cuts = sorted(begin.keys() | end.keys())
    for cut, following in pairwise(cuts):
        active.update(begin[cut])
        active.subtract(end[cut])
        active = +active
        if active:
            yield (cut, following - 1), tuple(active)
