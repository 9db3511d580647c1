"""Non-maximum suppression against the definition, written plainly."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sam_perception.segmentation.pictures.nms import kept_boxes


def plain(boxes: list[list[float]], scores: list[float], max_iou: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(iou(boxes[i], boxes[k]) <= max_iou for k in kept):
            kept.append(i)
    return kept


def iou(a: list[float], b: list[float]) -> float:
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


# Whole pixels, whose areas float32 holds exactly; few values, so that ties and equal boxes are common.
corners = arrays.arrays(np.int64, st.tuples(st.integers(0, 40), st.just(4)), elements=st.integers(0, 30))


@given(corners=corners, data=st.data(), max_iou=st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.95, 1.0]))
def test_the_boxes_that_stay_are_those_of_the_definition(
    corners: np.ndarray, data: st.DataObject, max_iou: float
) -> None:
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    scores = data.draw(arrays.arrays(np.float32, len(boxes), elements=st.sampled_from([0.1, 0.5, 0.50001, 0.9])))
    seen = kept_boxes(boxes, scores, max_iou).tolist()
    # 0.3 and its like are not exact: where an IoU equals one of them, float32 decides and not the definition.
    limits = {max_iou} if max_iou in (0.0, 0.5, 1.0) else {float(np.float32(max_iou)), max_iou}
    assert seen in [plain(boxes.tolist(), scores.tolist(), limit) for limit in limits]


def test_nothing_stays_of_nothing() -> None:
    assert kept_boxes(np.zeros((0, 4)), np.zeros(0), 0.5).size == 0


def test_the_surest_of_three_wins_and_what_it_does_not_touch_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], np.float32)
    assert kept_boxes(boxes, np.array([0.5, 0.9, 0.7]), 0.7).tolist() == [1, 2]
    assert kept_boxes(boxes, np.array([0.5, 0.9, 0.7]), 0.95).tolist() == [1, 2, 0]
