"""Streaming segmentation: SAM 2.1 models, the memory bank and the tracker around them.

Importing this room is cheap too: torch and transformers come with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam_perception.segmentation.detection.object_detector import load_object_detector
    from sam_perception.segmentation.detection.open_vocabulary import load_detector
    from sam_perception.segmentation.detection.semantic import load_semantic
    from sam_perception.segmentation.loading import load_tracker
    from sam_perception.segmentation.models import MODEL_NAMES, load_model
    from sam_perception.segmentation.mono_depth import load_mono_depth
    from sam_perception.segmentation.pictures.everything import GeneratedMask, MaskGenerator
    from sam_perception.segmentation.pictures.image_models import IMAGE_MODEL_NAMES, load_image_model
    from sam_perception.segmentation.pictures.image_predictor import ImagePredictor, Prediction
    from sam_perception.segmentation.pictures.region_finder import ModelRegions
    from sam_perception.segmentation.policy import FifoPolicy, MemoryPolicy
    from sam_perception.segmentation.tracker import StreamingTracker
    from sam_perception.segmentation.tracks import Tracks

__all__ = [
    "IMAGE_MODEL_NAMES",
    "MODEL_NAMES",
    "FifoPolicy",
    "GeneratedMask",
    "ImagePredictor",
    "MaskGenerator",
    "MemoryPolicy",
    "ModelRegions",
    "Prediction",
    "StreamingTracker",
    "Tracks",
    "load_detector",
    "load_image_model",
    "load_model",
    "load_mono_depth",
    "load_object_detector",
    "load_semantic",
    "load_tracker",
]

_HOMES = {
    "MODEL_NAMES": "models",
    "load_model": "models",
    "GeneratedMask": "pictures.everything",
    "MaskGenerator": "pictures.everything",
    "IMAGE_MODEL_NAMES": "pictures.image_models",
    "load_image_model": "pictures.image_models",
    "ImagePredictor": "pictures.image_predictor",
    "Prediction": "pictures.image_predictor",
    "ModelRegions": "pictures.region_finder",
    "load_tracker": "loading",
    "load_detector": "detection.open_vocabulary",
    "load_object_detector": "detection.object_detector",
    "load_semantic": "detection.semantic",
    "load_mono_depth": "mono_depth",
    "FifoPolicy": "policy",
    "MemoryPolicy": "policy",
    "StreamingTracker": "tracker",
    "Tracks": "tracks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
