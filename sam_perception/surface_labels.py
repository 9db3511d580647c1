"""Floor and walls, as a semantic model sees them, for the frames of a stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import SemanticConfig
from sam_perception.discovery import SurfaceSegmenter
from sam_perception.frame import RgbdFrame


class SurfaceReader:
    """Asks a model `rate_hz` times a second; between two answers the last one stands.

    Planes are judged by the majority of their points, so that a camera may move a little meanwhile.

    Args:
        model: names pixels.
    """

    def __init__(self, model: SurfaceSegmenter) -> None:
        self._model = model
        self._labels: NDArray[np.uint8] | None = None
        self._asked_ns = 0

    def labels(self, frame: RgbdFrame, settings: SemanticConfig) -> NDArray[np.uint8]:
        """(H, W) `SurfaceLabel` values for a frame.

        Raises:
            ConfigError: the settings name no class of the model.
        """
        age_s = (frame.stamp_ns - self._asked_ns) * 1e-9
        shape = (frame.height, frame.width)
        if self._labels is None or self._labels.shape != shape or not 0 <= age_s < 1.0 / settings.rate_hz:
            self._labels = self._model.surfaces(frame.rgb, settings.floor, settings.wall)
            self._asked_ns = frame.stamp_ns
        return self._labels
