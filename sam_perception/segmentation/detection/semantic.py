"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.detections import names_of
from sam_perception.errors import ConfigError
from sam_perception.scene import SurfaceLabel
from sam_perception.segmentation.hardware import inferring
from sam_perception.segmentation.hub import SEMANTIC, find_folder, load_image_processor, load_weights, model_type


class SemanticSegmenter:
    """Names every pixel's class.

    Args:
        model: transformers' `...ForSemanticSegmentation`, Mask2Former or MaskFormer.
        image_processor: its preprocessing and postprocessing.
    """

    def __init__(self, model: Any, image_processor: Any) -> None:
        self._model, self._images = model, image_processor
        self._names = {int(number): str(name).lower() for number, name in model.config.id2label.items()}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in lower case, in the order of their numbers."""
        return tuple(self._names.values())

    @inferring()
    def numbers(self, rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
        """(H, W) number of each pixel's class in a picture (H, W, 3) RGB."""
        made = self._images(images=[rgb], return_tensors="pt")
        output = self._model(pixel_values=made["pixel_values"].to(self._model.device))
        answer = self._images.post_process_semantic_segmentation(output, target_sizes=[rgb.shape[:2]])[0]
        return np.asarray(answer.cpu().numpy(), np.int64)

    def surfaces(self, rgb: NDArray[np.uint8], floor: str, wall: str) -> NDArray[np.uint8]:
        """(H, W) `SurfaceLabel` values of a picture, by lists of the model's class names for floor and wall.

        A class such as "door;double door" goes by any of its names.

        Raises:
            ConfigError: none of the names is one of the model's classes.
        """
        table = np.zeros(max(self._names, default=0) + 1, np.uint8)
        wanted = {SurfaceLabel.FLOOR: names_of(floor), SurfaceLabel.WALL: names_of(wall)}
        for number, name in self._names.items():
            own = {part.strip() for part in name.replace(";", ",").split(",")}
            for label, names in wanted.items():
                if own & names:
                    table[number] = label.value
        if not table.any():
            raise ConfigError(
                f"semantic.floor {floor!r} and semantic.wall {wall!r} name no class of the model; it has "
                f"{', '.join(self.classes[:40])}"
            )
        return np.asarray(table[np.clip(self.numbers(rgb), 0, len(table) - 1)])


def load_semantic(name_or_dir: str | Path, device: str = "auto", *, allow_download: bool = False) -> SemanticSegmenter:
    """A SegFormer, UPerNet, Mask2Former, MaskFormer, MobileViT, MobileNetV2 (DeepLabV3), DPT or BEiT.

    Raises:
        ModelNotFound: not on this machine; says how to get it.
        CheckpointError: files are missing or damaged.
        ModelError: a model for something else.
        ConfigError: no such device.
    """
    import transformers

    folder = find_folder(name_or_dir, SEMANTIC, allow_download=allow_download)
    kind = model_type(folder)
    auto = transformers.AutoModelForSemanticSegmentation
    if kind == "mask2former":
        auto = transformers.AutoModelForUniversalSegmentation
    elif kind == "maskformer":
        auto = transformers.MaskFormerForInstanceSegmentation
    return SemanticSegmenter(load_weights(auto, folder, device), load_image_processor(folder))
