"""Where a frame's guessed depth takes the place of the sensor's, and what that means for what is measured in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GeometryConfig
from sam_perception.frame import DepthGuess, DepthSource, RgbdFrame
from sam_perception.geometry.depth import depth_valid

Window = tuple[slice, slice]


def depth_with_guess(
    frame: RgbdFrame, window: Window, settings: GeometryConfig
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Depth (h, w) of a window of the frame, guesses included, and which of it is guessed; None: nothing is."""
    depth_m, guess = frame.depth_m[window], frame.guess
    if guess is None:
        return depth_m, None
    guesses = guess.depth_m[window]
    guessed = guesses > 0
    if guess.source is DepthSource.FILLED:
        guessed &= ~depth_valid(depth_m, settings)
        return np.where(guessed, guesses, depth_m), guessed
    return guesses, guessed


def frame_with_guess_as_depth(frame: RgbdFrame, settings: GeometryConfig) -> RgbdFrame:
    """The frame with guesses in the place of depth, for what cannot tell the two apart."""
    depth_m, _ = depth_with_guess(frame, (slice(None), slice(None)), settings)
    return replace(frame, depth_m=depth_m)


def guess_covariance(guess: DepthGuess, guessed_share: float, centroid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance (3, 3), square metres, that guesses add to a centroid: along its ray, not averaged over pixels.

    A network is wrong by whole surfaces, so that the share of the points that is guessed is off together
    by one draw of the fit's residual.
    """
    ray = centroid / centroid[2]
    return np.asarray((guessed_share * guess.sigma_m(float(centroid[2]))) ** 2 * np.outer(ray, ray))
