"""Detectors that are told in words what to look for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sam_perception.detections import Detection
from sam_perception.segmentation.hub import OPEN_VOCABULARY, find_folder, model_type


class WordDetector(Protocol):
    """Finds things by words."""

    def find(
        self,
        rgb: NDArray[np.uint8],
        texts: Sequence[str],
        *,
        box_threshold: float = 0.3,
        text_threshold: float = 0.25,
        nms_iou: float = 0.5,
    ) -> list[Detection]:
        """What a picture (H, W, 3) RGB shows of each of the texts, surest first; `label` is the text itself."""


def load_detector(name_or_dir: str | Path, device: str = "auto", *, allow_download: bool = False) -> WordDetector:
    """A Grounding DINO, an OWL-ViT or OWLv2, or a CLIP that is shown a grid of crops.

    Raises:
        ModelNotFound: not on this machine; says how to get it.
        CheckpointError: files are missing or damaged.
        ModelError: a model for something else.
        ConfigError: no such device.
    """
    folder = find_folder(name_or_dir, OPEN_VOCABULARY, allow_download=allow_download)
    kind = model_type(folder)
    if kind == "grounding-dino":
        from sam_perception.segmentation.detection.grounding_dino import GroundingDino

        return GroundingDino.load(folder, device)
    if kind == "clip":
        from sam_perception.segmentation.detection.clip_grid import ClipGrid

        return ClipGrid.load(folder, device)
    from sam_perception.segmentation.detection.owl import Owl

    return Owl.load(folder, device)
