"""Positions with covariances: how far apart they are, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Place:
    """A position in a common frame, as one camera has it."""

    position_m: Matrix  # (3,)
    covariance: Matrix  # (3, 3) square metres
    common_from_camera: Matrix  # (4, 4)


def mahalanobis(a: Place, b: Place) -> float:
    """Standard deviations between two positions whose errors have nothing to do with one another.

    Its square is distributed as chi-squared with 3 degrees of freedom where both are the same place: 99 % lie
    below 3.37.
    """
    apart = a.position_m - b.position_m
    return float(np.sqrt(apart @ np.linalg.solve(a.covariance + b.covariance, apart)))


def fused(places: Sequence[Place]) -> Place:
    """The best linear estimate from independent ones: each weighs by the inverse of its covariance."""
    if len(places) == 1:
        return places[0]
    weights = [np.linalg.inv(place.covariance) for place in places]
    covariance = np.linalg.inv(np.sum(weights, axis=0))
    position = covariance @ np.sum([w @ p.position_m for w, p in zip(weights, places, strict=True)], axis=0)
    return Place(position, (covariance + covariance.T) / 2, places[0].common_from_camera)
