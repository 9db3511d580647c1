"""Words by CLIP (Radford et al., arXiv 2103.00020): similarity of many crops of a picture to a text.

The light way: CLIP knows no boxes, so that it is shown overlapping square crops at several scales, each
judged against the texts and against what a background is called. Where crops of all scales agree, there
is a peak, and the peak is where one clicks. It tells things apart that differ much and lie apart; for
the rest there are detectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sam_perception.detections import Detection
from sam_perception.segmentation.hardware import inferring
from sam_perception.segmentation.hub import load_image_processor, load_tokenizer, load_weights

SCALES = (0.5, 0.33, 0.22)  # crops' sides, as shares of the picture's shorter side
BACKGROUNDS = ("a table", "a floor", "a wall", "an empty surface", "a blurry background")
_TEMPLATE = "a photo of {}"  # what CLIP was trained on
_CELL_PX = 8  # of the map in which crops are averaged
_MOST_PEAKS = 16  # per text


class ClipGrid:
    """A `WordDetector` whose detections have a `point`.

    Args:
        model: transformers' `CLIPModel`.
        image_processor: its preprocessing.
        tokenizer: its text's.
        batch: crops that go through the model at once.
    """

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any, batch: int = 32) -> None:
        self._model, self._images, self._tokenizer, self._batch = model, image_processor, tokenizer, batch

    @classmethod
    def load(cls, folder: Path, device: str) -> ClipGrid:
        """Of a checkpoint's folder; errors as `open_vocabulary.load_detector` has them."""
        from transformers import CLIPModel

        images, tokenizer = load_image_processor(folder), load_tokenizer(folder)
        return cls(load_weights(CLIPModel, folder, device), images, tokenizer)

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
        """Places in a picture (H, W, 3) RGB that look like each of the texts, surest first.

        A score is the mean over the scales of the probability that a crop shows the text and neither
        another text nor a background. `text_threshold` and `nms_iou` have no meaning here: peaks
        keep the smallest crop's distance.
        """
        del text_threshold, nms_iou
        if not texts:
            return []
        height, width = rgb.shape[:2]
        boxes, scales = crop_boxes(width, height)
        probabilities = self.probabilities([rgb[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes.tolist()], texts)
        found: list[Detection] = []
        for column, text in enumerate(texts):
            found += peaks(text, probabilities[:, column], boxes, scales, (height, width), box_threshold)
        return sorted(found, key=lambda d: -d.score)

    def probabilities(self, crops: Sequence[NDArray[np.uint8]], texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, texts) probability that each crop shows each text, beside the other texts and the backgrounds."""
        asked = " ".join(texts).lower()
        others = [name for name in BACKGROUNDS if name.split()[-1] not in asked]
        words = self._text_features([_TEMPLATE.format(name) for name in (*texts, *others)])
        scale = self._model.logit_scale.exp()
        rows = []
        for start in range(0, len(crops), self._batch):
            pixels = self._images(images=list(crops[start : start + self._batch]), return_tensors="pt")["pixel_values"]
            seen = self._model.vision_model(pixel_values=pixels.to(self._model.device)).pooler_output
            looks = functional.normalize(self._model.visual_projection(seen), dim=-1)
            rows.append((scale * looks @ words.T).softmax(dim=-1)[:, : len(texts)].float().cpu())
        return np.asarray(torch.cat(rows).numpy())

    def _text_features(self, texts: Sequence[str]) -> torch.Tensor:
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self._model.device)
        read = self._model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return functional.normalize(self._model.text_projection(read.pooler_output), dim=-1)


def crop_boxes(width: int, height: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Square crops that cover a picture at every scale with half of their side between them.

    Returns:
        (N, 4) x_min, y_min, x_max, y_max in whole pixels; (N,) number of the scale.
    """
    boxes, scales = [], []
    for number, share in enumerate(SCALES):
        side = max(round(share * min(width, height)), 1)
        lefts, tops = (
            np.unique(np.linspace(0, n - side, _steps(n, side)).round().astype(int)) for n in (width, height)
        )
        for top in tops.tolist():
            for left in lefts.tolist():
                boxes.append((left, top, left + side, top + side))
                scales.append(number)
    return np.array(boxes, np.int64), np.array(scales, np.int64)


def _steps(length: int, side: int) -> int:
    return int(np.ceil((length - side) / max(side / 2, 1))) + 1


def peaks(
    label: str,
    probability: NDArray[np.float32],
    boxes: NDArray[np.int64],
    scales: NDArray[np.int64],
    shape: tuple[int, int],
    threshold: float,
) -> list[Detection]:
    """Places of one text, from the probabilities (N,) of crops (N, 4)."""
    heat = heat_map(probability, boxes, scales, shape)
    side = int((boxes[:, 2] - boxes[:, 0]).min())
    found: list[Detection] = []
    for _ in range(_MOST_PEAKS):
        row, column = np.unravel_index(int(heat.argmax()), heat.shape)
        score = float(heat[row, column])
        if score < threshold:
            break
        x, y = _middle_of_plateau(heat, int(row), int(column))
        inside = (boxes[:, 0] <= x) & (boxes[:, 1] <= y) & (boxes[:, 2] > x) & (boxes[:, 3] > y)
        crop = boxes[int(np.where(inside, probability, -1.0).argmax())].astype(float).tolist()
        found.append(Detection(label, min(score, 1.0), tuple(crop), point=(x, y)))
        cv2.circle(heat, (int(x / _CELL_PX), int(y / _CELL_PX)), max(side // _CELL_PX, 1), -1.0, -1)
        heat[row, column] = -1.0  # also where the plateau's middle lies off it
    return found


def heat_map(
    probability: NDArray[np.float32], boxes: NDArray[np.int64], scales: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """(h, w) cells of 8 x 8 pixels: mean over the scales of the mean over the crops that cover a cell."""
    size = (-(-shape[0] // _CELL_PX), -(-shape[1] // _CELL_PX))
    total = np.zeros(size, np.float32)
    numbers = np.unique(scales)
    for number in numbers:
        sums, counts = np.zeros(size, np.float32), np.zeros(size, np.float32)
        for (x0, y0, x1, y1), p in zip(boxes[scales == number].tolist(), probability[scales == number], strict=True):
            cells = (slice(y0 // _CELL_PX, -(-y1 // _CELL_PX)), slice(x0 // _CELL_PX, -(-x1 // _CELL_PX)))
            sums[cells] += p
            counts[cells] += 1
        total += sums / np.maximum(counts, 1)
    return np.asarray(total / np.float32(len(numbers)))


def _middle_of_plateau(heat: NDArray[np.float32], row: int, column: int) -> tuple[float, float]:
    """Middle, x y in pixels, of the connected cells that are as high as this one."""
    high = (heat >= heat[row, column] - np.float32(1e-6)).astype(np.uint8)
    _, labels = cv2.connectedComponents(high)
    rows, columns = np.nonzero(labels == labels[row, column])
    return (float(columns.mean()) + 0.5) * _CELL_PX - 0.5, (float(rows.mean()) + 0.5) * _CELL_PX - 0.5
