"""Boxes of numbers (addresses by ports by …) cut so that none overlaps another: nftables refuses sets that overlap."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

Range = tuple[int, int]
"""First and last, both included."""
Box = tuple[Range, ...]


def merge(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same numbers in as few ranges as possible, in order."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def disjoint(boxes: Iterable[Box]) -> tuple[Box, ...]:
    """The same points in boxes that do not overlap; all boxes have the same number of dimensions, at least one.

    The first dimension is cut wherever a box begins or ends, and the rest of the boxes is solved in each slice;
    neighbouring slices with the same rest become one again.
    """
    distinct = set(boxes)
    if not distinct:
        return ()
    if len(next(iter(distinct))) == 1:
        return tuple((one,) for one in merge(box[0] for box in distinct))
    done: list[tuple[Range, tuple[Box, ...]]] = []
    for (first, last), rests in _slices(distinct):
        rest = disjoint(rests)
        if done and done[-1][0][1] + 1 == first and done[-1][1] == rest:
            done[-1] = ((done[-1][0][0], last), rest)
        else:
            done.append(((first, last), rest))
    return tuple((head, *tail) for head, rest in done for tail in rest)


def _slices(boxes: Iterable[Box]) -> Iterator[tuple[Range, tuple[Box, ...]]]:
    """Ranges of the first dimension, in order, each with what the other dimensions hold throughout it."""
    begin, end = defaultdict[int, list[Box]](list), defaultdict[int, list[Box]](list)
    for (first, last), *rest in boxes:
        begin[first].append(tuple(rest))
        end[last + 1].append(tuple(rest))
    active: Counter[Box] = Counter()
    cuts = sorted(begin.keys() | end.keys())
    for cut, following in pairwise(cuts):
        active.update(begin[cut])
        active.subtract(end[cut])
        active = +active
        if active:
            yield (cut, following - 1), tuple(active)
