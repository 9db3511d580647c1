"""Guessed depth is brought to the sensor's scale, refused where that cannot be done, and as sure as it says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from worlds import CAMERA, Shape, World, look

from sam_perception.config import DepthConfig, GeometryConfig
from sam_perception.errors import DepthFitRefused, MalformedImage
from sam_perception.frame import DepthGuess, DepthSource, RgbdFrame
from sam_perception.geometry import lift
from sam_perception.geometry.depth_fit import fit_disparity, guess_by_fit, guess_unscaled
from sam_perception.geometry.guessed import depth_with_guess, frame_with_guess_as_depth

Depth = NDArray[np.float32]
SHAPES = tuple(Shape("box", (x, y, 0.0), (0.06, 0.06, 0.08)) for x in (-0.3, -0.1, 0.1, 0.3) for y in (-0.15, 0.1))
WORLD = World(SHAPES, look((0.0, -0.6, 0.5), (0.0, 0.0, 0.0)))
GEOMETRY, DEPTH = GeometryConfig(), DepthConfig(mode="fill", model="x")


@pytest.fixture(scope="module")
def truth() -> tuple[Depth, NDArray[np.intp]]:
    depth, ids = WORLD.render()
    return np.where(np.isfinite(depth), depth, 0).astype(np.float32), ids


def network_guess(depth: Depth, rng: np.random.Generator, scale: float, shift: float, error: float) -> Depth:
    """Inverse depth up to scale and shift, wrong by smooth bumps as networks are: `error` in 1/m."""
    import cv2

    bumps = cv2.GaussianBlur(rng.standard_normal((24, 32)).astype(np.float32), (0, 0), 1.0)
    bumps = cv2.resize(bumps / bumps.std(), depth.shape[::-1], interpolation=cv2.INTER_CUBIC)
    with np.errstate(divide="ignore"):
        inverse = np.where(depth > 0, 1.0 / depth, 0.05)
    return ((inverse + error * bumps - shift) / scale).astype(np.float32)


def sensed(depth: Depth, rng: np.random.Generator, holes: float = 0.3, wrong: float = 0.02) -> Depth:
    """Sensor noise, holes in patches, and some readings that are nonsense."""
    out = depth + rng.normal(0, 1, depth.shape).astype(np.float32) * GEOMETRY.depth_noise_m * depth**2
    out[np.kron(rng.random((24, 32)) < holes, np.ones((20, 20), bool))] = 0
    nonsense = (rng.random(depth.shape) < wrong) & (out > 0)
    out[nonsense] = rng.uniform(0.2, 5, np.count_nonzero(nonsense))
    return out.astype(np.float32)


@settings(max_examples=12, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-0.5, 1.0), error=st.floats(0.0, 0.03), seed=st.integers(0, 1000))
def test_an_unknown_scale_and_shift_are_found(
    truth: tuple[Depth, NDArray[np.intp]], scale: float, shift: float, error: float, seed: int
) -> None:
    depth, rng = truth[0], np.random.default_rng(seed)
    guess = network_guess(depth, rng, scale, shift, error)
    fit = fit_disparity(guess, sensed(depth, rng), DEPTH, GEOMETRY)
    filled = fit.depth_m(guess, GEOMETRY)
    known = (filled > 0) & (depth > 0)
    assert known.mean() > 0.9 * (depth > 0).mean()
    off = 1 / filled[known] - 1 / depth[known]
    assert float(np.sqrt(np.mean(off**2))) == pytest.approx(error, abs=0.15 * error + 0.003)
    assert fit.sigma == pytest.approx(max(error, 1e-3), rel=0.35, abs=0.006)


def test_gross_mistakes_of_the_sensor_do_not_pull_the_fit(truth: tuple[Depth, NDArray[np.intp]]) -> None:
    depth, rng = truth[0], np.random.default_rng(5)
    guess = network_guess(depth, rng, 30.0, 0.2, 0.01)
    fit = fit_disparity(guess, sensed(depth, rng, wrong=0.3), DEPTH, GEOMETRY)
    assert fit.scale == pytest.approx(30.0, rel=0.05)
    assert fit.shift == pytest.approx(0.2, abs=0.05)


def test_what_cannot_be_fitted_is_refused_with_the_reason(truth: tuple[Depth, NDArray[np.intp]]) -> None:
    depth, rng = truth[0], np.random.default_rng(1)
    guess, real = network_guess(depth, rng, 1.0, 0.0, 0.0), sensed(depth, rng)

    def refused(match: str, disparity: Depth = guess, measured: Depth = real) -> None:
        with pytest.raises(DepthFitRefused, match=match):
            fit_disparity(disparity, measured, DEPTH, GEOMETRY)

    few = np.zeros_like(real)
    few[::40, ::40] = real[::40, ::40]
    refused("needs 2.0% and 200 pixels", measured=few)
    corner = np.zeros_like(real)
    corner[400:479, 0:100] = depth[400:479, 0:100]
    refused("lies in . of 36 parts of the picture", measured=corner)
    refused("takes near for far", disparity=-guess)
    refused(
        "is off by .* of depth", disparity=rng.standard_normal(depth.shape).astype(np.float32) ** 2 + 1 / (depth + 1)
    )
    refused("the guess is the same everywhere", disparity=np.ones_like(guess))
    wall = np.full_like(real, 1.5) + rng.normal(0, 0.003, real.shape).astype(np.float32)
    refused(
        "lies at about 1.50 m",
        disparity=(1 / wall + rng.normal(0, 0.002, real.shape)).astype(np.float32),
        measured=wall,
    )
    with pytest.raises(DepthFitRefused, match=r"sensor has depth in 0\.0%"):
        fit_disparity(guess, np.zeros_like(real), DEPTH, GEOMETRY)


def test_guesses_beyond_what_the_sensor_vouches_for_stay_holes(truth: tuple[Depth, NDArray[np.intp]]) -> None:
    depth, rng = truth[0], np.random.default_rng(1)
    guess = network_guess(depth, rng, 1.0, 0.0, 0.0)
    guess[:40, :40] = 30.0  # nearer than anything that the sensor sees
    filled = fit_disparity(guess, sensed(depth, rng), DEPTH, GEOMETRY).depth_m(guess, GEOMETRY)
    assert not filled[:40, :40].any()


def frame_of(rgb_like: Depth, depth: Depth, guess: DepthGuess | None) -> RgbdFrame:
    return RgbdFrame(np.zeros((*rgb_like.shape, 3), np.uint8), depth, CAMERA, 1, "camera", guess)


@pytest.mark.parametrize("source", [DepthSource.FILLED, DepthSource.ESTIMATED])
def test_the_centroids_covariance_is_honest(truth: tuple[Depth, NDArray[np.intp]], source: DepthSource) -> None:
    """Errors along the ray in units of what the covariance says: their mean square is near one, not far above."""
    depth, ids = truth
    ratios, sensor_only = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        measured = sensed(depth, rng, holes=0.2, wrong=0.005)
        for number in (2, 5, 7):
            measured[ids == number] = 0  # glass: the sensor sees nothing of it
        guess = guess_by_fit(network_guess(depth, rng, 25.0, 0.1, 0.04), measured, source, DEPTH, GEOMETRY)
        frame = frame_of(depth, measured, guess)
        for number in (2, 5, 7):
            exact = lift(frame_of(depth, depth, None), ids == number, GEOMETRY)
            lifted = lift(frame, ids == number, GEOMETRY)
            assert lifted.centroid is not None
            assert lifted.covariance is not None
            assert exact.centroid is not None
            assert exact.covariance is not None
            ray = exact.centroid / np.linalg.norm(exact.centroid)
            error = float((lifted.centroid - exact.centroid) @ ray)
            ratios.append(error**2 / float(ray @ lifted.covariance @ ray))
            sensor_only.append(error**2 / float(ray @ exact.covariance @ ray))
    assert 0.2 < float(np.mean(ratios)) < 2.0
    assert float(np.mean(sensor_only)) > 20  # with the sensor's covariance it would be far from honest


def test_the_sensor_goes_before_the_guess_where_it_sees(truth: tuple[Depth, NDArray[np.intp]]) -> None:
    depth, ids = truth
    measured = depth.copy()
    measured[:, ::2] = 0
    guess = DepthGuess(np.where(depth > 0, depth * 1.1, 0).astype(np.float32), DepthSource.FILLED, 0.05)
    everywhere = (slice(None), slice(None))
    filled, guessed = depth_with_guess(frame_of(depth, measured, guess), everywhere, GEOMETRY)
    assert guessed is not None
    assert not guessed[:, 1::2].any()
    np.testing.assert_array_equal(filled[:, 1::2], measured[:, 1::2])
    np.testing.assert_allclose(filled[:, ::2], 1.1 * depth[:, ::2])
    instead = dataclasses.replace(guess, source=DepthSource.ESTIMATED)
    estimated, guessed = depth_with_guess(frame_of(depth, measured, instead), everywhere, GEOMETRY)
    assert guessed is not None
    np.testing.assert_allclose(estimated, 1.1 * depth)
    frame = frame_with_guess_as_depth(frame_of(depth, measured, guess), GEOMETRY)
    np.testing.assert_array_equal(frame.depth_m, filled)
    mask = ids == 3
    close = dataclasses.replace(guess, depth_m=(1.005 / 1.1 * guess.depth_m).astype(np.float32))
    half, filled_up, whole = (
        lift(frame, mask, GEOMETRY)
        for frame in (frame_of(depth, measured, None), frame_of(depth, measured, close), frame_of(depth, depth, None))
    )
    assert half.valid_depth_share == pytest.approx(0.5, abs=0.03)
    assert filled_up.valid_depth_share > 0.95
    assert filled_up.covariance is not None
    assert whole.covariance is not None
    # Half of the points are off together by a draw of 0.05 / m: 0.5 * 0.05 * z^2 along the ray.
    assert filled_up.centroid is not None
    ray = filled_up.centroid / np.linalg.norm(filled_up.centroid)
    added = float(ray @ (filled_up.covariance - whole.covariance) @ ray)
    expected = (0.5 * 0.05 * filled_up.centroid[2] ** 2 / ray[2]) ** 2
    assert added == pytest.approx(expected, rel=0.15)


def test_metres_taken_at_their_word_are_as_unsure_as_the_setting_says(truth: tuple[Depth, NDArray[np.intp]]) -> None:
    depth = np.where(truth[0] > 0, truth[0], 1).astype(np.float32)
    guess = guess_unscaled(1 / depth, DepthSource.ESTIMATED, DEPTH, GEOMETRY)
    np.testing.assert_allclose(guess.depth_m, depth, rtol=1e-5)
    assert guess.sigma_m(2.0) == pytest.approx(0.5)
    assert dataclasses.replace(guess, disparity_sigma=0.1).sigma_m(2.0) == pytest.approx(np.hypot(0.5, 0.4))


def test_a_guess_of_another_size_is_refused(truth: tuple[Depth, NDArray[np.intp]]) -> None:
    with pytest.raises(MalformedImage, match="guessed depth is"):
        frame_of(truth[0], truth[0], DepthGuess(np.ones((4, 4), np.float32), DepthSource.FILLED, 0.1))
