"""Which depth image belongs to which colour image."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


def pair_stamps(color_ns: Sequence[int], depth_ns: Sequence[int], slop_ns: int) -> dict[int, int]:
    """Index of a depth image by index of a colour image: equal stamps first, then the nearest within `slop_ns`.

    Every image is used at most once. Of the inexact pairs the closest are made first, so that
    one late image does not push all later pairs aside. Colour without a partner is left out.
    """
    waiting: dict[int, list[int]] = {}
    for index, stamp in reversed(list(enumerate(depth_ns))):
        waiting.setdefault(stamp, []).append(index)
    pairs = {}
    for index, stamp in enumerate(color_ns):
        if waiting.get(stamp):
            pairs[index] = waiting[stamp].pop()
    free = sorted((depth_ns[index], index) for left in waiting.values() for index in left)
    near = []
    for index, stamp in enumerate(color_ns):
        if index not in pairs:
            first = bisect_left(free, (stamp - slop_ns, -1))
            for other, candidate in free[first:]:
                if other > stamp + slop_ns:
                    break
                near.append((abs(other - stamp), index, candidate))
    used = set()
    for _, index, candidate in sorted(near):
        if index not in pairs and candidate not in used:
            pairs[index] = candidate
            used.add(candidate)
    return pairs
