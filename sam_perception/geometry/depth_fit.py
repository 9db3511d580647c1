"""A guess of inverse depth, brought to metres by the sensor's own readings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import DepthConfig, GeometryConfig
from sam_perception.errors import DepthFitRefused
from sam_perception.frame import DepthGuess, DepthSource
from sam_perception.geometry.depth import depth_valid

_SAMPLES = 4000  # readings the fit is made from at most
_LEAST_SAMPLES = 200
_HYPOTHESES = 160
_ROUNDS = 8  # of reweighting
_HUBER = 1.5  # standard deviations from which on readings count less
_TO_SIGMA = 1.4826  # median of absolute residuals to standard deviation, for normal noise
_TAIL = 5.0  # standard deviations at which residuals are cut: what lies farther is the sensor's mistake
_BLOCKS = 6  # along each side of the picture
_LEAST_BLOCKS = 4  # of these need readings
_LEAST_SPREAD = 3.0  # standard deviations that the readings' inverse depths must span
_BEYOND = 0.25  # of the range of guesses that has readings: as far may be gone beyond it
_SEED = 20_11


@dataclass(frozen=True)
class DepthFit:
    """Inverse depth = `scale` times the guess + `shift`, for guesses from `low` to `high`."""

    scale: float
    shift: float  # 1/m
    sigma: float  # 1/m, standard deviation of inverse depth about the fit
    low: float
    high: float

    def depth_m(self, disparity: NDArray[np.float32], settings: GeometryConfig) -> NDArray[np.float32]:
        """(H, W) metres of guesses (H, W); 0 where the fit says nothing, or nothing within the settings' range."""
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = 1.0 / (self.scale * disparity + self.shift)
            known = (disparity >= self.low) & (disparity <= self.high) & depth_valid(depth, settings)
        return np.where(known, depth, np.float32(0)).astype(np.float32)


