"""Depth from colour alone, up to what a fit to real depth has to find out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from sam_perception.segmentation.hardware import inferring
from sam_perception.segmentation.hub import DEPTH, find_folder, load_image_processor, load_weights

# These say metres. DPT and Depth Anything say inverse depth of unknown scale and shift, unless their config
# says that the numbers are metres (Depth Anything: depth_estimation_type).
_METRIC_TYPES = ("glpn",)
_NEAREST = 1e-3  # metres; keeps inverse depth finite


class MonocularDepth:
    """Guesses inverse depth.

    Args:
        model: transformers' `...ForDepthEstimation`.
        image_processor: its preprocessing.
    """

    def __init__(self, model: Any, image_processor: Any) -> None:
        self._model, self._images = model, image_processor
        config = model.config
        self._metric = config.model_type in _METRIC_TYPES
        self._metric |= getattr(config, "depth_estimation_type", "relative") == "metric"

    @property
    def metric(self) -> bool:
        """Whether the guess is in 1/metres; otherwise its scale and shift are unknown, and differ by picture."""
        return self._metric

    @inferring()
    def disparity(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W) inverse depth of a picture (H, W, 3) RGB: larger is nearer."""
        pixels = self._images(images=[rgb], return_tensors="pt")["pixel_values"].to(self._model.device)
        predicted = self._model(pixel_values=pixels).predicted_depth
        full = functional.interpolate(predicted[:, None].float(), size=rgb.shape[:2], mode="bilinear")[0, 0]
        if self._metric:
            full = full.clamp(min=_NEAREST).reciprocal()
        return np.asarray(full.cpu().numpy())


def load_mono_depth(name_or_dir: str | Path, device: str = "auto", *, allow_download: bool = False) -> MonocularDepth:
    """A Depth Anything (1 or 2), DPT (MiDaS) or GLPN.

    Raises:
        ModelNotFound: not on this machine; says how to get it.
        CheckpointError: files are missing or damaged.
        ModelError: a model for something else.
        ConfigError: no such device.
    """
    from transformers import AutoModelForDepthEstimation

    folder = find_folder(name_or_dir, DEPTH, allow_download=allow_download)
    return MonocularDepth(load_weights(AutoModelForDepthEstimation, folder, device), load_image_processor(folder))
