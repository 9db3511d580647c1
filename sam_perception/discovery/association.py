"""Which detection is which object: by overlap and place, and for what was out of sight by place and looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import DetectorConfig, WordsConfig
from sam_perception.detections import Detection, box_iou
from sam_perception.discovery.looks import Looks
from sam_perception.discovery.memory import Seen

_NEVER = 1e6
_DISTANCE_WEIGHT = 0.5  # of a distance of `match_m`, beside a loss of 1 in IoU


@dataclass(frozen=True, eq=False)
class Candidate:
    """A detection with what depth and the tracker's features say about it."""

    detection: Detection
    position_m: NDArray[np.float64] | None = None  # (3,)
    looks: Looks | None = None


def associate(candidates: Sequence[Candidate], seen: Sequence[Seen], settings: DetectorConfig) -> dict[int, int]:
    """Which visible objects the candidates are: candidate's number to row of `seen`, each at most once.

    A pair is possible where mask or box overlap with `match_iou`, or at all with no more than `match_m`
    between the two in space; of all ways to pair them up the one with the least sum of 1 - IoU and
    distance is taken (Hungarian method, Kuhn 1955). Classes do not matter: detectors change their mind.
    """
    from scipy.optimize import linear_sum_assignment

    if not candidates or not seen:
        return {}
    overlap = np.array([[_overlap(c.detection, s) for s in seen] for c in candidates])
    distance = np.array([[_distance_m(c.position_m, s.position_m) for s in seen] for c in candidates])
    close = distance <= settings.match_m
    possible = (overlap >= settings.match_iou) | ((overlap > 0) & close)
    apart = np.where(np.isfinite(distance), np.minimum(distance / max(settings.match_m, 1e-6), 1.0), 1.0)
    costs = np.where(possible, 1.0 - overlap + _DISTANCE_WEIGHT * apart, _NEVER)
    pairs = zip(*linear_sum_assignment(costs), strict=True)
    return {int(row): int(column) for row, column in pairs if costs[row, column] < _NEVER}


def overlapped(candidate: Candidate, seen: Sequence[Seen], iou: float) -> Seen | None:
    """The visible object that a candidate overlaps most, if by at least `iou`."""
    best = max(seen, key=lambda s: _overlap(candidate.detection, s), default=None)
    return best if best is not None and _overlap(candidate.detection, best) >= iou else None


def recognised(
    candidates: Sequence[Candidate], lost: Sequence[Seen], stamp_ns: int, settings: WordsConfig
) -> Mapping[int, int]:
    """Which objects that were out of sight the candidates are: candidate's number to row of `lost`.

    What is in question has the right name already. A candidate must lie where the object can have got
    to: within `gate_m` plus `gate_speed_m_s` times the time since, where both places are known. And it must
    look like it, with `min_likeness`, where both looks are known. One of the two must be known: words
    alone never make it the object. The likest pairs are taken first.
    """
    pairs = []
    for number, candidate in enumerate(candidates):
        for row, seen in enumerate(lost):
            likeness = likeness_of(candidate, seen, stamp_ns, settings)
            if likeness is not None:
                pairs.append((likeness, candidate.detection.score, -number, -row))
    taken: dict[int, int] = {}
    for _, _, number, row in sorted(pairs, reverse=True):
        if -number not in taken and -row not in taken.values():
            taken[-number] = -row
    return taken


def likeness_of(candidate: Candidate, seen: Seen, stamp_ns: int, settings: WordsConfig) -> float | None:
    """Likeness of two that may be one thing, 0 where the looks are not known; None: they are not one."""
    distance = _distance_m(candidate.position_m, seen.position_m)
    if not np.isfinite(distance) and (candidate.looks is None or seen.looks is None):
        return None
    reach = settings.gate_m + settings.gate_speed_m_s * max(stamp_ns - seen.stamp_ns, 0) * 1e-9
    if np.isfinite(distance) and distance > reach:
        return None
    if candidate.looks is None or seen.looks is None:
        return 0.0
    likeness = candidate.looks.likeness(seen.looks)
    return likeness if likeness >= settings.min_likeness else None


def _overlap(detection: Detection, seen: Seen) -> float:
    if detection.mask is None:
        return float(box_iou(np.array([detection.box]), np.array([seen.box]))[0, 0])
    x0, y0, x1, y1 = (round(edge) for edge in seen.box)
    window = detection.mask[max(y0, 0) : y1, max(x0, 0) : x1]
    own = seen.mask[max(-y0, 0) :, max(-x0, 0) :][: window.shape[0], : window.shape[1]]
    common = int(np.count_nonzero(window[: own.shape[0], : own.shape[1]] & own))
    union = int(np.count_nonzero(detection.mask)) + int(np.count_nonzero(seen.mask)) - common
    return common / union if union else 0.0


def _distance_m(a: NDArray[np.float64] | None, b: NDArray[np.float64] | None) -> float:
    return float("inf") if a is None or b is None else float(np.linalg.norm(a - b))
