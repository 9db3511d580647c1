"""Where depth puts the objects, as the tracker's memory policy hears it."""

from __future__ import annotations

import numpy as np
import pytest
from fake_tracker import CAMERA, RED_BOX, ColorTracker, make_depth_m, make_frame, red_mask

from sam_perception.config import PerceptionConfig, TrackerConfig
from sam_perception.perception import Perception, Wanted
from sam_perception.prompts import BoxPrompt


def _perception() -> tuple[Perception, ColorTracker]:
    tracker = ColorTracker()
    perception = Perception(PerceptionConfig(tracker=TrackerConfig(memory_policy="gated_3d")), tracker)
    perception.prompt(BoxPrompt(1, RED_BOX))
    return perception, tracker


def test_the_tracker_hears_where_each_visible_object_is_even_if_nobody_else_wants_to_know() -> None:
    perception, tracker = _perception()
    perception.step(make_frame(), wanted=Wanted.MASKS)
    ys, xs = np.nonzero(red_mask())
    place = tracker.placements[1]
    wanted = np.array([(xs.mean() - CAMERA.cx) / CAMERA.fx, (ys.mean() - CAMERA.cy) / CAMERA.fy, 1.0]) * 0.5
    # To half a pixel: the middle is that of a pixel.
    np.testing.assert_allclose(place.position_m, wanted, atol=0.5 * 0.6 / CAMERA.fx)
    assert place.position_m[2] == pytest.approx(0.5)
    # 16 x 20 pixels, each of 0.5 m / 60 on either side.
    assert place.size_m == pytest.approx(np.sqrt(16 * 20) * 0.5 / 60)


def test_nothing_is_said_of_what_is_out_of_sight_or_has_no_depth() -> None:
    perception, tracker = _perception()
    perception.step(make_frame())
    perception.step(make_frame(2 * 10**9, red=False))
    assert tracker.placements == {}
    depth_m = make_depth_m()
    depth_m[red_mask()] = 0.0
    perception.step(make_frame(3 * 10**9, depth_m=depth_m))
    assert tracker.placements == {}
    perception.step(make_frame(4 * 10**9))
    assert set(tracker.placements) == {1}
