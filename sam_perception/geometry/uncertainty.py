"""How far a centroid can be trusted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GeometryConfig
from sam_perception.geometry.depth import depth_sigma_m

# Depth readings closer than about five pixels share a matching window, so that one independent
# reading stands for about 25 pixels.
CORRELATED_PIXELS = 25.0
# Part of the noise that all pixels of an object share in a frame (calibration, temperature,
# texture), as standard deviations: it does not average out however many pixels there are.
COMMON_NOISE = 0.5
# Keeps the matrix invertible for a single point or a line; 10 micrometres.
_FLOOR_M2 = 1e-10


def centroid_covariance(
    points: NDArray[np.float32],
    centroid: NDArray[np.float64],
    missing_share: float,
    missing_offset_m: NDArray[np.float64],
    settings: GeometryConfig,
) -> NDArray[np.float64]:
    """Covariance (3, 3), square metres, of the centroid of `points` (N, 3) about the visible surface's.

    The sum of four parts, with N_eff = max(1, N / 25) independent readings, S the points' own
    covariance, r = p / z the ray and s(z) = `depth_noise_m` z^2 the noise of one reading:

    1. S / N_eff: which pixels are in the mask is a matter of chance at its border. For a disc of any
       radius R in pixels this is (R/2)^2 / (pi R^2 / 25), so that it stands for a centroid shifted
       by about 1.4 px: a border that is off by two pixels or so, as network masks are.
    2. mean(s(z)^2 r r^T) / N_eff: noise moves each point along its ray, and averages out.
    3. 0.25 s(z_c)^2 r_c r_c^T, along the centroid's ray: noise that all points share.
    4. m^2 (S + d d^T), with m the share of the mask's pixels without depth: the surface's centroid
       is (1 - m) of the seen and m of the unseen pixels' one, so that the error is m times
       the distance between the two. Of that we know the part across the rays: d, to the unseen
       pixels' rays at the centroid's depth (`missing_offset_m` (3,)); the rest is taken to be
       no wider than the seen part.
    """
    count = len(points)
    independent = max(1.0, count / CORRELATED_PIXELS)
    columns = np.array(points.T, dtype=np.float64, order="C")
    along_rays = columns * columns[2]  # s(z) r = depth_noise_m z p
    own_noise = settings.depth_noise_m**2 * _outer_sum(along_rays) / count
    columns -= centroid[:, None]
    spread = _outer_sum(columns) / count
    ray = centroid / centroid[2]
    common = (COMMON_NOISE * float(depth_sigma_m(float(centroid[2]), settings))) ** 2 * np.outer(ray, ray)
    unseen = missing_share**2 * (spread + np.outer(missing_offset_m, missing_offset_m))
    covariance = (spread + own_noise) / independent + common + unseen
    return np.asarray(0.5 * (covariance + covariance.T) + _FLOOR_M2 * np.eye(3))


def _outer_sum(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of v v^T over the columns v of (3, N); without the BLAS, whose threads cost more than they save here."""
    total: NDArray[np.float64] = np.einsum("in,jn->ij", columns, columns)
    return total
