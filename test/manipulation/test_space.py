from __future__ import annotations

import numpy as np
import pytest
from worlds import Shape, World, look

from sam_perception.config import GeometryConfig, GraspConfig
from sam_perception.geometry import lift
from sam_perception.manipulation import Space, gripper_of, space_around
from sam_perception.manipulation.space import normals_of
from sam_perception.navigation import ObstacleMap
from sam_perception.scene import PlaneKind


def space_of(world: World) -> Space:
    frame, ids = world.frame(None)
    around = ObstacleMap().update(frame, [ids == 1])
    settings = GeometryConfig()
    lifted = lift(frame, ids == 1, settings)
    rim = around.grid.mask(ids == 1)
    return space_around(lifted, rim, around.grid, frame.intrinsics, around.planes, gripper_of(GraspConfig()), settings)


def test_normals_equal_those_of_an_eigenvalue_solver() -> None:
    rng = np.random.default_rng(5)
    points = (rng.normal(size=(300, 3)) * [0.3, 0.2, 0.05] + [0, 0, 1]).astype(np.float32)
    normals = normals_of(points)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    for i in range(0, 300, 17):
        near = points[np.argsort(distance[i])[:12]].astype(np.float64)
        expected = np.linalg.eigh(np.cov(near.T))[1][:, 0]
        assert abs(normals[i] @ expected) > 0.9999
        assert normals[i] @ points[i] <= 0


def test_normals_of_points_on_a_line_or_in_one_place_are_no_error() -> None:
    line = np.column_stack([np.linspace(0, 1, 20), np.zeros(20), np.ones(20)]).astype(np.float32)
    for points in (line, np.ones((15, 3), np.float32), np.ones((2, 3), np.float32)):
        assert np.isfinite(normals_of(points)).all()


def test_what_the_camera_cannot_see_is_told_apart() -> None:
    world = World((Shape("box", (0, 0, 0), (0.06, 0.06, 0.1)),), look((0, -0.6, 0.4), (0, 0, 0.05)))
    space = space_of(world)
    camera_from_world = np.linalg.inv(world.world_from_camera)

    def unseen(*place: float) -> bool:
        point = camera_from_world[:3, :3] @ place + camera_from_world[:3, 3]
        return bool(space.unseen(point[None])[0])

    assert not unseen(0.1, 0, 0.05)  # beside the box
    assert not unseen(0, -0.1, 0.05)  # before it
    assert not unseen(0, 0, 0.15)  # above it
    assert unseen(0, 0.07, 0.02)  # behind it
    assert unseen(0, 0, 0.05)  # in it
    assert unseen(0, 0, -0.05)  # under the ground
    assert unseen(3.0, 0, 0.05)  # out of the picture


def test_things_stand_on_the_highest_plane_below_them() -> None:
    table = Shape("box", (0.3, 1.6, 0), (1.0, 0.6, 0.7))
    cup = Shape("cylinder", (0.4, 1.5, 0.7), (0.08, 0.08, 0.1))
    on_table = World((cup,), look((0, 0, 1.5), (0, 1.6, 0.6)), extra=(table,))
    support = space_of(on_table).support
    assert support is not None
    assert support.kind is PlaneKind.TABLE
    on_floor = World((Shape("box", (-0.5, 1.4, 0), (0.1, 0.1, 0.2)),), on_table.world_from_camera, extra=(table, cup))
    below = space_of(on_floor).support
    assert below is not None
    assert below.kind is PlaneKind.GROUND
    assert below.offset_m == pytest.approx(1.5, abs=0.01)
