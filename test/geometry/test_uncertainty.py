from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from geometry_cases import frame_of, pinhole
from scipy.stats import chi2

from sam_perception.config import GeometryConfig
from sam_perception.geometry import centroid_covariance, lift
from sam_perception.geometry.uncertainty import COMMON_NOISE

SETTINGS = GeometryConfig()
NOWHERE = np.zeros(3)


def cloud(count: int = 4000, z: float = 1.0, spread_m: float = 0.03) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.normal([0.1, -0.05, z], spread_m, (count, 3)).astype(np.float32)


def covariance(points: np.ndarray, missing: float = 0.0, settings: GeometryConfig = SETTINGS) -> np.ndarray:
    return centroid_covariance(points, points.mean(axis=0, dtype=np.float64), missing, NOWHERE, settings)


def test_grows_with_the_sensors_noise() -> None:
    traces = [np.trace(covariance(cloud(), settings=GeometryConfig(depth_noise_m=n))) for n in (0, 0.001, 0.003, 0.01)]
    assert (np.diff(traces) > 0).all()


def test_grows_with_the_distance() -> None:
    along = [covariance(cloud(z=z, spread_m=0.005))[2, 2] for z in (0.5, 1.0, 2.0, 4.0)]
    assert (np.diff(along) > 0).all()
    # Where noise is most of it, the standard deviation grows with the square.
    assert np.sqrt(along[3] / along[2]) == pytest.approx(4.0, rel=0.05)


def test_grows_with_the_missing_share() -> None:
    found = [covariance(cloud(), missing) for missing in (0.0, 0.1, 0.3, 0.6, 0.9)]
    assert all((np.linalg.eigvalsh(b - a) > 0).all() for a, b in pairwise(found))
    # A surface of which nearly nothing is seen may be centred anywhere within the seen part's width.
    assert np.sqrt(found[-1][0, 0]) == pytest.approx(0.9 * 0.03, rel=0.1)


def test_missing_pixels_on_one_side_widen_that_direction() -> None:
    points = cloud()
    centre = points.mean(axis=0, dtype=np.float64)
    aside = centroid_covariance(points, centre, 0.3, np.array([0.1, 0.0, 0.0]), SETTINGS) - covariance(points, 0.3)
    np.testing.assert_allclose(aside, np.diag([(0.3 * 0.1) ** 2, 0, 0]), atol=1e-12)


def test_more_points_never_beat_the_noise_that_they_share() -> None:
    few, many, very_many = (covariance(cloud(n, z=2.0))[2, 2] for n in (100, 10_000, 1_000_000))
    shared = (COMMON_NOISE * SETTINGS.depth_noise_m * 4.0) ** 2
    assert few > many > very_many > shared
    assert very_many == pytest.approx(shared, rel=0.05)


@pytest.mark.parametrize(
    "points",
    [np.tile([[0.1, 0.2, 1.0]], (25, 1)), np.linspace([0, 0, 1], [0.1, 0, 1], 25), np.array([[0.0, 0.0, 0.5]])],
)
def test_is_symmetric_and_positive_definite_for_a_point_and_a_line(points: np.ndarray) -> None:
    found = covariance(points.astype(np.float32), settings=GeometryConfig(depth_noise_m=0.0))
    np.testing.assert_array_equal(found, found.T)
    assert (np.linalg.eigvalsh(found) > 0).all()


def noisy_depth(truth_m: np.ndarray, random: np.random.Generator, settings: GeometryConfig) -> np.ndarray:
    """The sensor as `centroid_covariance` describes it: noise in 5 x 5 px patches, and a part common to all."""
    height, width = truth_m.shape
    patches = random.normal(size=(height // 5 + 1, width // 5 + 1))
    noise = np.kron(patches, np.ones((5, 5)))[:height, :width]
    return truth_m + settings.depth_noise_m * truth_m**2 * (noise + COMMON_NOISE * random.normal())


def rounded_thing(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Depth and mask of a half ellipsoid about 10 cm across, somewhere in view."""
    row, column = np.mgrid[:240, :320]
    v, u, z = random.uniform(70, 170), random.uniform(80, 240), random.uniform(0.5, 1.5)
    across = 0.05 * 300 / z
    square = ((row - v) / across) ** 2 + ((column - u) / (across * random.uniform(0.7, 1.0))) ** 2
    mask = square < 1.0
    return np.where(mask, z - 0.05 * np.sqrt(np.clip(1.0 - square, 0, 1)), z + 0.5), mask


def nearly(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The mask, off by some two pixels, as a network's is."""
    down, right = np.rint(random.normal(0.0, 2.0, 2)).astype(int)
    return np.roll(mask, (down, right), axis=(0, 1))


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_covers_the_truth_in_a_monte_carlo(missing: float) -> None:
    """Truth: the centroid of the noise-free visible surface. An honest covariance holds it."""
    random = np.random.default_rng(7)
    camera = pinhole(320, 240, focal=300.0)
    exact = GeometryConfig(remove_flying_pixels=False, remove_outliers=False)
    distances = []
    for _ in range(100):
        truth_m, mask = rounded_thing(random)
        truth = lift(frame_of(truth_m, camera), mask, exact).centroid
        depth_m = noisy_depth(truth_m, random, SETTINGS)
        if missing:  # a strip without depth on one side, as shiny or dark parts and shadows leave it
            columns = np.flatnonzero(mask.any(axis=0))
            depth_m[:, columns[int((1.0 - random.uniform(0, missing)) * (len(columns) - 1)) :]] = 0.0
        found = lift(frame_of(depth_m, camera), nearly(mask, random), SETTINGS)
        assert truth is not None
        assert found.centroid is not None
        error = found.centroid - truth
        distances.append(error @ np.linalg.solve(found.covariance, error))
    # Of a matching covariance 95 % lie within the bound, and the mean is 3. Ours may be wider, as
    # some of its parts did not err here (depth is right along the border), not narrower, and not so
    # wide as to say nothing.
    assert np.mean(np.array(distances) < chi2.ppf(0.95, 3)) >= 0.93
    assert 0.3 < np.mean(distances) < 3.5
