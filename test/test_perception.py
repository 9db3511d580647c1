"""The recipe, with a tracker that goes by colour."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from fake_tracker import (
    BLUE,
    CAMERA,
    FRAME_ID,
    HEIGHT,
    RED_BOX,
    RED_POINT,
    WIDTH,
    ColorTracker,
    make_depth_m,
    make_frame,
    red_mask,
)

from sam_perception.config import GeometryConfig, PerceptionConfig, TrackerConfig
from sam_perception.errors import ConfigError, MalformedImage, NoFreeSlot, StampError, UnknownObject
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.geometry import lift_scene
from sam_perception.perception import Perception, Wanted
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt
from sam_perception.scene import DepthEvidence, ObjectState

SECOND = 10**9
PLAIN = PerceptionConfig(geometry=GeometryConfig(remove_flying_pixels=False, remove_outliers=False))


def perception_with_red(config: PerceptionConfig = PLAIN) -> tuple[Perception, ColorTracker]:
    tracker = ColorTracker()
    perception = Perception(config, tracker)
    perception.prompt(BoxPrompt(1, RED_BOX, label="mug"))
    return perception, tracker


def test_a_scene_holds_the_object_where_the_pinhole_formula_puts_it() -> None:
    perception, _ = perception_with_red()
    scene = perception.step(make_frame(SECOND))
    assert (scene.stamp_ns, scene.frame_id, scene.width, scene.height) == (SECOND, FRAME_ID, WIDTH, HEIGHT)
    mug = scene.object(1)
    assert (mug.label, mug.state, mug.last_seen_ns) == ("mug", ObjectState.TRACKED, SECOND)
    np.testing.assert_array_equal(mug.mask, red_mask())
    rows, columns = np.nonzero(red_mask())
    expected = np.stack([(columns - CAMERA.cx) / CAMERA.fx * 0.5, (rows - CAMERA.cy) / CAMERA.fy * 0.5], axis=1)
    assert mug.centroid is not None
    np.testing.assert_allclose(mug.centroid, [*expected.mean(axis=0), 0.5], atol=1e-6)
    assert len(mug.points) == red_mask().sum()
    assert mug.lifted.valid_depth_share == 1.0
    assert mug.box is not None
    # The visible face spans pixel centres: 15 steps across and 19 down, at half a metre.
    np.testing.assert_allclose(sorted(mug.box.size_m)[1:], [15 / 60 * 0.5, 19 / 60 * 0.5], atol=2e-3)
    assert set(scene.timings_ms) == {"evidence", "segmentation", "geometry", "navigation", "grasps"}


def test_without_lifting_the_masks_are_there_and_points_come_later() -> None:
    perception, _ = perception_with_red()
    frame = make_frame()
    scene = perception.step(frame, wanted=Wanted.MASKS)
    assert scene.object(1).mask.any()
    assert scene.object(1).centroid is None
    lifted = lift_scene(frame, scene, PLAIN.geometry)
    assert lifted.object(1).centroid is not None
    np.testing.assert_array_equal(lifted.object(1).mask, scene.object(1).mask)


def test_without_depth_an_object_is_tracked_and_has_no_position() -> None:
    for nothing in (0.0, np.nan):
        perception, _ = perception_with_red()
        scene = perception.step(make_frame(depth_m=np.full((HEIGHT, WIDTH), nothing, np.float32)))
        track = scene.object(1)
        assert track.state is ObjectState.TRACKED
        assert track.centroid is None
        assert track.box is None
        assert track.lifted.valid_depth_share == 0.0


@pytest.mark.parametrize(
    ("now_m", "evidence"),
    [(0.3, DepthEvidence.NEARER), (0.5, DepthEvidence.SAME), (2.0, DepthEvidence.EMPTY), (0.0, DepthEvidence.UNKNOWN)],
)
def test_the_tracker_is_told_what_depth_shows_where_the_object_was(now_m: float, evidence: DepthEvidence) -> None:
    perception, tracker = perception_with_red()
    perception.step(make_frame(SECOND))
    depth_m = make_depth_m()
    depth_m[red_mask()] = now_m
    perception.step(make_frame(2 * SECOND, red=False, depth_m=depth_m))
    assert tracker.evidence == {1: evidence}
    # It stays known where the object was last seen, not where it was missed.
    perception.step(make_frame(3 * SECOND, red=False, depth_m=depth_m))
    assert tracker.evidence == {1: evidence}


def test_an_unseen_object_stays_in_the_scene_without_a_mask() -> None:
    perception, _ = perception_with_red()
    perception.step(make_frame(SECOND))
    gone = perception.step(make_frame(2 * SECOND, red=False)).object(1)
    assert gone.state is ObjectState.OCCLUDED
    assert not gone.mask.any()
    assert len(gone.points) == 0


def test_a_change_of_resolution_in_flight_does_not_disturb() -> None:
    perception, tracker = perception_with_red()
    perception.step(make_frame(SECOND))
    small = CameraIntrinsics(WIDTH // 2, HEIGHT // 2, 30.0, 30.0, 15.5, 11.5)
    frame = make_frame(2 * SECOND)
    half = RgbdFrame(
        np.ascontiguousarray(frame.rgb[::2, ::2]), make_depth_m()[::2, ::2].copy(), small, 2 * SECOND, FRAME_ID
    )
    scene = perception.step(half)
    assert scene.object(1).mask.shape == (HEIGHT // 2, WIDTH // 2)
    assert tracker.evidence == {}
    perception.step(make_frame(3 * SECOND))


def test_a_repeated_stamp_is_refused_and_the_next_frame_works() -> None:
    perception, tracker = perception_with_red()
    perception.step(make_frame(SECOND))
    with pytest.raises(StampError, match="repeated"):
        perception.step(make_frame(SECOND))
    assert tracker.steps == 1
    assert perception.step(make_frame(SECOND + 1)).object(1).state is ObjectState.TRACKED


def test_a_bag_that_starts_again_keeps_objects_and_forgets_recent_memory() -> None:
    perception, tracker = perception_with_red()
    perception.step(make_frame(100 * SECOND))
    scene = perception.step(make_frame(SECOND))
    assert tracker.forgotten == 1
    assert tracker.evidence == {}
    assert scene.object(1).state is ObjectState.TRACKED
    assert len(scene.notes) == 1
    assert "time went back to 1.000 s" in scene.notes[0]
    assert perception.step(make_frame(2 * SECOND)).notes == ()


def test_a_picture_of_one_pixel_is_refused_and_the_next_frame_works() -> None:
    perception, tracker = perception_with_red()
    dot = RgbdFrame(
        np.zeros((1, 1, 3), np.uint8), np.ones((1, 1), np.float32), CameraIntrinsics(1, 1, 1.0, 1.0, 0.0, 0.0), 5, "c"
    )
    with pytest.raises(MalformedImage, match="1 x 1 pixels"):
        perception.step(dot)
    assert tracker.steps == 0
    assert perception.step(make_frame(5)).object(1).mask.any()


def test_prompts_that_do_not_fit_are_named_in_the_scene() -> None:
    perception, _ = perception_with_red()
    perception.prompt(PointPrompt(4, [[WIDTH + 5.0, 3.0]]))
    scene = perception.step(make_frame())
    assert [t.id for t in scene.objects] == [1]
    assert len(scene.rejected) == 1
    assert scene.rejected[0].startswith("prompt for object 4: ")
    assert perception.object_ids == (1,)


def test_objects_come_go_and_are_counted() -> None:
    perception = Perception(PLAIN, ColorTracker(max_objects=2))
    perception.prompt(PointPrompt(1, [RED_POINT]))
    perception.prompt(MaskPrompt(2, (make_frame().rgb == BLUE).all(axis=2)))
    assert perception.waiting == (1, 2)
    with pytest.raises(NoFreeSlot):
        perception.prompt(PointPrompt(3, [RED_POINT]))
    scene = perception.step(make_frame(1))
    assert [t.id for t in scene.objects] == [1, 2]
    assert perception.waiting == ()
    perception.remove(1)
    with pytest.raises(UnknownObject):
        perception.remove(1)
    assert [t.id for t in perception.step(make_frame(2)).objects] == [2]
    perception.reset()
    assert perception.step(make_frame(1)).objects == ()  # any stamp after a reset


def test_settings_that_the_model_was_made_for_cannot_change() -> None:
    perception, _ = perception_with_red()
    with pytest.raises(ConfigError, match="tracker cannot change"):
        perception.reconfigure(PerceptionConfig(tracker=TrackerConfig(visible_score=0.9)))
    far = PerceptionConfig(geometry=GeometryConfig(min_depth_m=0.6))
    perception.reconfigure(far)
    assert perception.step(make_frame()).object(1).centroid is None  # it is half a metre away


def test_importing_it_loads_neither_torch_nor_open3d_nor_ros() -> None:
    code = (
        "import sys, sam_perception.perception; "
        "print([m for m in ('torch', 'transformers', 'open3d', 'rclpy', 'pyrealsense2') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"


def test_an_object_whose_turn_it_is_not_keeps_all_that_was_said_of_it() -> None:
    perception = Perception(PerceptionConfig(), tracker=ColorTracker())
    perception.prompt(PointPrompt(1, [RED_POINT]))
    perception.prompt(PointPrompt(2, [(47.0, 20.0)]))
    first = perception.step(make_frame(10**9))
    farther = make_depth_m() + np.float32(0.25)
    second = perception.step(make_frame(2 * 10**9, depth_m=farther), only=[2])
    assert second.resting == (1,)
    assert second.object(1).lifted is first.object(1).lifted
    assert second.object(1).last_seen_ns == first.stamp_ns
    assert second.object(2).centroid[2] == pytest.approx(0.75, abs=1e-3)
    third = perception.step(make_frame(3 * 10**9, depth_m=farther))
    assert third.resting == ()
    assert third.object(1).centroid[2] == pytest.approx(0.75, abs=1e-3)
