"""Grasps across the rim of cups and bowls, judged on the true shapes; see `collision`."""

from __future__ import annotations

import numpy as np
import pytest
from collision import judge
from numpy.typing import NDArray
from worlds import Shape, World, look

from sam_perception.config import PerceptionConfig
from sam_perception.frame import RgbdFrame
from sam_perception.geometry import lift
from sam_perception.manipulation import scene_grasps
from sam_perception.navigation import ObstacleMap
from sam_perception.scene import GraspKind, GraspTarget, ObjectState, Track

CONFIG = PerceptionConfig()
ABOVE = look((0, -0.42, 0.5), (0, 0, 0.04))
BOWL = Shape("cup", (0.02, 0.01, 0), (0.16, 0.006, 0.07))
MUG = Shape("cup", (0.0, 0.0, 0), (0.085, 0.005, 0.1))


def picture(world: World, seed: int | None) -> tuple[RgbdFrame, NDArray[np.bool_]]:
    frame, ids = world.frame(seed)
    return frame, ids == 1


def grasps_of(world: World, seed: int | None) -> tuple[tuple[GraspTarget, ...], str]:
    frame, mask = picture(world, seed)
    around = ObstacleMap(CONFIG.navigation, CONFIG.geometry).update(frame, [mask])
    track = Track(1, "", ObjectState.TRACKED, 1.0, 1.0, mask, 0, lift(frame, mask, CONFIG.geometry))
    targets, reasons = scene_grasps([track], around.grid, frame.intrinsics, around.planes, CONFIG)
    return targets, reasons.get(1, "")


def across_the_rim(world: World, targets: tuple[GraspTarget, ...]) -> list[GraspTarget]:
    """Those whose closing line, between the fingers, leads from outside of the shape into its hole."""
    shape, found = world.shapes[0], []
    for target in targets:
        pose = world.world_from_camera @ target.camera_from_gripper
        ends = np.array([pose[:3, 3] + side * 0.5 * target.width_m * pose[:3, 1] for side in (-1, 1)])
        away = np.sort(np.hypot(*shape.local(ends)[:, :2].T))
        if away[0] < shape.size[0] / 2 - shape.size[1] and away[1] > shape.size[0] / 2:
            found.append(target)
    return found


def test_the_cup_of_these_tests_is_a_cup() -> None:
    down = np.array([[0.0, 0.0, -1.0]])
    assert BOWL.hit(np.array([0.02, 0.01, 1.0]), down)[0] == pytest.approx(1.0 - 0.006)  # the bottom
    assert BOWL.hit(np.array([0.02 + 0.078, 0.01, 1.0]), down)[0] == pytest.approx(1.0 - 0.07)  # the rim
    assert BOWL.hit(np.array([0.02, 0.01, 0.03]), np.array([[1.0, 0, 0]]))[0] == pytest.approx(0.074)  # from within
    assert not BOWL.contains(np.array([[0.02, 0.01, 0.03]]))[0]
    assert BOWL.contains(np.array([[0.02 + 0.077, 0.01, 0.03]]))[0]
    np.testing.assert_allclose(BOWL.normal(np.array([0.02 + 0.074, 0.01, 0.04])), [-1, 0, 0], atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [BOWL, MUG])
def test_one_finger_goes_inside_where_the_mouth_is_seen(shape: Shape, seed: int) -> None:
    world = World((shape,), ABOVE)
    targets, reason = grasps_of(world, seed)
    assert reason == ""
    rims = across_the_rim(world, targets)
    assert rims
    for target in rims:
        verdict = judge(world, shape, target)
        assert verdict.good, verdict
        assert verdict.slant_deg < 27
        assert target.kind is GraspKind.TOP_DOWN
        # A pixel is a millimetre wide here, and at each edge one may miss.
        assert shape.size[1] - 0.0025 < target.object_width_m < 0.03
        assert target.width_m <= 0.08


def test_a_bowl_that_is_too_wide_is_grasped_by_its_rim_alone() -> None:
    world = World((BOWL,), ABOVE)
    targets, _ = grasps_of(world, 1)
    assert targets
    assert len(across_the_rim(world, targets)) == len(targets)


@pytest.mark.parametrize("seed", range(3))
def test_a_lid_is_no_mouth(seed: int) -> None:
    targets, reason = grasps_of(World((Shape("cylinder", BOWL.base, (0.16, 0.16, 0.07)),), ABOVE), seed)
    assert targets == ()
    assert "too wide" in reason or "slip" in reason


def test_from_the_side_no_mouth_is_seen() -> None:
    world = World((BOWL,), look((0, -0.7, 0.12), (0, 0, 0.04)))
    targets, _ = grasps_of(world, 0)
    assert across_the_rim(world, targets) == []


def test_a_cup_that_is_full_or_shallow_has_no_room_for_a_finger() -> None:
    plate = World((Shape("cup", (0, 0, 0), (0.2, 0.012, 0.02)),), ABOVE)
    assert grasps_of(plate, 0)[0] == ()


def test_a_neighbour_at_the_rim_takes_that_side_away() -> None:
    neighbour = Shape("box", (BOWL.base[0] + 0.08 + 0.012 + 0.03, BOWL.base[1], 0), (0.06, 0.2, 0.1))
    world = World((BOWL, neighbour), ABOVE)
    targets, _ = grasps_of(world, 0)
    rims = across_the_rim(world, targets)
    assert rims
    for target in rims:
        assert judge(world, BOWL, target).good
