"""The models beside the tracker's, as far as the settings name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import PerceptionConfig
from sam_perception.detections import Detection
from sam_perception.errors import ConfigError


class WordDetector(Protocol):
    """Finds things by words; see `segmentation.open_vocabulary`."""

    def find(
        self, rgb: NDArray[np.uint8], texts: Sequence[str], *,
        box_threshold: float = 0.3, text_threshold: float = 0.25, nms_iou: float = 0.5,
    ) -> list[Detection]:  # fmt: skip
        """What a picture (H, W, 3) shows of each text, surest first, labelled with the text."""


class ObjectDetector(Protocol):
    """Finds things of fixed classes; see `segmentation.object_detector`."""

    def detect(self, rgb: NDArray[np.uint8], *, threshold: float = 0.5, nms_iou: float = 0.7) -> list[Detection]:
        """What a picture (H, W, 3) shows, surest first."""


class SurfaceSegmenter(Protocol):
    """Tells floor and walls; see `segmentation.semantic`."""

    def surfaces(self, rgb: NDArray[np.uint8], floor: str, wall: str) -> NDArray[np.uint8]:
        """(H, W) `SurfaceLabel` values."""


class DepthModel(Protocol):
    """Guesses inverse depth from colour; see `segmentation.mono_depth`."""

    @property
    def metric(self) -> bool:
        """Whether the guess is in 1/metres."""

    def disparity(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W), larger is nearer."""


@dataclass(frozen=True)
class Models:
    """What is there; None: not asked for."""

    words: WordDetector | None = None
    detector: ObjectDetector | None = None
    semantic: SurfaceSegmenter | None = None
    depth: DepthModel | None = None


def load_models(config: PerceptionConfig) -> Models:
    """Load what the settings name; nothing heavy is imported where they name nothing.

    Raises:
        ModelNotFound, CheckpointError, ModelError: a model cannot be loaded.
        ConfigError: no such device, or a depth mode without a model.
    """
    device = config.device
    words, detector, semantic, depth = (None,) * 4
    if config.depth.mode != "sensor" and not config.depth.model:
        raise ConfigError(
            f"depth.mode is {config.depth.mode!r} and depth.model is empty: name a model that guesses depth, "
            "such as depth-anything/Depth-Anything-V2-Small-hf, or set depth.mode to sensor"
        )
    if config.words.model:
        from sam_perception.segmentation.detection.open_vocabulary import load_detector

        words = load_detector(config.words.model, device)
    if config.detector.model:
        from sam_perception.segmentation.detection.object_detector import load_object_detector

        detector = load_object_detector(config.detector.model, device)
    if config.semantic.model:
        from sam_perception.segmentation.detection.semantic import load_semantic

        semantic = load_semantic(config.semantic.model, device)
    if config.depth.mode != "sensor":
        from sam_perception.segmentation.mono_depth import load_mono_depth

        depth = load_mono_depth(config.depth.model, device)
    return Models(words, detector, semantic, depth)
