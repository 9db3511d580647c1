"""A scene in another frame, against its points moved one by one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sam_perception.errors import TransformError
from sam_perception.frame import CameraPose, check_transform
from sam_perception.geometry.moved import moved_scene
from sam_perception.scene import (
    GraspKind,
    GraspTarget,
    Lifted,
    ObjectState,
    ObstacleKind,
    ObstacleSegment,
    OrientedBox,
    Plane,
    PlaneKind,
    Scene,
    Track,
)

Array = NDArray[np.float64]
RNG = np.random.default_rng(5)


def pose(seed: int) -> Array:
    out = np.eye(4)
    out[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    out[:3, 3] = np.random.default_rng(seed).uniform(-2, 2, 3)
    return out


def one_by_one(points: Array, matrix: Array) -> Array:
    """Each point by scipy's rotation, not by this package's matrix product."""
    turn = Rotation.from_matrix(matrix[:3, :3])
    return np.array([turn.apply(p) + matrix[:3, 3] for p in points])


def corners(box: OrientedBox) -> Array:
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    return box.center_m + (signs * box.size_m) @ box.camera_from_box.T


def a_box() -> OrientedBox:
    return OrientedBox(RNG.uniform(-1, 1, 3), Rotation.random(random_state=9).as_matrix(), np.array([0.1, 0.2, 0.05]))


def a_scene() -> Scene:
    points = RNG.normal([0.1, 0.2, 1.0], [0.01, 0.05, 0.02], (4000, 3)).astype(np.float32)
    colors = np.zeros_like(points, np.uint8)
    lifted = Lifted(points, colors, points.mean(axis=0, dtype=np.float64), np.cov(points.T), a_box(), 0.9)
    mask = np.zeros((4, 6), bool)
    tracks = tuple(Track(i, "", ObjectState.TRACKED, 1.0, 1.0, mask, 5, lifted) for i in (1, 2, 3))
    normal = np.array([0.0, -0.8, -0.6])
    outline = RNG.uniform(-1, 1, (5, 3))
    outline -= (outline @ normal + 0.9)[:, None] * normal
    ground = Plane(normal, 0.9, PlaneKind.GROUND, 0.5, 0.001, outline, 4)
    near = np.array([0.1, 0.0, 0.8])
    obstacle = ObstacleSegment(
        1, ObstacleKind.OBSTACLE, points[:50], colors[:50], a_box(), near, float(np.linalg.norm(near)), 0.6, 0.2, 0.0
    )
    grasp = GraspTarget(1, pose(3), 0.05, 0.04, False, GraspKind.SIDE, 0.7, {})
    return Scene(
        7, "camera", 6, 4, tracks, resting=(2, 3), grasp_targets=(grasp,), ground=ground, planes=(ground,),
        obstacles=(obstacle,), scene_points=points[:100], scene_colors=colors[:100],
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_everything_is_where_its_points_are(seed: int) -> None:
    scene, matrix = a_scene(), pose(seed)
    moved = moved_scene(scene, "base", matrix)
    assert (moved.frame_id, moved.stamp_ns) == ("base", 7)
    before, after = scene.objects[0], moved.objects[0]
    expected = one_by_one(before.points.astype(np.float64), matrix)
    np.testing.assert_allclose(after.points, expected, atol=1e-6)
    np.testing.assert_allclose(after.centroid, expected.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(after.covariance, np.cov(expected.T), rtol=1e-5, atol=1e-9)
    assert before.box is not None
    assert after.box is not None
    np.testing.assert_allclose(corners(after.box), one_by_one(corners(before.box), matrix), atol=1e-12)
    np.testing.assert_array_equal(after.box.size_m, before.box.size_m)
    grasp, tips = moved.grasp_targets[0], scene.grasp_targets[0].camera_from_gripper
    in_gripper = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(
        in_gripper @ grasp.camera_from_gripper[:3, :3].T + grasp.position_m,
        one_by_one(one_by_one(in_gripper, tips), matrix),
        atol=1e-12,
    )
    np.testing.assert_allclose(moved.scene_points, one_by_one(scene.scene_points.astype(float), matrix), atol=1e-6)


def test_heights_and_distances_are_what_they_were() -> None:
    scene, matrix = a_scene(), pose(8)
    moved = moved_scene(scene, "base", matrix)
    assert scene.ground is not None
    assert moved.ground is not None
    some = RNG.uniform(-1, 1, (20, 3))
    np.testing.assert_allclose(moved.ground.height_m(one_by_one(some, matrix)), scene.ground.height_m(some), atol=1e-9)
    np.testing.assert_allclose(moved.ground.height_m(moved.ground.outline_m), 0, atol=1e-9)
    camera = moved.frame_from_camera[:3, 3]
    assert moved.ground.height_m(camera) == pytest.approx(scene.ground.offset_m)
    before, after = scene.obstacles[0], moved.obstacles[0]
    assert np.linalg.norm(after.nearest_point_m - camera) == pytest.approx(before.distance_m)
    assert after.distance_m == before.distance_m


def test_objects_of_an_earlier_image_are_moved_by_that_images_transform_or_not_at_all() -> None:
    scene, now, then = a_scene(), pose(1), pose(2)
    moved = moved_scene(scene, "base", now, {2: then})
    np.testing.assert_allclose(
        moved.objects[1].centroid, one_by_one(scene.objects[1].centroid[None], then)[0], atol=1e-12
    )
    assert moved.objects[2].centroid is None
    assert len(moved.objects[2].points) == 0
    assert moved.objects[2].lifted.valid_depth_share == 0.9


def test_a_scene_is_moved_once() -> None:
    with pytest.raises(TransformError, match="already"):
        moved_scene(moved_scene(a_scene(), "base", pose(1)), "map", pose(2))


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([2.0, 1, 1, 1]),
        np.diag([-1.0, 1, 1, 1]),
        np.full((4, 4), np.nan),
        np.eye(3),
        np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1.0]]),
    ],
)
def test_what_is_no_rigid_motion_is_refused(matrix: Array) -> None:
    with pytest.raises(TransformError, match="transform is"):
        check_transform(matrix)
    with pytest.raises(TransformError):
        CameraPose(fixed_from_camera=matrix)


def test_up_gets_length_one_and_needs_a_direction() -> None:
    up = CameraPose(up=np.array([0.0, -9.8, 0.5])).up
    assert up is not None
    assert np.linalg.norm(up) == pytest.approx(1.0)
    for none in (np.zeros(3), np.array([0, np.nan, 0]), np.zeros(4)):
        with pytest.raises(TransformError, match="direction"):
            CameraPose(up=none)
