from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sam_perception.geometry import oriented_box
from sam_perception.scene import OrientedBox


def check_box(box: OrientedBox, points: np.ndarray, slack: float = 1e-6) -> None:
    """What holds for every box: a proper rotation, ordered edges, all points inside, and no room to spare."""
    rotation = box.camera_from_box
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert (np.diff(box.size_m) <= 1e-12).all()
    along = (np.asarray(points, np.float64) - box.center_m) @ rotation
    np.testing.assert_allclose(along.max(axis=0), box.size_m / 2, atol=slack)
    np.testing.assert_allclose(along.min(axis=0), -box.size_m / 2, atol=slack)


def cuboid(size: tuple[float, float, float], random: np.random.Generator, faces: int = 6) -> np.ndarray:
    """Points on the first `faces` faces of a cuboid, its corners included, around the origin."""
    points = []
    for face in range(faces):
        axis, side = face % 3, face // 3
        on_face = random.uniform(-0.5, 0.5, (400, 3))
        on_face[:4] = [[a, b, 0] for a in (-0.5, 0.5) for b in (-0.5, 0.5)]
        on_face[:4] = np.roll(on_face[:4], axis + 1, axis=1)
        on_face[:, axis] = side - 0.5
        points.append(on_face)
    return np.concatenate(points) * size


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("faces", [3, 6])
def test_finds_a_turned_cuboid_also_from_the_three_faces_that_one_sees(seed: int, faces: int) -> None:
    random = np.random.default_rng(seed)
    size = tuple(sorted(random.uniform(0.05, 0.4, 3), reverse=True))
    center = random.uniform(-1, 1, 3)
    points = cuboid(size, random, faces) @ Rotation.random(random_state=seed).as_matrix().T + center
    box = oriented_box(points)
    check_box(box, points)
    np.testing.assert_allclose(box.size_m, size, atol=1e-5)
    np.testing.assert_allclose(box.center_m, center, atol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_volume_is_nearly_open3ds_least(seed: int) -> None:
    o3d = pytest.importorskip("open3d", exc_type=(ImportError, OSError))
    random = np.random.default_rng(seed)
    shapes = [
        random.normal(size=(2000, 3)) * random.uniform(0.01, 0.2, 3),
        random.uniform(-0.1, 0.1, (2000, 3)) ** 3,
        cuboid((0.2, 0.1, 0.05), random, 3) + random.normal(scale=0.002, size=(1200, 3)),
    ]
    points = shapes[seed % 3] @ Rotation.random(random_state=seed).as_matrix().T
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    least = cloud.get_minimal_oriented_bounding_box(robust=True).volume()
    box = oriented_box(points)
    check_box(box, points)
    assert np.prod(box.size_m) <= 1.05 * least


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 60),
    rank=st.integers(0, 3),
    seed=st.integers(0, 10_000),
    far=st.floats(0, 10),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_any_points_have_a_box(count: int, rank: int, seed: int, far: float, dtype: type) -> None:
    """Points, lines, planes and bodies, also so few that they have no hull."""
    random = np.random.default_rng(seed)
    points = (random.normal(size=(count, rank)) @ random.normal(size=(rank, 3)) * 0.1 + [0, 0, far]).astype(dtype)
    check_box(oriented_box(points), points)


def test_degenerate_clouds_have_edges_of_length_zero() -> None:
    turn = Rotation.from_euler("xyz", [0.3, 0.7, -0.4]).as_matrix()
    square = np.array([[a, b, 0.0] for a in (0, 0.1, 0.3) for b in (0, 0.2)]) @ turn.T
    np.testing.assert_allclose(oriented_box(square).size_m, [0.3, 0.2, 0.0], atol=1e-6)
    line = np.linspace([0, 0, 0], [0.3, 0, 0], 30) @ turn.T
    np.testing.assert_allclose(oriented_box(line).size_m, [0.3, 0.0, 0.0], atol=1e-6)
    point = np.tile([[0.1, 0.2, 0.9]], (30, 1))
    box = oriented_box(point)
    np.testing.assert_allclose(box.size_m, 0.0, atol=1e-12)
    np.testing.assert_allclose(box.center_m, [0.1, 0.2, 0.9])


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e-30, 1e30])
def test_clouds_of_any_scale_have_a_box_without_a_division_by_zero(scale: float) -> None:
    points = np.random.default_rng(0).normal(size=(60, 3)) * scale
    with np.errstate(divide="raise", invalid="raise"):
        box = oriented_box(points)
    assert np.isfinite(box.size_m).all()


def test_equal_points_give_an_equal_box() -> None:
    points = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    first, second = oriented_box(points), oriented_box(points.copy())
    np.testing.assert_array_equal(first.camera_from_box, second.camera_from_box)
    np.testing.assert_array_equal(first.size_m, second.size_m)
    np.testing.assert_array_equal(first.center_m, second.center_m)


def test_axes_point_the_documented_way() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        points = cuboid((0.3, 0.2, 0.1), random) @ Rotation.random(random_state=seed).as_matrix().T
        rotation = oriented_box(points).camera_from_box
        for axis in rotation.T[:2]:
            assert axis[np.abs(axis).argmax()] > 0


def test_knowing_the_rim_gives_as_good_a_box_from_fewer_points() -> None:
    random = np.random.default_rng(0)
    turn = Rotation.random(random_state=1).as_matrix()
    # A face with a slight bulge, as an image shows it: its corners are on the rim.
    u, v = np.meshgrid(np.linspace(-0.1, 0.1, 200), np.linspace(-0.05, 0.05, 100))
    bulge = 0.01 * (1 - (u / 0.1) ** 2) * (1 - (v / 0.05) ** 2)
    points = np.stack([u, v, bulge + random.normal(scale=1e-4, size=u.shape)], axis=-1).reshape(-1, 3) @ turn.T
    rim = np.ones(u.shape, bool)
    rim[1:-1, 1:-1] = False
    box = oriented_box(points, rim.ravel())
    check_box(box, points)
    np.testing.assert_allclose(box.size_m[:2], [0.2, 0.1], rtol=0.01)
    assert np.prod(box.size_m) <= 1.01 * np.prod(oriented_box(points).size_m)
