"""Everything mode: a picture cut up as a whole, by asking about a grid of points.

The steps, their order and the parameters' names are those of SAM's automatic mask generator (Kirillov et al.,
"Segment Anything", 2023, section 5 and appendix B): points, three masks each, predicted IoU, stability, edges
of crops, non-maximum suppression of boxes within a crop, then between crops in favour of the smaller one.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.config import EverythingConfig
from sam_perception.scene import Region, Regions
from sam_perception.segmentation.pictures.amg_grid import Crop, crops_of, cut_by_crop
from sam_perception.segmentation.pictures.amg_masks import Candidates, candidates_of, without_specks
from sam_perception.segmentation.pictures.image_networks import (
    EncodedPicture,
    ImageNetwork,
    ModelPrompts,
    image_network,
)
from sam_perception.segmentation.pictures.nms import kept_boxes
from sam_perception.segmentation.pictures.picture_scaling import Size
from sam_perception.segmentation.pictures.rle import Rle
from sam_perception.segmentation.transfer import upload


@dataclass(frozen=True, eq=False)
class GeneratedMask:
    """One mask of a picture and what speaks for it."""

    rle: Rle  # of the picture's size
    bbox: tuple[int, int, int, int]  # x, y, width, height in pixels, as COCO counts them
    area: int  # pixels
    predicted_iou: float
    stability_score: float
    point: tuple[float, float]  # x y in pixels of the picture
    crop_box: tuple[int, int, int, int]  # x, y, width, height of the crop that it was found in

    @property
    def segmentation(self) -> NDArray[np.bool_]:
        """The mask (H, W)."""
        return self.rle.mask()

    def record(self, output_mode: str = "binary_mask") -> dict[str, Any]:
        """The dictionary that SAM's own generator returns.

        Args:
            output_mode: of `segmentation`: binary_mask, uncompressed_rle or coco_rle.
        """
        shapes = {
            "binary_mask": self.rle.mask, "uncompressed_rle": self.rle.uncompressed, "coco_rle": self.rle.compressed
        }  # fmt: skip
        return {
            "segmentation": shapes[output_mode](),
            "area": self.area,
            "bbox": list(self.bbox),
            "predicted_iou": self.predicted_iou,
            "point_coords": [list(self.point)],
            "stability_score": self.stability_score,
            "crop_box": list(self.crop_box),
        }


Search = Generator[float, None, "tuple[GeneratedMask, ...]"]


class MaskGenerator:
    """Cuts pictures up as a whole.

    Args:
        model: as `load_image_model` or `load_model` returns it, or an `ImageNetwork` around one.
        config: the parameters.

    Raises:
        ModelError: a model of another kind.
    """

    def __init__(self, model: Any, config: EverythingConfig | None = None) -> None:
        self._network: ImageNetwork = image_network(model) if isinstance(model, torch.nn.Module) else model
        self._config = config or EverythingConfig()

    def generate(self, rgb: NDArray[np.uint8]) -> tuple[GeneratedMask, ...]:
        """Masks of a picture (H, W, 3) uint8, red first; those of each crop surest first.

        Raises:
            MalformedImage: not such a picture.
        """
        return finished(self.search(rgb))

    def search(self, rgb: NDArray[np.uint8], encoded: EncodedPicture | None = None) -> Search:
        """The same in small steps: one batch of points, or one crop's features, between two `yield`s.

        Whoever has something else to do meanwhile goes on with `next`, which says what share is done, and
        `finished` gets the result.

        Args:
            rgb: (H, W, 3) uint8, red first.
            encoded: the whole picture's features, where they are there already.
        """
        height, width = rgb.shape[:2]
        found: list[GeneratedMask] = []
        crops = crops_of(height, width, self._config)
        total, asked = sum(len(crop.points) for crop in crops), 0
        for crop in crops:
            whole = crop.size == (height, width)
            picture = encoded if whole and encoded is not None else self._network.encode(crop.cut(rgb))
            yield asked / total
            candidates: list[Candidates] = []
            for start in range(0, len(crop.points), self._config.points_per_batch):
                points = crop.points[start : start + self._config.points_per_batch]
                candidates.append(self._ask(picture, crop, points, (height, width)))
                asked += len(points)
                yield asked / total
            best = Candidates.join(candidates)
            best = best.rows(kept_boxes(best.boxes, best.ious, self._config.box_nms_thresh))
            found += _placed(best, best.masks(crop.size, self._network.scaling), crop, (height, width))
        if len(crops) > 1:
            found = _without_doubles(found, self._config.crop_nms_thresh)
        return tuple(self._cleaned(found))

    def _ask(self, picture: EncodedPicture, crop: Crop, points: NDArray[np.float64], whole: Size) -> Candidates:
        network = self._network
        scaled = upload(network.scaling.points(points, crop.size)[:, None], network.device)
        labels = torch.ones(len(points), 1, dtype=torch.int32, device=network.device)
        logits, ious = network.decode(picture, ModelPrompts(scaled, labels), many=True)
        seen = candidates_of(logits, ious, points, crop.size, network.scaling, self._config)
        return seen.rows(np.flatnonzero(~cut_by_crop(seen.boxes, crop, *whole)))

    def _cleaned(self, found: list[GeneratedMask]) -> list[GeneratedMask]:
        """Without small holes and islands; of masks that became alike, one that was not touched stays."""
        least = self._config.min_mask_region_area
        if least <= 0 or not found:
            return found
        masks, untouched = [], []
        for one in found:
            mask, changed = without_specks(one.rle.mask(), least)
            masks.append(_reshaped(one, Rle.of(mask)) if changed else one)
            untouched.append(0.0 if changed else 1.0)
        overlap = max(self._config.box_nms_thresh, self._config.crop_nms_thresh)
        kept = kept_boxes(_corners(masks), np.array(untouched), overlap)
        return [masks[i] for i in kept]


def finished(search: Search) -> tuple[GeneratedMask, ...]:
    """What a search comes to, without a pause."""
    while True:
        try:
            next(search)
        except StopIteration as end:
            masks: tuple[GeneratedMask, ...] = end.value
            return masks


def regions_of(masks: tuple[GeneratedMask, ...], stamp_ns: int, frame_id: str, size: Size) -> Regions:
    """Masks of a frame as numbered regions, largest first."""
    by_area = sorted(masks, key=lambda one: -one.area)
    regions = tuple(
        Region(number, one.segmentation, one.bbox, one.area, one.predicted_iou, one.stability_score, one.point)
        for number, one in enumerate(by_area, start=1)
    )
    return Regions(stamp_ns, frame_id, size[1], size[0], regions)


def _placed(seen: Candidates, rles: tuple[Rle, ...], crop: Crop, size: Size) -> list[GeneratedMask]:
    """A crop's masks in the whole picture."""
    left, top, right, bottom = crop.box
    placed = []
    for row, rle in enumerate(rles):
        x0, y0, x1, y1 = (int(n) for n in seen.boxes[row])
        placed.append(
            GeneratedMask(
                rle=rle.moved(left, top, size),
                bbox=(x0 + left, y0 + top, x1 - x0 + 1, y1 - y0 + 1),
                area=rle.area,
                predicted_iou=float(seen.ious[row]),
                stability_score=float(seen.stability[row]),
                point=(float(seen.points[row, 0]) + left, float(seen.points[row, 1]) + top),
                crop_box=(left, top, right - left, bottom - top),
            )
        )
    return placed


def _without_doubles(found: list[GeneratedMask], max_iou: float) -> list[GeneratedMask]:
    """Of what several crops show, what the smallest one shows."""
    sizes = np.array([one.crop_box[2] * one.crop_box[3] for one in found], np.float64)
    return [found[i] for i in kept_boxes(_corners(found), 1.0 / np.maximum(sizes, 1.0), max_iou)]


def _corners(masks: list[GeneratedMask]) -> NDArray[np.int64]:
    """(N, 4) first and last column and row."""
    boxes = np.array([one.bbox for one in masks], np.int64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2] - 1
    return boxes


def _reshaped(one: GeneratedMask, rle: Rle) -> GeneratedMask:
    x0, y0, x1, y1 = rle.corners
    return replace(one, rle=rle, area=rle.area, bbox=(x0, y0, x1 - x0 + 1, y1 - y0 + 1))
