from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from worlds import CAMERA, Shape, Wall, World, look

from sam_perception.config import GeometryConfig, NavigationConfig
from sam_perception.frame import RgbdFrame
from sam_perception.navigation import ObstacleMap
from sam_perception.scene import ObstacleKind, ObstacleSegment

BASE = look((0, 0, 0.8), (0, 2, 0.1))  # a mobile base's camera


def of_kind(segments: Sequence[ObstacleSegment], kind: ObstacleKind) -> list[ObstacleSegment]:
    return [s for s in segments if s.kind is kind and len(s.points)]


@pytest.mark.parametrize("seed", range(6))
def test_distance_at_2_m_under_noise_is_within_10_mm(seed: int) -> None:
    yaw = 0.15 * seed
    box = Shape("box", (0.1 * seed - 0.25, 2.0, 0), (0.4, 0.3, 0.5), yaw)
    world = World((box,), BASE)
    exact, ids = world.render()
    rows, columns = np.nonzero(ids == 1)
    rays = np.stack([(columns - CAMERA.cx) / CAMERA.fx, (rows - CAMERA.cy) / CAMERA.fy, np.ones(len(rows))], axis=1)
    truth = float(np.linalg.norm(rays * exact[rows, columns][:, None], axis=1).min())
    assert 1.6 < truth < 2.3
    (found,) = of_kind(ObstacleMap().update(world.frame(seed)[0]).obstacles, ObstacleKind.OBSTACLE)
    assert abs(found.distance_m - truth) < 0.010
    assert abs(found.height_m - 0.5) < 0.02
    nearest = world.to_world(found.nearest_point_m[None])[0]
    assert abs(found.ground_distance_m - np.hypot(*nearest[:2])) < 0.02


def test_each_thing_is_one_obstacle_and_the_wall_is_a_wall() -> None:
    shapes = (
        Shape("box", (-0.6, 2.0, 0), (0.3, 0.3, 0.4)),
        Shape("cylinder", (0.1, 1.6, 0), (0.2, 0.2, 0.5)),
        Shape("box", (0.7, 2.2, 0), (0.2, 0.4, 0.3), 0.5),
    )
    world = World(shapes, BASE, walls=(Wall((0, 3.2, 0), (0, -1, 0)),))
    frame, ids = world.frame(4)
    result = ObstacleMap().update(frame)
    things = of_kind(result.obstacles, ObstacleKind.OBSTACLE)
    assert len(of_kind(result.obstacles, ObstacleKind.WALL)) == 1
    for i in range(3):
        inside = [np.count_nonzero(shapes[i].contains(world.to_world(s.points), 0.03)) for s in things]
        assert max(inside) > 0.9 * sum(inside)
        assert max(inside) > 0.8 * np.count_nonzero(ids == i + 1) / 9
    assert len(things) == 3


def test_a_post_in_front_does_not_cut_a_thing_in_two() -> None:
    board = Shape("box", (0, 2.0, 0), (0.8, 0.05, 0.5))
    post = Shape("cylinder", (0.0, 1.2, 0), (0.03, 0.03, 0.9))
    world = World((board, post), BASE)
    found = of_kind(
        ObstacleMap(NavigationConfig(cluster_distance_m=0.13)).update(world.frame(1)[0]).obstacles,
        ObstacleKind.OBSTACLE,
    )
    assert len(found) == 2


def test_targets_and_their_rims_are_absent_from_the_scene_and_the_obstacles() -> None:
    target = Shape("box", (0.0, 0.7, 0), (0.1, 0.1, 0.15), 0.3)
    other = Shape("cylinder", (0.3, 0.8, 0), (0.08, 0.08, 0.12))
    world = World((target, other), look((0, 0, 0.6), (0, 0.7, 0)))
    frame, ids = world.frame(3)
    result = ObstacleMap().update(frame, [ids == 1])
    in_world = world.to_world(result.scene_points.astype(float))
    left = target.contains(in_world, 0.01) & (in_world[:, 2] > 0.01)
    assert np.count_nonzero(left) == 0
    things = of_kind(result.obstacles, ObstacleKind.OBSTACLE)
    assert len(things) == 1
    assert other.contains(world.to_world(things[0].points.astype(float)), 0.02).mean() > 0.95
    # The rest is all there: ground, and the other thing.
    assert len(result.scene_points) > 0.9 * np.count_nonzero((ids != 1) & (frame.depth_m > 0)) / 9
    assert result.scene_colors.shape == result.scene_points.shape


