"""Scores against truth, on cases worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from sam_perception.commands.score import iou_of, score_objects
from sam_perception.scene import Lifted, ObjectState, Scene, Track

SHAPE = (20, 40)


def block(columns: slice) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    mask[:, columns] = True
    return mask


@dataclass
class Truth:
    masks: dict[int, NDArray[np.bool_]]
    object_ids: tuple[int, ...] = (1, 2)
    labels: tuple[str, ...] = ("cup", "plate")
    centroids_m: NDArray[np.float64] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.centroids_m = np.array([[0.0, 0.0, 1.0], [0.2, 0.0, 1.0]])

    def mask(self, object_id: int) -> NDArray[np.bool_]:
        return self.masks[object_id]


def scene(stamp: int, *tracks: tuple[int, NDArray[np.bool_], ObjectState, list[float] | None]) -> Scene:
    made = [
        Track(i, "", state, 1.0, 1.0, mask, stamp, Lifted(centroid=None if c is None else np.array(c)))
        for i, mask, state, c in tracks
    ]
    return Scene(stamp, "optical", SHAPE[1], SHAPE[0], tuple(made))


NOTHING = np.zeros(SHAPE, bool)
SEEN, GONE = ObjectState.TRACKED, ObjectState.OCCLUDED


def test_iou_by_hand() -> None:
    assert iou_of(block(slice(0, 10)), block(slice(5, 15))) == pytest.approx(5 / 15)
    assert iou_of(NOTHING, NOTHING) == 1.0
    assert iou_of(NOTHING, block(slice(0, 5))) == 0.0


def test_scores_by_hand() -> None:
    left, right, sliver = block(slice(0, 10)), block(slice(20, 30)), np.zeros(SHAPE, bool)
    sliver[:10, 0] = True  # ten pixels: neither visible nor hidden
    truths = {
        1: Truth({1: left, 2: right}),
        2: Truth({1: NOTHING, 2: right}),
        3: Truth({1: sliver, 2: NOTHING}),
        4: Truth({1: left, 2: right}),  # dropped by the node
    }
    scenes = {
        1: scene(1, (1, left, SEEN, [0.003, 0.0, 1.004]), (2, block(slice(25, 35)), SEEN, None)),
        2: scene(2, (1, NOTHING, GONE, None), (2, NOTHING, GONE, None)),
        3: scene(3, (1, NOTHING, GONE, None), (2, left, SEEN, None)),
        9: scene(9, (1, left, SEEN, None)),  # of another recording
    }
    cup, plate = score_objects(truths, scenes)
    assert (cup.name, cup.visible, cup.tracked, cup.hidden, cup.said_hidden) == ("1 cup", 1, 1, 1, 1)
    assert cup.mean_iou == 1.0
    assert cup.error_mm(50) == pytest.approx(5.0)
    assert (plate.visible, plate.tracked, plate.hidden, plate.said_hidden) == (2, 1, 1, 0)
    assert plate.mean_iou == pytest.approx((5 / 15 + 0) / 2)
    assert np.isnan(plate.error_mm(50))


def test_an_object_that_was_never_listed_counts_as_not_tracked() -> None:
    (cup, _) = score_objects({1: Truth({1: block(slice(0, 10)), 2: NOTHING})}, {1: scene(1)})
    assert (cup.visible, cup.tracked, cup.mean_iou) == (1, 0, 0.0)
