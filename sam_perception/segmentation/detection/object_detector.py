"""Detectors of fixed classes: transformers' object detection (DETR family) and instance segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.detections import Detection, detections_of, suppressed
from sam_perception.segmentation.hardware import inferring
from sam_perception.segmentation.hub import DETECTION, find_folder, load_image_processor, load_weights, model_type

_WITH_MASKS = ("mask2former", "maskformer")


class ObjectDetector(Protocol):
    """Finds things of the classes that it was trained on."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""

    def detect(self, rgb: NDArray[np.uint8], *, threshold: float = 0.5, nms_iou: float = 0.7) -> list[Detection]:
        """What a picture (H, W, 3) RGB shows, surest first."""


def load_object_detector(
    name_or_dir: str | Path, device: str = "auto", *, allow_download: bool = False
) -> ObjectDetector:
    """A DETR, Conditional or Deformable DETR, RT-DETR, D-FINE, YOLOS, Mask2Former or MaskFormer.

    Raises:
        ModelNotFound: not on this machine; says how to get it.
        CheckpointError: files are missing or damaged.
        ModelError: a model for something else.
        ConfigError: no such device.
    """
    from transformers import AutoModelForObjectDetection, AutoModelForUniversalSegmentation
    from transformers import MaskFormerForInstanceSegmentation as MaskFormer

    folder = find_folder(name_or_dir, DETECTION, allow_download=allow_download)
    kind, images = model_type(folder), load_image_processor(folder)
    if kind in _WITH_MASKS:
        auto = MaskFormer if kind == "maskformer" else AutoModelForUniversalSegmentation
        return InstanceSegmenter(load_weights(auto, folder, device), images)
    return BoxDetector(load_weights(AutoModelForObjectDetection, folder, device), images)


class _NamedClasses:
    """A model, what prepares its pictures, and the names of its classes."""

    def __init__(self, model: Any, image_processor: Any) -> None:
        self._model, self._images = model, image_processor
        self._names = _names(model)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of their numbers."""
        return tuple(self._names.values())


class BoxDetector(_NamedClasses):
    """An `ObjectDetector` around a model of the DETR family; its own processor reads its scores.

    Args:
        model: transformers' `...ForObjectDetection`.
        image_processor: its preprocessing and postprocessing.
    """

    @inferring()
    def detect(self, rgb: NDArray[np.uint8], *, threshold: float = 0.5, nms_iou: float = 0.7) -> list[Detection]:
        """What a picture (H, W, 3) RGB shows, surest first."""
        output = self._model(**_inputs(self._images, self._model, rgb))
        height, width = rgb.shape[:2]
        answer = self._images.post_process_object_detection(
            output, threshold=threshold, target_sizes=torch.tensor([[height, width]], device=self._model.device)
        )[0]
        labels = [self._names.get(int(number), str(int(number))) for number in answer["labels"].tolist()]
        scores, boxes = answer["scores"].float().cpu().numpy(), answer["boxes"].double().cpu().numpy()
        return suppressed(detections_of(labels, scores, boxes, width, height), nms_iou)


class InstanceSegmenter(_NamedClasses):
    """An `ObjectDetector` whose detections have masks.

    Args:
        model: transformers' Mask2Former or MaskFormer.
        image_processor: its preprocessing and postprocessing.
    """

    @inferring()
    def detect(self, rgb: NDArray[np.uint8], *, threshold: float = 0.5, nms_iou: float = 0.7) -> list[Detection]:
        """What a picture (H, W, 3) RGB shows, surest first, each with its mask."""
        output = self._model(**_inputs(self._images, self._model, rgb))
        answer = self._images.post_process_instance_segmentation(
            output, threshold=threshold, target_sizes=[rgb.shape[:2]]
        )[0]
        numbers = answer["segmentation"].cpu().numpy()
        found = []
        for segment in answer["segments_info"]:
            mask = numbers == segment["id"]
            if mask.any():
                label = self._names.get(int(segment["label_id"]), str(int(segment["label_id"])))
                found.append(Detection(label, float(segment["score"]), box_of(mask), mask))
        return suppressed(found, nms_iou)


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """x_min, y_min, x_max, y_max of a mask's outermost pixel edges."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _inputs(image_processor: Any, model: Any, rgb: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
    made = image_processor(images=[rgb], return_tensors="pt")
    return {name: value.to(model.device) for name, value in made.items() if name in ("pixel_values", "pixel_mask")}


def _names(model: Any) -> dict[int, str]:
    return {int(number): str(name) for number, name in model.config.id2label.items()}