def test_ids_stay_while_camera_and_things_move() -> None:
    def world(t: float) -> World:
        shapes = (
            Shape("box", (-0.5, 2.0, 0), (0.3, 0.3, 0.4)),
            Shape("cylinder", (0.2 + 0.5 * t, 1.7, 0), (0.2, 0.2, 0.5)),
        )
        return World(shapes, look((0.3 * t, 0, 0.8), (0.2 * t, 2, 0.1)))

    obstacles = ObstacleMap()
    ids: list[list[int]] = []
    for step in range(8):
        here = world(step / 8)
        things = of_kind(obstacles.update(here.frame(step)[0]).obstacles, ObstacleKind.OBSTACLE)
        of_shape = []
        for shape in here.shapes:
            inside = [shape.contains(here.to_world(s.points.astype(float)), 0.03).mean() for s in things]
            of_shape.append(things[int(np.argmax(inside))].id)
        ids.append(of_shape)
    assert ids == [ids[0]] * 8
    assert ids[0][0] != ids[0][1]


def test_a_known_pose_keeps_ids_when_the_camera_jumps() -> None:
    shapes = (Shape("box", (-0.4, 2.0, 0), (0.25, 0.25, 0.4)), Shape("box", (0.4, 2.0, 0), (0.25, 0.25, 0.4)))
    # A jump sideways by the distance between the two boxes: in the picture one takes the other's place.
    worlds = [World(shapes, look((x, 0, 0.8), (x, 2, 0.1))) for x in (0.4, -0.4)]
    obstacles = ObstacleMap()
    named = []
    for world in worlds:
        things = of_kind(
            obstacles.update(world.frame(0)[0], fixed_from_camera=world.world_from_camera).obstacles,
            ObstacleKind.OBSTACLE,
        )
        named.append({np.sign(world.to_world(s.points.astype(float))[:, 0].mean()): s.id for s in things})
    assert named[0] == named[1]


def test_a_frame_without_its_pose_does_not_mix_ids_up() -> None:
    shapes = (Shape("box", (-0.4, 2.0, 0), (0.25, 0.25, 0.4)), Shape("box", (0.4, 2.0, 0), (0.25, 0.25, 0.4)))
    world = World(shapes, BASE)
    # Far from the fixed frame's origin, so that a comparison in the camera's frame finds nothing alike.
    pose = world.world_from_camera.copy()
    pose[0, 3] += 5.0
    obstacles, named = ObstacleMap(), []
    for told in (pose, None, pose):
        found = obstacles.update(world.frame(1)[0], fixed_from_camera=told).obstacles
        named.append([s.id for s in of_kind(found, ObstacleKind.OBSTACLE)])
    assert len(named[0]) >= 2
    assert named[0] == named[1] == named[2]


def test_an_unseen_obstacle_keeps_its_id_for_a_while() -> None:
    there = World((Shape("box", (0, 2.0, 0), (0.3, 0.3, 0.4)),), BASE).frame(0)[0]
    gone = World((), BASE).frame(1)[0]
    obstacles = ObstacleMap(NavigationConfig(forget_frames=2))
    first = of_kind(obstacles.update(there).obstacles, ObstacleKind.OBSTACLE)[0].id
    obstacles.update(gone)
    assert of_kind(obstacles.update(there).obstacles, ObstacleKind.OBSTACLE)[0].id == first
    for _ in range(3):
        obstacles.update(gone)
    assert of_kind(obstacles.update(there).obstacles, ObstacleKind.OBSTACLE)[0].id > first


