from __future__ import annotations

import numpy as np
import pytest
from worlds import CAMERA, Shape, Wall, World, look

from sam_perception.config import GeometryConfig, NavigationConfig
from sam_perception.errors import ConfigError
from sam_perception.frame import RgbdFrame
from sam_perception.geometry.grid import pixel_grid
from sam_perception.geometry.plane_kinds import describe_planes, ground_plane, up_axis
from sam_perception.geometry.planes import find_planes, fit_plane, plane_tolerance_m
from sam_perception.scene import Plane, PlaneKind

GEOMETRY, NAVIGATION = GeometryConfig(), NavigationConfig()


def planes_of(frame: RgbdFrame, previous: tuple[Plane, ...] = ()) -> list[Plane]:
    grid = pixel_grid(frame, GEOMETRY, 3)
    points = grid.points[grid.valid]
    tolerance = plane_tolerance_m(points, NAVIGATION.plane_tolerance_m, GEOMETRY)
    old = [(p.normal, p.offset_m) for p in previous]
    found = find_planes(points, tolerance, old, min_share=NAVIGATION.min_plane_share, max_planes=4)
    return describe_planes(points, found, ground_plane(points, found, up_axis(NAVIGATION), NAVIGATION.up_tolerance_deg))


def ground_of(frame: RgbdFrame) -> Plane:
    return next(p for p in planes_of(frame) if p.kind is PlaneKind.GROUND)


def test_a_plane_is_fitted_by_least_squares() -> None:
    rng = np.random.default_rng(3)
    normal = np.array([0.2, -0.9, -0.4]) / np.linalg.norm([0.2, -0.9, -0.4])
    points = rng.uniform(-1, 1, (500, 3)) + np.array([0, 0, 2])
    points -= ((points @ normal) + 0.7)[:, None] * normal
    found, offset = fit_plane(points)
    np.testing.assert_allclose(found, normal, atol=1e-6)
    assert offset == pytest.approx(0.7, abs=1e-6)


def test_weights_decide_between_two_planes() -> None:
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9)), axis=-1).reshape(-1, 2)
    low, high = (np.column_stack([grid, np.full(len(grid), z)]) for z in (1.0, 2.0))
    _, offset = fit_plane(np.concatenate([low, high]), np.repeat([3.0, 1.0], len(grid)))
    assert offset == pytest.approx(1.25)


@pytest.mark.parametrize("height", [0.4, 0.8, 1.4])
@pytest.mark.parametrize("ahead", [0.5, 1.0])
def test_ground_under_sensor_noise_is_within_a_degree_and_5_mm(height: float, ahead: float) -> None:
    shapes = (
        Shape("box", (0.05, ahead * height, 0), (0.1, 0.2, 0.12), 0.4),
        Shape("cylinder", (-0.2, 0.9 * ahead * height, 0), (0.08, 0.08, 0.2)),
    )
    world = World(shapes, look((0, 0, height), (0, ahead * height, 0)))
    for seed in range(4):
        ground = ground_of(world.frame(seed)[0])
        true_normal = world.world_from_camera[:3, :3].T @ [0, 0, 1]
        assert np.degrees(np.arccos(ground.normal @ true_normal)) < 1.0
        assert abs(ground.offset_m - height) < 0.005


def test_floor_table_and_wall_are_told_apart() -> None:
    table = Shape("box", (0.3, 1.6, 0), (1.0, 0.6, 0.7))
    cup = Shape("cylinder", (0.4, 1.5, 0.7), (0.08, 0.08, 0.1))
    world = World((table, cup), look((0, 0, 1.5), (0, 1.6, 0.6)), walls=(Wall((0, 2.6, 0), (0, -1, 0)),))
    planes = {p.kind: p for p in planes_of(world.frame(1)[0])}
    assert planes[PlaneKind.GROUND].offset_m == pytest.approx(1.5, abs=0.02)
    assert planes[PlaneKind.TABLE].offset_m == pytest.approx(0.8, abs=0.01)
    assert planes[PlaneKind.WALL].offset_m == pytest.approx(2.6, abs=0.04)


def test_the_side_of_a_large_box_is_no_wall() -> None:
    box = Shape("box", (0, 0.9, 0), (0.9, 0.3, 0.5))
    kinds = [p.kind for p in planes_of(World((box,), look((0, 0, 0.9), (0, 0.9, 0.2))).frame(1)[0])]
    assert PlaneKind.WALL not in kinds
    assert PlaneKind.GROUND in kinds


def test_equal_input_gives_equal_planes() -> None:
    frame, _ = World((Shape("box", (0, 0.6, 0), (0.3, 0.2, 0.2)),), look((0, 0, 0.6), (0, 0.6, 0))).frame(2)
    first, second = planes_of(frame), planes_of(frame)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.normal, b.normal)
        assert a.offset_m == b.offset_m


def test_the_previous_frames_plane_does_not_hold_on_to_a_ground_that_is_gone() -> None:
    before = tuple(planes_of(World((), look((0, 0, 0.5), (0, 0.5, 0))).frame(2)[0]))
    ground = next(
        p
        for p in planes_of(
            World((), look((0, 0, 0.9), (0, 0.5, 0))).frame(3)[0],
        )
        if p.kind.value == 1
    )
    after = [p for p in planes_of(World((), look((0, 0, 0.9), (0, 0.5, 0))).frame(3)[0], before) if p.kind.value == 1]
    assert after[0].offset_m == pytest.approx(ground.offset_m, abs=0.003)


def test_no_plane_where_there_is_no_depth_or_nothing_flat() -> None:
    rgb = np.zeros((480, 640, 3), np.uint8)
    empty = RgbdFrame(rgb, np.zeros((480, 640), np.float32), CAMERA, 0, "camera")
    x, y = np.meshgrid(np.linspace(-1, 1, 640), np.linspace(-1, 1, 480))
    bowl = RgbdFrame(rgb, (0.8 + 0.4 * np.sin(5 * x) * np.cos(4 * y)).astype(np.float32), CAMERA, 0, "camera")
    assert planes_of(empty) == []
    assert planes_of(bowl) == []


def test_a_plane_says_how_high_things_are_and_where_it_ends() -> None:
    world = World((), look((0, 0, 0.7), (0, 0.7, 0)))
    ground = ground_of(world.frame(None)[0])
    in_world = world.to_world(ground.outline_m)
    np.testing.assert_allclose(in_world[:, 2], 0, atol=1e-3)
    camera_point = (np.array([[0.1, 0.6, 0.25]]) - world.world_from_camera[:3, 3]) @ world.world_from_camera[:3, :3]
    assert ground.height_m(camera_point)[0] == pytest.approx(0.25, abs=1e-3)


def test_a_wire_of_one_pixel_stays_in_the_grid() -> None:
    depth = np.full((480, 640), 2.0, np.float32)
    depth[:, 320] = 1.0  # between the grid's columns 318 and 321
    frame = RgbdFrame(np.zeros((480, 640, 3), np.uint8), depth, CAMERA, 0, "camera")
    grid = pixel_grid(frame, GEOMETRY, 3)
    assert np.count_nonzero(grid.depth_m == 1.0) == 160
    wire = grid.points[grid.depth_m == 1.0]
    np.testing.assert_allclose(wire[:, 0], (320 - CAMERA.cx) / CAMERA.fx, atol=1e-6)


def test_up_must_have_a_direction() -> None:
    with pytest.raises(ConfigError, match="all zero"):
        up_axis(NavigationConfig(up_y=0.0))
