from __future__ import annotations

import cv2
import numpy as np
import pytest
from geometry_cases import LENSES, camera_with, cameras
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sam_perception.errors import FrameError, MalformedImage
from sam_perception.frame import CameraIntrinsics, DistortionModel
from sam_perception.geometry import deproject, deproject_mask, project, ray_grid

MODELS = list(DistortionModel)


def pixels_and_depths(count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.uniform([0, 0], [639, 479], (count, 2)), random.uniform(0.2, 5.0, count)


LIBREALSENSE_NAMES = {
    DistortionModel.NONE: "none",
    DistortionModel.PLUMB_BOB: "brown_conrady",
    DistortionModel.INVERSE_BROWN_CONRADY: "inverse_brown_conrady",
    DistortionModel.EQUIDISTANT: "kannala_brandt4",
}


class TestAgainstLibrealsense:
    """float32 there: points agree to parts in a million, pixels to a thousandth."""

    STRONG = (0.1, -0.2, 0.003, -0.002, 0.05)  # beside the realistic ones

    def intrinsics(self, camera: CameraIntrinsics):
        rs = pytest.importorskip("pyrealsense2", exc_type=ImportError)
        result = rs.intrinsics()
        result.width, result.height = camera.width, camera.height
        result.fx, result.fy, result.ppx, result.ppy = camera.fx, camera.fy, camera.cx, camera.cy
        result.model = getattr(rs.distortion, LIBREALSENSE_NAMES[camera.distortion_model])
        result.coeffs = [*camera.distortion, *[0.0] * (5 - len(camera.distortion))]
        return rs, result

    def cameras(self, model: DistortionModel) -> list[CameraIntrinsics]:
        strong = self.STRONG[: len(LENSES[model])]
        return [camera_with(model), camera_with(model, strong)]

    @pytest.mark.parametrize("model", LIBREALSENSE_NAMES)
    def test_deproject(self, model: DistortionModel) -> None:
        pixels, depth_m = pixels_and_depths()
        for camera in self.cameras(model):
            rs, theirs = self.intrinsics(camera)
            expected = [
                rs.rs2_deproject_pixel_to_point(theirs, list(p), z) for p, z in zip(pixels, depth_m, strict=True)
            ]
            np.testing.assert_allclose(deproject(camera, pixels, depth_m), expected, atol=5e-6)

    @pytest.mark.parametrize("model", LIBREALSENSE_NAMES)
    def test_project(self, model: DistortionModel) -> None:
        pixels, depth_m = pixels_and_depths(seed=1)
        for camera in self.cameras(model):
            rs, theirs = self.intrinsics(camera)
            points = deproject(camera_with(DistortionModel.NONE), pixels, depth_m)
            expected = [rs.rs2_project_point_to_pixel(theirs, list(p)) for p in points]
            np.testing.assert_allclose(project(camera, points), expected, atol=1e-3)

    def test_the_inverse_model_is_not_the_plain_one(self) -> None:
        # Guards the two tests above: a confusion of the models would show.
        pixels, depth_m = pixels_and_depths()
        points = deproject(camera_with(DistortionModel.NONE), pixels, depth_m)
        plain, inverse = (
            project(camera_with(m, (0.1, -0.2, 0.03, -0.02, 0.05)), points)
            for m in (DistortionModel.PLUMB_BOB, DistortionModel.INVERSE_BROWN_CONRADY)
        )
        assert np.abs(plain - inverse).max() > 0.2


def undistort_until_it_converges(pixels: np.ndarray, matrix: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    # By default OpenCV stops after five iterations, some 1e-4 short.
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-14)
    if hasattr(cv2, "undistortPointsIter"):  # OpenCV 4
        return cv2.undistortPointsIter(pixels, matrix, coefficients, None, None, until)
    return cv2.undistortPoints(pixels, matrix, coefficients, criteria=until)


class TestAgainstOpenCv:
    @pytest.mark.parametrize("model", [DistortionModel.PLUMB_BOB, DistortionModel.RATIONAL_POLYNOMIAL])
    def test_brown_conrady_and_rational(self, model: DistortionModel) -> None:
        camera = camera_with(model)
        coefficients = np.array(camera.distortion)
        pixels, depth_m = pixels_and_depths()
        points = deproject(camera_with(DistortionModel.NONE), pixels, depth_m)
        expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.matrix, coefficients)
        np.testing.assert_allclose(project(camera, points), expected[:, 0], atol=1e-6)

        rays = undistort_until_it_converges(pixels[:, None], camera.matrix, coefficients)[:, 0]
        np.testing.assert_allclose(deproject(camera, pixels, np.ones(len(pixels)))[:, :2], rays, atol=1e-7)

    def test_equidistant(self) -> None:
        camera = camera_with(DistortionModel.EQUIDISTANT)
        coefficients = np.array(camera.distortion)
        pixels, depth_m = pixels_and_depths()
        points = deproject(camera_with(DistortionModel.NONE), pixels, depth_m)
        expected, _ = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), camera.matrix, coefficients)
        np.testing.assert_allclose(project(camera, points), expected[:, 0], atol=1e-6)
        rays = cv2.fisheye.undistortPoints(pixels[:, None], camera.matrix, coefficients)[:, 0]
        np.testing.assert_allclose(deproject(camera, pixels, np.ones(len(pixels)))[:, :2], rays, atol=1e-6)

    def test_equidistant_with_zero_coefficients_is_a_fisheye_still(self) -> None:
        camera = camera_with(DistortionModel.EQUIDISTANT, ())
        ray = np.array([[1.0, 0.0, 1.0]])  # 45 degrees
        assert project(camera, ray)[0, 0] == pytest.approx(camera.cx + camera.fx * np.pi / 4)


