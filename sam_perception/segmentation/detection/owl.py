"""OWL-ViT and OWLv2 (Minderer et al., arXiv 2205.06230 and 2306.09683): boxes for texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.detections import Detection, detections_of, suppressed
from sam_perception.segmentation.hardware import inferring
from sam_perception.segmentation.hub import load_image_processor, load_tokenizer, load_weights, model_type
from sam_perception.segmentation.pictures.pictures import corners_px


class Owl:
    """A `WordDetector`.

    Args:
        model: transformers' `Owlv2ForObjectDetection` or `OwlViTForObjectDetection`.
        image_processor: its preprocessing.
        tokenizer: its text's.
    """

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any) -> None:
        self._model, self._images, self._tokenizer = model, image_processor, tokenizer
        self._length = int(model.config.text_config.max_position_embeddings)
        self._padded = model.config.model_type == "owlv2"

    @classmethod
    def load(cls, folder: Path, device: str) -> Owl:
        """Of a checkpoint's folder; errors as `open_vocabulary.load_detector` has them."""
        from transformers import Owlv2ForObjectDetection, OwlViTForObjectDetection

        kind = Owlv2ForObjectDetection if model_type(folder) == "owlv2" else OwlViTForObjectDetection
        images, tokenizer = load_image_processor(folder), load_tokenizer(folder)
        return cls(load_weights(kind, folder, device), images, tokenizer)

    @inferring()
    def find(
        self,
        rgb: NDArray[np.uint8],
        texts: Sequence[str],
        *,
        box_threshold: float = 0.3,
        text_threshold: float = 0.25,
        nms_iou: float = 0.5,
    ) -> list[Detection]:
        """What a picture (H, W, 3) RGB shows of each of the texts, surest first; `text_threshold` has no meaning here.

        Longer texts are cut at what the model reads (16 tokens).
        """
        del text_threshold
        if not texts:
            return []
        device = self._model.device
        words = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self._length, return_tensors="pt"
        )
        pixels = self._images(images=[rgb], return_tensors="pt")["pixel_values"].to(device)
        output = self._model(
            pixel_values=pixels,
            input_ids=words["input_ids"].to(device),
            attention_mask=words["attention_mask"].to(device),
        )
        best, choice = (part.cpu().numpy() for part in output.logits[0].float().max(dim=1))  # of (Q, texts)
        scores = np.exp(-np.logaddexp(0.0, -best.astype(np.float64)))  # the sigmoid, without overflow
        height, width = rgb.shape[:2]
        # OWLv2 pads pictures to a square at the right and below; its boxes are shares of that square.
        side = float(max(width, height))
        boxes = corners_px(output.pred_boxes[0], side if self._padded else width, side if self._padded else height)
        rows = np.flatnonzero(scores >= box_threshold)
        found = detections_of([texts[i] for i in choice[rows].tolist()], scores[rows], boxes[rows], width, height)
        return suppressed(found, nms_iou)
