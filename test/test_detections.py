"""Boxes, overlaps and suppression."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_perception.detections import Detection, box_iou, detections_of, names_of, suppressed
from sam_perception.errors import PromptError

corners = st.tuples(*[st.integers(0, 20) for _ in range(4)]).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]) + 1, max(c[1], c[3]) + 1)
)


def painted(box: tuple[int, int, int, int]) -> np.ndarray:
    grid = np.zeros((24, 24), bool)
    grid[box[1] : box[3], box[0] : box[2]] = True
    return grid


@given(a=corners, b=corners)
def test_iou_is_that_of_painted_pixels(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> None:
    first, second = painted(a), painted(b)
    expected = (first & second).sum() / (first | second).sum()
    assert box_iou(np.array([a]), np.array([b]))[0, 0] == pytest.approx(expected)


def test_of_boxes_that_overlap_the_surest_stays() -> None:
    cup, same, beside = (
        Detection("cup", s, b) for s, b in ((0.9, (0, 0, 10, 10)), (0.6, (1, 0, 10, 10)), (0.7, (20, 0, 30, 10)))
    )
    bowl = Detection("bowl", 0.8, (0, 0, 10, 9))
    assert suppressed([same, beside, bowl, cup], 0.5) == [cup, beside]
    assert suppressed([same, beside, bowl, cup], 0.5, across_labels=False) == [cup, bowl, beside]
    assert suppressed([same, cup], 0.9) == [cup, same]  # their overlap is exactly nine tenths: not more
    assert suppressed([], 0.5) == []


def test_boxes_are_clipped_and_those_off_the_picture_left_out() -> None:
    boxes = np.array([[-5, -5, 5, 5], [90, 40, 130, 80], [101, 0, 110, 5], [np.nan, 0, 5, 5], [99.5, 0, 120, 9]])
    found = detections_of(["a", "b", "c", "d", "e"], np.linspace(0.1, 0.5, 5), boxes, 100, 50)
    assert [(d.label, d.box) for d in found] == [("a", (0, 0, 5, 5)), ("b", (90, 40, 100, 50))]
    clipped = Detection("x", 0.5, (-3, -3, 4, 200)).clipped(100, 50)
    assert clipped is not None
    assert clipped.box == (0, 0, 4, 50)
    assert Detection("x", 0.5, (120, 0, 130, 9)).clipped(100, 50) is None
    with pytest.raises(PromptError, match=r"mask of \(4, 4\), the picture is \(50, 100\)"):
        Detection("x", 0.5, (1, 1, 3, 3), np.ones((4, 4), bool)).clipped(100, 50)


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (5, 0, 1, 5), (0, 0, float("nan"), 5), (0, 0, float("inf"), 5)])
def test_a_box_without_area_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(PromptError, match="detection 'cup' has box"):
        Detection("cup", 0.5, box)


def test_lists_of_names() -> None:
    assert names_of(" Cup, dining table ,,cup") == {"cup", "dining table"}
    assert names_of("") == frozenset()
