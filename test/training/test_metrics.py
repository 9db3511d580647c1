"""J, F and wander against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sam_perception.training.metrics import (
    centroid_wander,
    contour,
    contour_accuracy,
    region_similarity,
    sequence_scores,
)

masks = arrays(np.bool_, (12, 17))


def square(x0: int, y0: int, size: int, shape: tuple[int, int] = (60, 80)) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    mask[y0 : y0 + size, x0 : x0 + size] = True
    return mask


def test_j_of_two_squares_shifted_by_half() -> None:
    # 20 x 20 squares, 10 columns apart: 200 pixels in common, 600 in either.
    assert region_similarity(square(10, 10, 20), square(20, 10, 20)) == pytest.approx(200 / 600)


def test_j_of_nothing_and_nothing_is_one_and_of_nothing_and_something_zero() -> None:
    empty = np.zeros((60, 80), np.bool_)
    assert region_similarity(empty, empty) == 1.0
    assert region_similarity(empty, square(10, 10, 20)) == 0.0


def test_contour_of_one_pixel_is_its_upper_left_neighbourhood_and_itself() -> None:
    edge = contour(square(5, 5, 1, (9, 9)))
    # A pixel is on the contour where its right, lower or lower right neighbour differs:
    # (4, 4) by its lower right, (4, 5) below, (5, 4) to the right, and (5, 5) itself.
    assert sorted(zip(*np.nonzero(edge), strict=True)) == [(4, 4), (4, 5), (5, 4), (5, 5)]


def test_f_within_the_tolerance_is_one_and_beyond_it_is_counted() -> None:
    # The diagonal of 60 x 80 is 100, so contours agree within ceil(0.8) = 1 pixel.
    true = square(20, 20, 20)
    assert contour_accuracy(square(21, 20, 20), true) == 1.0
    # Each contour is the frame of a 21 x 21 square, 80 pixels; the true one has columns 19 to 39, the other 22 to 42.
    # Of the latter's, within 1 pixel: columns 22 to 40 of its top and of its bottom row (2 x 19), and of its left
    # column the pixels just below and just above those rows (2). Its right column is 3 off. 40 of 80; by symmetry
    # the same the other way round.
    assert contour_accuracy(square(23, 20, 20), true) == pytest.approx(40 / 80)


def test_f_of_an_empty_mask() -> None:
    empty = np.zeros((60, 80), np.bool_)
    assert contour_accuracy(empty, empty) == 1.0
    assert contour_accuracy(empty, square(10, 10, 20)) == 0.0
    assert contour_accuracy(square(10, 10, 20), empty) == 0.0


def test_a_clip_counts_neither_its_first_nor_its_last_frame() -> None:
    right, wrong = square(10, 10, 20), square(50, 30, 20)
    j, f = sequence_scores([wrong, right, right, wrong], [right] * 4)
    assert (j, f) == (1.0, 1.0)
    j, _ = sequence_scores([right, wrong, right, right], [right] * 4)
    assert j == 0.5


@given(masks, masks)
def test_both_scores_are_shares_and_symmetric(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> None:
    for score in (region_similarity, contour_accuracy):
        assert 0.0 <= score(a, b) <= 1.0
        assert score(a, b) == pytest.approx(score(b, a))
        assert score(a, a) == 1.0


@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.1))
def test_wander_of_a_still_point_seen_from_a_moving_camera_is_the_noise(seed: int, shift_m: float) -> None:
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (9, 1, 1))
    angles = rng.uniform(-1, 1, 9)
    poses[:, 0, 0] = poses[:, 1, 1] = np.cos(angles)
    poses[:, 1, 0] = np.sin(angles)
    poses[:, 0, 1] = -np.sin(angles)
    poses[:, :3, 3] = rng.uniform(-1, 1, (9, 3))
    world = np.tile([0.3, -0.2, 1.0], (9, 1))
    world[3] += [shift_m, 0, 0]  # once it is seen elsewhere; the median stays
    camera = np.einsum("tji,tj->ti", poses[:, :3, :3], world - poses[:, :3, 3])
    rms, _ = centroid_wander(camera, poses)
    assert rms == pytest.approx(shift_m / 3, rel=1e-6)  # sqrt(shift^2 / 9)
    camera[3] = np.nan
    assert centroid_wander(camera, poses)[0] == pytest.approx(0, abs=1e-9)


def test_wander_of_an_object_that_was_never_seen_is_not_a_number() -> None:
    rms, p95 = centroid_wander(np.full((3, 3), np.nan), np.tile(np.eye(4), (3, 1, 1)))
    assert math.isnan(rms)
    assert math.isnan(p95)