def fit_disparity(
    disparity: NDArray[np.float32], depth_m: NDArray[np.float32], settings: DepthConfig, geometry: GeometryConfig
) -> DepthFit:
    """Scale and shift that bring a guess of inverse depth (H, W) to the sensor's depth (H, W).

    In inverse depth, where triangulating sensors err evenly and where monocular networks are trained up to
    scale and shift (Ranftl et al., arXiv 1907.01341): the pair of readings whose line has the least median
    residual (Rousseeuw 1984), then least squares with Huber's weights about it. The residuals' root mean
    square tells how far a guess may be off.

    Raises:
        DepthFitRefused: too few readings or in too few places, all at one distance, or the guess does not
            fit them.
    """
    valid = depth_valid(depth_m, geometry) & np.isfinite(disparity)
    _check_spread(valid, settings)
    at = np.flatnonzero(valid)
    at = at[:: max(1, at.size // _SAMPLES)]
    guess = disparity.ravel()[at].astype(np.float64)
    inverse = 1.0 / depth_m.ravel()[at].astype(np.float64)
    scale, shift, sigma = _robust_line(guess, inverse)
    middle_m = float(np.median(1.0 / inverse))
    if scale <= 0:
        raise DepthFitRefused("the guess takes near for far where the sensor has depth: no scale can mend that")
    if sigma * middle_m > settings.max_relative_error:
        raise DepthFitRefused(
            f"the guess is off by {sigma * middle_m:.0%} of depth where the sensor has some, "
            f"depth.max_relative_error is {settings.max_relative_error:.0%}: raise it, or use another depth.model"
        )
    low, high = np.quantile(guess, (0.02, 0.98))
    if (high - low) * scale < _LEAST_SPREAD * sigma:
        raise DepthFitRefused(
            f"all that the sensor sees lies at about {middle_m:.2f} m, which tells nothing of other distances"
        )
    beyond = _BEYOND * (high - low)
    return DepthFit(scale, shift, sigma, float(low - beyond), float(high + beyond))


def guess_by_fit(
    disparity: NDArray[np.float32],
    depth_m: NDArray[np.float32],
    source: DepthSource,
    settings: DepthConfig,
    geometry: GeometryConfig,
) -> DepthGuess:
    """The guess in metres, with what the fit says of its errors; errors as `fit_disparity`."""
    fit = fit_disparity(disparity, depth_m, settings, geometry)
    return DepthGuess(fit.depth_m(disparity, geometry), source, disparity_sigma=fit.sigma)


def guess_unscaled(
    disparity: NDArray[np.float32], source: DepthSource, settings: DepthConfig, geometry: GeometryConfig
) -> DepthGuess:
    """The guess of a model that says metres, taken at its word, with `unscaled_error`."""
    fit = DepthFit(1.0, 0.0, 0.0, -np.inf, np.inf)
    return DepthGuess(fit.depth_m(disparity, geometry), source, 0.0, relative_sigma=settings.unscaled_error)


def _check_spread(valid: NDArray[np.bool_], settings: DepthConfig) -> None:
    count, share = int(np.count_nonzero(valid)), float(valid.mean())
    if count < _LEAST_SAMPLES or share < settings.min_valid_share:
        raise DepthFitRefused(
            f"the sensor has depth in {share:.1%} of the picture ({count} pixels), the fit needs "
            f"{settings.min_valid_share:.1%} and {_LEAST_SAMPLES} pixels: see depth.min_valid_share"
        )
    rows, columns = (np.linspace(0, n, _BLOCKS + 1).astype(int)[:-1] for n in valid.shape)
    counts = np.add.reduceat(np.add.reduceat(valid.astype(np.int64), rows, axis=0), columns, axis=1)
    blocks = int(np.count_nonzero(counts >= _LEAST_SAMPLES // (2 * _LEAST_BLOCKS)))
    if blocks < _LEAST_BLOCKS:
        raise DepthFitRefused(
            f"the sensor's depth lies in {blocks} of {_BLOCKS * _BLOCKS} parts of the picture, the fit needs "
            f"{_LEAST_BLOCKS}: one corner does not tell the scale of the rest"
        )


def _robust_line(guess: NDArray[np.float64], inverse: NDArray[np.float64]) -> tuple[float, float, float]:
    """Scale, shift and standard deviation of the line through most of the points (N,), (N,)."""
    rng = np.random.default_rng(_SEED)
    first, second = rng.integers(0, guess.size, (2, _HYPOTHESES))
    step = guess[second] - guess[first]
    usable = np.abs(step) > 1e-9 * max(float(np.ptp(guess)), 1e-12)
    if not usable.any():
        raise DepthFitRefused("the guess is the same everywhere where the sensor has depth: nothing can be fitted")
    scales = (inverse[second] - inverse[first])[usable] / step[usable]
    shifts = inverse[first][usable] - scales * guess[first][usable]
    some = rng.integers(0, guess.size, min(guess.size, 800))
    residuals = np.abs(scales[:, None] * guess[some] + shifts[:, None] - inverse[some])
    best = int(np.median(residuals, axis=1).argmin())
    scale, shift = float(scales[best]), float(shifts[best])
    for _ in range(_ROUNDS):
        residual = np.abs(scale * guess + shift - inverse)
        sigma = max(_TO_SIGMA * float(np.median(residual)), 1e-9)
        weight = np.where(residual > _TAIL * sigma, 0.0, np.minimum(1.0, _HUBER * sigma / np.maximum(residual, 1e-12)))
        total = weight.sum()
        mean_guess, mean_inverse = weight @ guess / total, weight @ inverse / total
        spread = weight @ np.square(guess - mean_guess)
        if spread <= 0:
            break
        scale = float(weight @ ((guess - mean_guess) * (inverse - mean_inverse)) / spread)
        shift = float(mean_inverse - scale * mean_guess)
    residual = np.abs(scale * guess + shift - inverse)
    sigma = max(_TO_SIGMA * float(np.median(residual)), 1e-9)
    return scale, shift, float(np.sqrt(np.mean(np.square(np.minimum(residual, _TAIL * sigma)))))