def test_settings_change_and_ids_stay() -> None:
    frame, _ = World((Shape("box", (0, 2.0, 0), (0.3, 0.3, 0.4)),), BASE).frame(0)
    obstacles = ObstacleMap()
    (before,) = of_kind(obstacles.update(frame).obstacles, ObstacleKind.OBSTACLE)
    obstacles.reconfigure(NavigationConfig(min_obstacle_height_m=0.45), GeometryConfig())
    (after,) = of_kind(obstacles.update(frame).obstacles, ObstacleKind.UNKNOWN)
    assert after.id == before.id
    obstacles.reset()
    assert obstacles.update(frame).obstacles[0].id == 1


def test_low_things_are_unknown_and_no_part_of_the_ground() -> None:
    low = Shape("box", (0, 0.6, 0), (0.15, 0.15, 0.012))
    world = World((low,), look((0, 0, 0.5), (0, 0.6, 0)))
    result = ObstacleMap().update(world.frame(None)[0])
    assert of_kind(result.obstacles, ObstacleKind.OBSTACLE) == []
    (found,) = of_kind(result.obstacles, ObstacleKind.UNKNOWN)
    assert low.contains(world.to_world(found.points.astype(float)), 0.005).mean() > 0.95


def test_a_hole_in_depth_is_unknown_at_its_foot() -> None:
    glass = Shape("cylinder", (0.05, 1.0, 0), (0.08, 0.08, 0.15))
    world = World((glass,), look((0, 0, 0.6), (0, 1.0, 0)))
    frame, ids = world.frame(None)
    depth = frame.depth_m.copy()
    depth[ids == 1] = 0
    result = ObstacleMap().update(RgbdFrame(frame.rgb, depth, frame.intrinsics, 0, "camera"))
    (hole,) = [s for s in result.obstacles if s.kind is ObstacleKind.UNKNOWN]
    foot = world.to_world(hole.nearest_point_m[None])[0]
    np.testing.assert_allclose(foot, [0.05, 0.96, 0.0], atol=0.03)
    assert hole.unknown_share == 1.0
    assert len(hole.points) == 0


def test_no_ground_and_no_depth_are_no_error() -> None:
    rgb = np.zeros((480, 640, 3), np.uint8)
    result = ObstacleMap().update(RgbdFrame(rgb, np.zeros((480, 640), np.float32), CAMERA, 0, "camera"))
    assert result.ground is None
    assert result.obstacles == ()
    assert result.scene_points.shape == (0, 3)
    floating = World((Shape("box", (0, 1.0, 0.3), (0.3, 0.3, 0.3)),), look((0, 0, 0.5), (0, 1, 0.45)), ground=False)
    (thing,) = of_kind(ObstacleMap().update(floating.frame(0)[0]).obstacles, ObstacleKind.OBSTACLE)
    assert np.isnan(thing.ground_distance_m)
    assert abs(thing.distance_m - 0.85) < 0.02


def test_measured_gravity_overrules_the_setting() -> None:
    # A camera that looks straight down: 80 degrees from the default.
    world = World((), look((0, 0, 0.8), (0, 0.1, 0)))
    frame, _ = world.frame(0)
    assert ObstacleMap().update(frame).ground is None
    up = world.world_from_camera[:3, :3].T @ [0, 0, 1]
    ground = ObstacleMap().update(frame, up=up).ground
    assert ground is not None
    assert ground.offset_m == pytest.approx(0.8, abs=0.005)


def test_equal_input_gives_equal_obstacles() -> None:
    frame, _ = World((Shape("box", (0.2, 2.0, 0), (0.3, 0.3, 0.4)),), BASE).frame(5)
    first, second = (ObstacleMap().update(frame).obstacles for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert (a.id, a.kind, a.distance_m, a.unknown_share) == (b.id, b.kind, b.distance_m, b.unknown_share)
        np.testing.assert_array_equal(a.points, b.points)
