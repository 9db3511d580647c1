from __future__ import annotations

import numpy as np
import pytest
from geometry_cases import LENSES, camera_with, frame_of, pinhole, plane_depth

from sam_perception.config import GeometryConfig
from sam_perception.errors import MalformedImage
from sam_perception.frame import CameraIntrinsics, DistortionModel
from sam_perception.geometry import deproject, lift

SETTINGS = GeometryConfig()
MASK = np.zeros((480, 640), np.bool_)
MASK[200:300, 250:400] = True


def wall(z: float = 1.0) -> np.ndarray:
    return np.full((480, 640), z, np.float32)


def test_a_flat_patch() -> None:
    camera = pinhole()
    found = lift(frame_of(wall(), camera), MASK, SETTINGS)
    assert found.valid_depth_share == 1.0
    assert found.points.shape == (15_000, 3)
    assert found.points.dtype == np.float32
    np.testing.assert_allclose(found.centroid, [(324.5 - camera.cx) / 600, (249.5 - camera.cy) / 600, 1.0], atol=1e-6)
    np.testing.assert_allclose(found.box.size_m, [149 / 600, 99 / 600, 0.0], atol=1e-6)
    np.testing.assert_allclose(np.abs(found.box.camera_from_box), np.eye(3), atol=1e-6)


def test_points_and_colours_are_those_of_the_same_pixels() -> None:
    depth_m = np.random.default_rng(0).uniform(0.99, 1.0, (480, 640))
    frame = frame_of(depth_m)
    found = lift(frame, MASK, SETTINGS)
    row, column = np.nonzero(MASK)
    np.testing.assert_array_equal(found.colors, frame.rgb[row, column])
    expected = deproject(frame.intrinsics, np.stack([column, row], axis=1), frame.depth_m[MASK])
    np.testing.assert_allclose(found.points, expected, atol=1e-6)


@pytest.mark.parametrize("model", LENSES)
def test_every_lens(model: DistortionModel) -> None:
    camera = camera_with(model)
    found = lift(frame_of(wall(), camera), MASK, SETTINGS)
    row, column = np.nonzero(MASK)
    expected = deproject(camera, np.stack([column, row], axis=1), np.ones(len(row)))
    np.testing.assert_allclose(found.points, expected, atol=1e-6)


def test_a_slanted_plane_is_lifted_whole_and_its_box_is_thin() -> None:
    camera = pinhole()
    depth_m = plane_depth(camera, (0.0, 1.5, 1.0), 0.8)
    depth_m[depth_m < 0] = np.nan
    found = lift(frame_of(depth_m, camera), MASK, SETTINGS)
    assert found.valid_depth_share == 1.0
    assert found.box.size_m[2] < 1e-4
    normal = np.array([0.0, 1.5, 1.0]) / np.hypot(1.5, 1.0)
    np.testing.assert_allclose(np.abs(found.box.camera_from_box[:, 2] @ normal), 1.0, atol=1e-6)


@pytest.mark.parametrize("nothing", [0.0, np.nan, np.inf, -1.0, 20.0])
def test_no_depth_no_claim(nothing: float) -> None:
    found = lift(frame_of(wall(nothing)), MASK, SETTINGS)
    assert (found.centroid, found.covariance, found.box) == (None, None, None)
    assert found.valid_depth_share == 0.0
    assert found.points.shape == found.colors.shape == (0, 3)


def test_an_empty_mask_is_an_empty_answer() -> None:
    found = lift(frame_of(wall()), np.zeros_like(MASK), SETTINGS)
    assert found.centroid is None
    assert found.points.shape == (0, 3)


def test_too_few_points_are_handed_out_without_a_centroid() -> None:
    depth_m = np.zeros((480, 640), np.float32)
    depth_m[250, 300:319] = 1.0
    found = lift(frame_of(depth_m), MASK, SETTINGS)
    assert (len(found.points), found.centroid) == (19, None)
    depth_m[250, 319] = 1.0
    found = lift(frame_of(depth_m), MASK, SETTINGS)
    assert len(found.points) == 20
    assert found.centroid is not None
    assert found.valid_depth_share == pytest.approx(20 / 15_000)


def test_share_counts_what_was_used() -> None:
    depth_m = wall()
    depth_m[200:225] = 0.0  # a quarter of the mask without return
    depth_m[225:250, 250:260] = 3.0  # 250 px of something far behind
    found = lift(frame_of(depth_m), MASK, SETTINGS)
    assert found.valid_depth_share == pytest.approx((75 * 150 - 250) / 15_000)
    everything = lift(frame_of(depth_m), MASK, GeometryConfig(remove_outliers=False, remove_flying_pixels=False))
    assert everything.valid_depth_share == 0.75


def test_flying_pixels_at_the_masks_border_are_seen_with_what_lies_beyond_it() -> None:
    depth_m = wall(1.5)
    depth_m[200:300, 250:400] = 1.0
    depth_m[200:300, 399] = 1.2  # between the two, inside the mask
    found = lift(frame_of(depth_m), MASK, GeometryConfig(remove_outliers=False))
    assert len(found.points) == 14_900
    assert found.points[:, 2].max() == 1.0


def test_missing_depth_on_one_side_shifts_the_centroid_within_its_covariance() -> None:
    full = lift(frame_of(wall()), MASK, SETTINGS)
    depth_m = wall()
    depth_m[:, 350:] = 0.0
    part = lift(frame_of(depth_m), MASK, SETTINGS)
    error = part.centroid - full.centroid
    assert np.abs(error[0]) > 0.03
    assert error @ np.linalg.solve(part.covariance, error) < 7.81  # chi square, 95 %, 3
    assert np.trace(part.covariance) > np.trace(full.covariance)


def test_pixels_without_a_ray_are_no_points() -> None:
    # Corners of this lens are beyond its fold.
    camera = CameraIntrinsics(640, 480, 300, 300, 320, 240, DistortionModel.PLUMB_BOB, (-0.3,))
    found = lift(frame_of(wall(), camera), np.ones_like(MASK), SETTINGS)
    assert 0.1 < found.valid_depth_share < 0.9
    assert np.isfinite(found.points).all()
    assert np.isfinite(found.covariance).all()


@pytest.mark.parametrize("edge", [np.s_[:5, :5], np.s_[-5:, -5:], np.s_[:, :], np.s_[0:1, :], np.s_[:, -1:]])
def test_masks_at_the_images_edge(edge: tuple[slice, slice]) -> None:
    mask = np.zeros_like(MASK)
    mask[edge] = True
    assert lift(frame_of(wall()), mask, SETTINGS).valid_depth_share == 1.0


def test_an_image_of_one_pixel() -> None:
    found = lift(frame_of(np.ones((1, 1))), np.ones((1, 1), np.bool_), GeometryConfig())
    assert found.centroid is None


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(MalformedImage, match=r"mask has shape \(240, 320\)"):
        lift(frame_of(wall()), np.ones((240, 320), np.bool_), SETTINGS)


def test_the_frame_is_not_changed() -> None:
    depth_m = wall()
    depth_m[::7] = 0.0
    frame = frame_of(depth_m)
    before, mask = frame.depth_m.copy(), MASK.copy()
    lift(frame, mask, SETTINGS)
    np.testing.assert_array_equal(frame.depth_m, before)
    np.testing.assert_array_equal(mask, MASK)
