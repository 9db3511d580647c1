"""What `Perception.step` makes of the camera's pose, known from elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_tracker import ColorTracker
from worlds import Shape, World, look

from sam_perception.frame import CameraPose, RgbdFrame
from sam_perception.perception import Perception
from sam_perception.scene import PlaneKind

DOWN = World((Shape("box", (0.1, 0.1, 0), (0.1, 0.1, 0.1)),), look((0, 0, 0.8), (0, 0.1, 0)))
UP = DOWN.world_from_camera[:3, :3].T @ [0, 0, 1]


@pytest.fixture(scope="module")
def frame() -> RgbdFrame:
    return DOWN.frame(0, stamp_ns=10**9)[0]


def test_measured_gravity_finds_the_ground_that_the_settings_do_not(frame: RgbdFrame) -> None:
    assert Perception(tracker=ColorTracker()).step(frame).ground is None
    for told in ({"pose": CameraPose(up=UP)}, {}):
        with_up = frame if told else replace(frame, up=UP)
        ground = Perception(tracker=ColorTracker()).step(with_up, **told).ground
        assert ground is not None
        assert ground.offset_m == pytest.approx(0.8, abs=0.005)


def test_what_is_told_of_the_pose_wins_over_what_the_camera_measured(frame: RgbdFrame) -> None:
    wrong = replace(frame, up=np.array([1.0, 0, 0]))
    assert Perception(tracker=ColorTracker()).step(wrong, pose=CameraPose(up=UP)).ground is not None


def test_with_a_pose_planes_are_known_in_the_fixed_frame(frame: RgbdFrame) -> None:
    perception = Perception(tracker=ColorTracker())
    pose = CameraPose(UP, DOWN.world_from_camera)
    (ground,) = [p for p in perception.step(frame, pose=pose).fixed_planes if p.kind is PlaneKind.GROUND]
    np.testing.assert_allclose(ground.normal, [0, 0, 1], atol=0.01)
    assert ground.offset_m == pytest.approx(0.0, abs=0.005)
    assert perception.step(replace(frame, stamp_ns=2 * 10**9)).fixed_planes == ()


def test_time_that_goes_back_gives_planes_new_ids(frame: RgbdFrame) -> None:
    perception = Perception(tracker=ColorTracker())
    ids = []
    for stamp_s in (10, 11, 1, 2):
        ground = perception.step(replace(frame, stamp_ns=stamp_s * 10**9), pose=CameraPose(up=UP)).ground
        assert ground is not None
        ids.append(ground.id)
    assert ids[0] == ids[1] != ids[2] == ids[3]