@settings(deadline=None, max_examples=150)
@given(
    camera=cameras(),
    points=st.lists(st.tuples(st.floats(-0.8, 0.8), st.floats(-0.6, 0.6), st.floats(0.1, 5.0)), min_size=1, max_size=8),
)
def test_deproject_inverts_project(camera: CameraIntrinsics, points: list[tuple[float, float, float]]) -> None:
    x, y, z = np.array(points).T
    points_m = np.stack([x * z, y * z, z], axis=1)
    pixels = project(camera, points_m)
    seen = np.isfinite(pixels).all(axis=1)
    assume(seen.any())
    # Where tangential terms fold the picture close to the radial fold, a point has a twin; a twin
    # is a ray onto the same pixel too, and is all that one pixel can tell.
    back = deproject(camera, pixels[seen], points_m[seen, 2])
    same = np.linalg.norm(back - points_m[seen], axis=1) < 1e-6 * z[seen] + 1e-6
    near_fold = np.abs(jacobian(camera, x[seen], y[seen])) < 0.05
    assert (same | near_fold).all()


def jacobian(camera: CameraIntrinsics, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Determinant of d(pixel)/d(ray), by differences, relative to the pinhole's."""
    h = 1e-5
    p = [
        project(camera, np.stack([x + dx, y + dy, np.ones_like(x)], axis=1)) / [camera.fx, camera.fy]
        for dx, dy in ((h, 0), (-h, 0), (0, h), (0, -h))
    ]
    u, v = (p[0] - p[1]) / (2 * h), (p[2] - p[3]) / (2 * h)
    return np.nan_to_num(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])


@settings(deadline=None, max_examples=60)
@given(camera=cameras(), seed=st.integers(0, 1000))
def test_project_inverts_deproject(camera: CameraIntrinsics, seed: int) -> None:
    pixels, depth_m = pixels_and_depths(50, seed)
    points = deproject(camera, pixels, depth_m)
    has_ray = np.isfinite(points).all(axis=1)
    np.testing.assert_allclose(project(camera, points[has_ray]), pixels[has_ray], atol=1e-5)
    np.testing.assert_array_equal(points[has_ray, 2], depth_m[has_ray])


@pytest.mark.parametrize("model", MODELS)
def test_every_pixel_of_a_usual_lens_has_a_ray(model: DistortionModel) -> None:
    assert np.isfinite(ray_grid(camera_with(model))).all()


@pytest.mark.parametrize("model", MODELS)
def test_points_not_in_front_of_the_camera_have_no_pixel(model: DistortionModel) -> None:
    points = [[0.1, 0.1, -1.0], [0.1, 0.1, 0.0], [np.nan, 0.0, 1.0], [0.0, 0.0, 1.0]]
    np.testing.assert_array_equal(np.isfinite(project(camera_with(model), points)).all(axis=1), [0, 0, 0, 1])


def test_rays_beyond_the_fold_have_no_pixel_and_unreached_pixels_no_ray() -> None:
    # r (1 - 0.3 r^2) grows until r = 1 / sqrt(0.9) = 1.054, where it is 0.703.
    camera = CameraIntrinsics(640, 480, 300, 300, 320, 240, DistortionModel.PLUMB_BOB, (-0.3,))
    inside, outside = project(camera, [[1.05, 0, 1], [1.06, 0, 1]])
    assert np.isfinite(inside).all()
    assert np.isnan(outside).all()
    reached, unreached = deproject(camera, [[320 + 300 * 0.702, 240], [320 + 300 * 0.704, 240]], [1.0, 1.0])
    assert np.isfinite(reached).all()
    assert np.isnan(unreached[:2]).all()


@pytest.mark.parametrize("model", MODELS)
def test_mask_and_pixels_give_the_same_points(model: DistortionModel) -> None:
    camera = camera_with(model)
    random = np.random.default_rng(3)
    depth_m = random.uniform(0.3, 4.0, (480, 640)).astype(np.float32)
    mask = np.zeros((480, 640), np.bool_)
    mask[100:200, 300:640] = random.uniform(size=(100, 340)) < 0.3
    v, u = np.nonzero(mask)
    expected = deproject(camera, np.stack([u, v], axis=1), depth_m[mask])
    points = deproject_mask(camera, depth_m, mask)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, expected, rtol=1e-6, atol=1e-6)


def test_ray_grid_is_made_once_and_cannot_be_spoilt() -> None:
    grid = ray_grid(camera_with(DistortionModel.PLUMB_BOB))
    assert ray_grid(camera_with(DistortionModel.PLUMB_BOB)) is grid
    with pytest.raises(ValueError, match="read-only"):
        grid[0, 0, 0] = 1.0


def test_nothing_in_nothing_out() -> None:
    camera = camera_with(DistortionModel.PLUMB_BOB)
    assert project(camera, np.zeros((0, 3))).shape == (0, 2)
    assert deproject(camera, np.zeros((0, 2)), np.zeros(0)).shape == (0, 3)
    empty = np.zeros((480, 640), np.bool_)
    assert deproject_mask(camera, np.ones((480, 640), np.float32), empty).shape == (0, 3)


def test_wrong_shapes_are_named() -> None:
    camera = camera_with(DistortionModel.NONE)
    with pytest.raises(FrameError, match=r"points have shape \(3,\): pass \(N, 3\)"):
        project(camera, [0.0, 0.0, 1.0])
    with pytest.raises(FrameError, match="2 pixels: pass one depth per pixel"):
        deproject(camera, [[0, 0], [1, 1]], [1.0])
    with pytest.raises(MalformedImage, match=r"mask has shape \(4, 4\)"):
        deproject_mask(camera, np.ones((480, 640), np.float32), np.ones((4, 4), np.bool_))
