"""What a detector says about one picture: boxes, names, scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import PromptError


@dataclass(frozen=True, eq=False)
class Detection:
    """One thing in a picture.

    Raises:
        PromptError: the box is not four finite numbers, or has no area; the score is not a number.
    """

    label: str
    score: float  # 0 to 1
    box: tuple[float, float, float, float]  # x_min, y_min, x_max, y_max in pixels
    mask: NDArray[np.bool_] | None = None  # (H, W), where the detector gives one
    point: tuple[float, float] | None = None  # x y in pixels, where it gives a place; `box` is then a rough one

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.box
        if not np.isfinite([*self.box, self.score]).all():
            raise PromptError(
                f"detection {self.label!r} has box {self.box} and score {self.score}: send finite numbers"
            )
        if not (x1 > x0 and y1 > y0):
            raise PromptError(f"detection {self.label!r} has box {self.box}, which is empty: x_max must exceed x_min")

    def clipped(self, width: int, height: int) -> Detection | None:
        """The part on a picture of `width` x `height`; None where that is narrower than a pixel.

        Raises:
            PromptError: the mask is of another size.
        """
        if self.mask is not None and self.mask.shape != (height, width):
            raise PromptError(
                f"detection {self.label!r} has a mask of {self.mask.shape}, the picture is {(height, width)} (H, W): "
                "give the mask the picture's size"
            )
        x0, y0, x1, y1 = self.box
        box = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        if box[2] - box[0] < 1 or box[3] - box[1] < 1:
            return None
        return self if box == self.box else replace(self, box=box)


def detections_of(
    labels: Sequence[str], scores: NDArray[np.floating], boxes: NDArray[np.floating], width: int, height: int
) -> list[Detection]:
    """Detections of N labels, scores (N,) and boxes (N, 4), clipped to the picture; what is not on it is left out."""
    found = []
    for label, score, box in zip(labels, scores.tolist(), boxes.astype(np.float64).tolist(), strict=True):
        x0, y0, x1, y1 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height))
        if np.isfinite([x0, y0, x1, y1, score]).all() and x1 - x0 >= 1 and y1 - y0 >= 1:
            found.append(Detection(label, score, (x0, y0, x1, y1)))
    return found


def box_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4) as x_min, y_min, x_max, y_max."""
    first, second = np.asarray(a, np.float64).reshape(-1, 1, 4), np.asarray(b, np.float64).reshape(1, -1, 4)
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    overlap = np.clip(high - low, 0.0, None).prod(axis=2)
    areas = [np.clip(x[..., 2:] - x[..., :2], 0.0, None).prod(axis=2) for x in (first, second)]
    union = areas[0] + areas[1] - overlap
    return np.asarray(np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0))


def suppressed(detections: Sequence[Detection], iou: float, *, across_labels: bool = True) -> list[Detection]:
    """The detections without those that overlap a surer one by more than `iou`, surest first.

    Greedy non-maximum suppression; with `across_labels` a box has one name only, the surest.
    """
    ordered = sorted(detections, key=lambda d: -d.score)  # stable: equal scores keep their order
    if not ordered:
        return []
    overlaps = box_iou(*(np.array([d.box for d in ordered]) for _ in range(2))) > iou
    kept: list[int] = []
    for row, detection in enumerate(ordered):
        rivals = (k for k in kept if across_labels or ordered[k].label == detection.label)
        if not any(overlaps[row, k] for k in rivals):
            kept.append(row)
    return [ordered[row] for row in kept]


def names_of(text: str) -> frozenset[str]:
    """The names in a list separated by commas, in lower case."""
    return frozenset(name.strip().lower() for name in text.split(",") if name.strip())
