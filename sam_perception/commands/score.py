"""How well objects were followed, where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sam_perception.scene import Scene

# Of an object that all but vanishes, so few pixels remain that neither "seen" nor "hidden" is wrong.
MIN_VISIBLE_PX = 64


class Truth(Protocol):
    """What a frame really shows; `sources.synthetic.Truth` is one."""

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids in the order of `labels` and `centroids_m`."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What the objects are."""

    @property
    def centroids_m(self) -> NDArray[np.float64]:
        """(N, 3) mean of the visible surface, camera frame."""

    def mask(self, object_id: int) -> NDArray[np.bool_]:
        """(H, W) visible pixels."""


@dataclass
class ObjectScore:
    """One object against the truth, over the frames that were processed."""

    id: int
    label: str
    visible: int = 0  # frames with at least MIN_VISIBLE_PX of it in the picture
    tracked: int = 0  # of these, frames in which it was said to be seen
    hidden: int = 0  # frames without a pixel of it in the picture
    said_hidden: int = 0  # of these, frames in which it was said not to be seen
    ious: list[float] = field(default_factory=list)  # over the visible frames, 0 where not tracked
    errors_m: list[float] = field(default_factory=list)  # of the centroid, where there is one

    @property
    def name(self) -> str:
        """Id and label."""
        return f"{self.id} {self.label}".strip()

    @property
    def mean_iou(self) -> float:
        """Over the visible frames; NaN without one."""
        return float(np.mean(self.ious)) if self.ious else float("nan")

    def error_mm(self, percent: float) -> float:
        """A percentile of the centroid's error; NaN without one."""
        return float(np.percentile(self.errors_m, percent)) * 1e3 if self.errors_m else float("nan")


def iou_of(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union; 1 for two empty masks."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def score_objects(truths: Mapping[int, Truth], scenes: Mapping[int, Scene]) -> list[ObjectScore]:
    """Scores by object, over the stamps that both have."""
    scores: dict[int, ObjectScore] = {}
    for stamp_ns in sorted(truths.keys() & scenes.keys()):
        truth, found = truths[stamp_ns], {track.id: track for track in scenes[stamp_ns].objects}
        for row, object_id in enumerate(truth.object_ids):
            score = scores.setdefault(object_id, ObjectScore(object_id, truth.labels[row]))
            mask, track = truth.mask(object_id), found.get(object_id)
            said_visible = track is not None and track.state.visible
            area = int(mask.sum())
            if area == 0:
                score.hidden += 1
                score.said_hidden += not said_visible
            if area < MIN_VISIBLE_PX:
                continue
            score.visible += 1
            score.tracked += said_visible
            score.ious.append(iou_of(track.mask, mask) if track is not None and said_visible else 0.0)
            if track is not None and track.centroid is not None:
                score.errors_m.append(float(np.linalg.norm(track.centroid - truth.centroids_m[row])))
    return [scores[i] for i in sorted(scores)]
