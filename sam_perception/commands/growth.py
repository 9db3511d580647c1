"""Whether something grows: a slope that a few odd samples do not bend, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WARM_UP = 0.25  # share of a run in which allocators and caches fill up
_CONFIDENCE = 0.95
_FEWEST = 8  # samples that say anything about a slope


@dataclass(frozen=True)
class Growth:
    """One quantity over a run, its warm-up left out."""

    name: str
    unit: str
    median: float
    slope_per_h: float  # Theil and Sen's: the median of the slopes between all pairs of samples
    low_per_h: float  # of its 95 % confidence interval
    high_per_h: float
    growth: float  # over the time looked at, from that slope
    tolerance: float  # growth that does not count

    @property
    def grows(self) -> bool:
        """Surely upwards, and by more than is tolerated."""
        return self.low_per_h > 0 and self.growth > self.tolerance

    @property
    def sentence(self) -> str:
        """For people."""
        verdict = "GROWS" if self.grows else "does not grow"
        sure = f"95 %: {self.low_per_h:+.2f} to {self.high_per_h:+.2f}"
        return (
            f"{verdict}: {self.slope_per_h:+.2f} {self.unit}/h ({sure}), {self.growth:+.1f} {self.unit} in all, "
            f"{self.tolerance:.3g} allowed"
        )


def growth_of(
    name: str, unit: str, elapsed_s: NDArray[np.float64], values: NDArray[np.float64], tolerance: float
) -> Growth:
    """The growth of (N,) `values` at (N,) times; a run with fewer than 8 samples after its warm-up has none to tell.

    Source: H. Theil 1950, P. K. Sen 1968; as in scipy.
    """
    from scipy.stats import theilslopes

    kept = elapsed_s >= elapsed_s[0] + WARM_UP * (elapsed_s[-1] - elapsed_s[0])
    hours, seen = elapsed_s[kept] / 3600.0, values[kept]
    if len(seen) < _FEWEST:
        nothing = float("nan")
        return Growth(name, unit, float(np.median(values)), nothing, nothing, nothing, nothing, tolerance)
    slope, _, low, high = (float(value) for value in theilslopes(seen, hours, _CONFIDENCE))
    span_h = float(hours[-1] - hours[0])
    return Growth(name, unit, float(np.median(seen)), slope, low, high, slope * span_h, tolerance)
