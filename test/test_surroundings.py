"""The recipe's grasps, ground and obstacles, on a table whose every distance is known."""

from __future__ import annotations

import numpy as np
import pytest
from fake_tracker import HEIGHT, WIDTH, make_frame
from tabletop import (
    CAMERA_HEIGHT_M,
    OBSTACLE,
    TARGET,
    TARGET_ID,
    WORLD,
    frame_at,
    perception_of_target,
    scene_with_all,
)

from sam_perception.config import GraspConfig, NavigationConfig, PerceptionConfig
from sam_perception.errors import ConfigError
from sam_perception.perception import Wanted
from sam_perception.scene import ObstacleKind, Scene

SECOND = 10**9


def things(scene: Scene) -> list[int]:
    """Ids of what stands on the ground and is no target."""
    return [o.id for o in scene.obstacles if o.kind is ObstacleKind.OBSTACLE]


def test_ground_obstacle_and_rest_are_the_worlds() -> None:
    scene = scene_with_all()
    assert scene.ground is not None
    assert scene.ground.offset_m == pytest.approx(CAMERA_HEIGHT_M, abs=0.005)
    up = WORLD.world_from_camera[:3, :3].T @ [0.0, 0.0, 1.0]
    assert np.degrees(np.arccos(scene.ground.normal @ up)) < 1.0
    (thing,) = [o for o in scene.obstacles if o.kind is ObstacleKind.OBSTACLE]
    assert OBSTACLE.contains(WORLD.to_world(thing.points), 0.01).mean() > 0.98
    assert thing.height_m == pytest.approx(OBSTACLE.size[2], abs=0.005)
    rest = WORLD.to_world(scene.scene_points)
    assert not TARGET.contains(rest, -0.003).any()
    assert OBSTACLE.contains(rest, 0.005).sum() >= 0.9 * len(thing.points)
    assert len(scene.scene_colors) == len(scene.scene_points)


def test_grasps_hold_the_target() -> None:
    scene = scene_with_all()
    assert scene.grasp_targets
    assert {target.object_id for target in scene.grasp_targets} == {TARGET_ID}
    assert scene.grasp_reasons == {}
    best = scene.grasp_targets[0]
    # Between the finger tips, and a little way towards the palm, is the box.
    grip = best.position_m - 0.01 * best.approach
    assert TARGET.contains(WORLD.to_world(grip[None]), 0.01).all()


@pytest.mark.parametrize(
    ("wanted", "stages"),
    [
        (Wanted.MASKS, set()),
        (Wanted.POSITIONS, set()),
        (Wanted.OBSTACLES, {"navigation"}),
        (Wanted.GRASPS, {"navigation", "grasps"}),
        (Wanted.ALL, {"navigation", "grasps"}),
    ],
)
def test_only_what_is_wanted_is_computed(wanted: Wanted, stages: set[str]) -> None:
    scene = perception_of_target().step(frame_at(SECOND), wanted=wanted)
    assert set(scene.timings_ms) == {"evidence", "segmentation", "geometry"} | stages
    assert bool(len(scene.object(TARGET_ID).points)) == bool(wanted & (Wanted.POSITIONS | Wanted.GRASPS))
    assert (scene.ground is not None) == ("navigation" in stages)
    assert bool(scene.grasp_targets) == ("grasps" in stages)


def test_settings_switch_grasps_and_obstacles_off() -> None:
    blind = perception_of_target(PerceptionConfig(navigation=NavigationConfig(enabled=False))).step(frame_at(SECOND))
    assert blind.ground is None
    assert blind.obstacles == ()
    assert len(blind.scene_points) == 0
    # A gripper must not touch what nobody asked for either.
    same = zip(blind.grasp_targets, scene_with_all().grasp_targets, strict=True)
    for one, other in same:
        np.testing.assert_array_equal(one.camera_from_gripper, other.camera_from_gripper)
    tame = perception_of_target(PerceptionConfig(grasps=GraspConfig(enabled=False))).step(frame_at(SECOND))
    assert tame.grasp_targets == ()
    assert tame.grasp_reasons == {}
    assert things(tame)


def test_obstacles_keep_their_ids_until_a_reset() -> None:
    perception = perception_of_target()
    first = things(perception.step(frame_at(SECOND, seed=0)))
    assert len(first) == 1
    for second in (2, 3):
        assert things(perception.step(frame_at(second * SECOND, seed=second % 2))) == first
    perception.remove(TARGET_ID)
    assert len(things(perception.step(frame_at(4 * SECOND)))) == 2  # a target no more
    perception.reset()
    assert sorted(o.id for o in perception.step(frame_at(SECOND)).obstacles)[0] == 1


def test_settings_change_in_flight() -> None:
    perception = perception_of_target()
    perception.step(frame_at(SECOND))
    tall = NavigationConfig(min_obstacle_height_m=0.2)
    narrow = GraspConfig(gripper="custom", max_opening_m=0.02)
    perception.reconfigure(PerceptionConfig(navigation=tall, grasps=narrow))
    scene = perception.step(frame_at(2 * SECOND))
    assert things(scene) == []
    assert scene.grasp_targets == ()
    assert "too wide" in scene.grasp_reasons[TARGET_ID]


def test_an_object_out_of_sight_is_not_grasped() -> None:
    perception = perception_of_target()
    perception.step(frame_at(SECOND))
    scene = perception.step(make_frame(2 * SECOND, red=False))
    assert scene.grasp_targets == ()
    assert "TRACKED" in scene.grasp_reasons[TARGET_ID]


@pytest.mark.parametrize("nothing", [0.0, np.nan, np.inf])
def test_without_depth_there_is_neither_ground_nor_grasp(nothing: float) -> None:
    perception = perception_of_target()
    perception.step(frame_at(SECOND))
    scene = perception.step(make_frame(2 * SECOND, depth_m=np.full((HEIGHT, WIDTH), nothing, np.float32)))
    assert scene.ground is None
    assert scene.obstacles == ()
    assert scene.grasp_targets == ()
    assert len(scene.scene_points) == 0


def test_no_direction_of_up_is_refused() -> None:
    with pytest.raises(ConfigError, match="all zero: give the direction of up"):
        NavigationConfig(up_y=0.0)
