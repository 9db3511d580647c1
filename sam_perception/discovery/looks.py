"""What something looked like: by the tracker's features, and by its colours."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

_BINS = 16  # along a* and b* of CIE L*a*b*
_MIDDLE = (64, 192)  # of 8 bits: colours of things lie near grey
_LIGHT_BINS = 8
_LIGHT_SHARE = 0.3  # of lightness, which changes with the light, beside colour
_BLUR = 0.8  # bins: a colour at a bin's edge belongs to both


@dataclass(frozen=True, eq=False)
class Looks:
    """Two unit vectors; what tells things apart in one need not do so in the other."""

    colours: Vector  # (K,) square roots of shares, so that their product is Bhattacharyya's coefficient
    features: Vector | None = None  # (C,) of the tracker; None where it cannot tell

    def likeness(self, other: Looks) -> float:
        """Product of the vectors' cosines, 0 to 1: as alike as both say."""
        alike = max(float(self.colours @ other.colours), 0.0)
        if self.features is not None and other.features is not None:
            alike *= max(float(self.features @ other.features), 0.0)
        return alike

    def blended(self, new: Looks, share: float) -> Looks:
        """These with a `share` of newer ones."""
        features = self.features if new.features is None else new.features
        if self.features is not None and new.features is not None:
            features = _unit((1 - share) * self.features + share * new.features)
        return Looks(_unit((1 - share) * self.colours + share * new.colours), features)


def looks_of(rgb: NDArray[np.uint8], mask: NDArray[np.bool_], features: Vector | None) -> Looks | None:
    """Looks of the pixels in a mask (H, W) of a picture (H, W, 3) RGB; None where the mask is empty.

    Args:
        rgb: the picture.
        mask: what is looked at.
        features: what the tracker says of it; None, or zeros, where it says nothing.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    crop, inside = np.ascontiguousarray(rgb[window]), mask[window].astype(np.uint8)
    lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB)
    # What lies outside of the range is left out by OpenCV, but belongs to the outermost bins.
    lab[..., 1:] = np.clip(lab[..., 1:], _MIDDLE[0], _MIDDLE[1] - 1)
    hues = cv2.calcHist([lab], [1, 2], inside, [_BINS, _BINS], [*_MIDDLE, *_MIDDLE])
    lights = cv2.calcHist([lab], [0], inside, [_LIGHT_BINS], [0, 256])
    parts = [
        np.sqrt(weight * cv2.GaussianBlur(part, (0, 0), _BLUR).ravel() / part.sum())
        for part, weight in ((hues, 1 - _LIGHT_SHARE), (lights, _LIGHT_SHARE))
    ]
    told = features is not None and bool(features.any())
    return Looks(_unit(np.concatenate(parts)), features if told else None)


def _unit(vector: NDArray[np.floating]) -> Vector:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float32)
