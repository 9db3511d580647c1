"""From mask logits to the masks worth keeping, with bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.config import EverythingConfig
from sam_perception.segmentation.hardware import inferring
from sam_perception.segmentation.pictures.picture_scaling import PictureScaling, Size
from sam_perception.segmentation.pictures.rle import Rle

Tensor = torch.Tensor

# Full-size logits in work at once: 64 MB of them. A 4K picture's go through two by two, a small one's by the dozen.
_PIXELS_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False)
class Candidates:
    """N masks of one crop with what speaks for them.

    Kept as the model's small logits: only what is left after suppression is worth a mask of the crop's size.
    """

    logits: Tensor  # (N, h, w) on the device
    boxes: NDArray[np.int64]  # (N, 4) first and last column and row of the mask: x_min, y_min, x_max, y_max
    ious: NDArray[np.float32]  # (N,) as the model predicts them
    stability: NDArray[np.float32]  # (N,)
    points: NDArray[np.float64]  # (N, 2) x y in pixels of the crop

    @staticmethod
    def join(parts: list[Candidates]) -> Candidates:
        """All of them, in their order."""
        return Candidates(
            torch.cat([part.logits for part in parts]),
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.ious for part in parts]),
            np.concatenate([part.stability for part in parts]),
            np.concatenate([part.points for part in parts]),
        )

    def rows(self, rows: NDArray[np.integer]) -> Candidates:
        """Some of them, in the order of `rows`."""
        index = torch.from_numpy(np.asarray(rows, np.int64)).to(self.logits.device)
        return Candidates(
            self.logits[index], self.boxes[rows], self.ious[rows], self.stability[rows], self.points[rows]
        )

    @inferring()
    def masks(self, size: Size, scaling: PictureScaling) -> tuple[Rle, ...]:
        """N masks of the crop's `size`."""
        rles: list[Rle] = []
        for some in torch.split(self.logits, _at_once(size)):
            rles += [Rle.of(mask) for mask in (scaling.enlarged(some, size) > 0).cpu().numpy()]
        return tuple(rles)


@inferring()
def candidates_of(
    logits: Tensor, ious: Tensor, points: NDArray[np.float64], size: Size, scaling: PictureScaling,
    config: EverythingConfig,
) -> Candidates:  # fmt: skip
    """The masks that are sure and stable enough.

    Args:
        logits: (P, K, h, w) of P points, K masks each.
        ious: (P, K) predicted.
        points: (P, 2) x y in pixels of the crop.
        size: height and width of the crop; stability is judged and masks are cut there.
        scaling: from the model's masks to that size.
        config: the thresholds.
    """
    flat, scores = logits.flatten(0, 1), ious.flatten()
    sure = torch.nonzero(scores > config.pred_iou_thresh)[:, 0]
    told = [_judged(scaling.enlarged(flat[some], size), config) for some in torch.split(sure, _at_once(size))]
    stable = torch.cat([s for s, _ in told]) if told else torch.zeros(0, device=flat.device)
    boxes = torch.cat([b for _, b in told]) if told else torch.zeros(0, 4, dtype=torch.int64, device=flat.device)
    good = (stable >= config.stability_score_thresh) & (boxes[:, 2] >= 0)
    kept = sure[good]
    of_point = (kept // logits.shape[1]).cpu().numpy()
    return Candidates(
        flat[kept],
        boxes[good].cpu().numpy(),
        scores[kept].cpu().numpy(),
        stable[good].cpu().numpy(),
        points[of_point],
    )


def _at_once(size: Size) -> int:
    return max(1, _PIXELS_AT_ONCE // (size[0] * size[1]))


def _judged(logits: Tensor, config: EverythingConfig) -> tuple[Tensor, Tensor]:
    """(N,) stability and (N, 4) corners of the masks in full-size logits (N, H, W); corners of -1 without a pixel."""
    offset = config.stability_score_offset
    high = (logits > offset).flatten(1).sum(dim=1)
    low = (logits > -offset).flatten(1).sum(dim=1)
    masks = logits > 0
    ends = [_ends(masks.any(dim=1)), _ends(masks.any(dim=2))]
    return high / low.clamp(min=1), torch.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], dim=1)


def _ends(line: Tensor) -> tuple[Tensor, Tensor]:
    """First and last place (N,) that is set in lines (N, L); -1 where none is."""
    places = torch.arange(line.shape[1], device=line.device)
    last = torch.where(line, places, -1).amax(dim=1)
    first = torch.where(line, places, line.shape[1]).amin(dim=1)
    return torch.where(last < 0, last, first), last


def without_specks(mask: NDArray[np.bool_], min_area_px: int) -> tuple[NDArray[np.bool_], bool]:
    """The mask (H, W) with holes and islands of fewer pixels filled and removed, and whether that changed it.

    Of a mask with small islands only the largest stays.
    """
    filled = mask | _small_parts(~mask, min_area_px)
    islands = _small_parts(filled, min_area_px)
    cleaned = filled & ~islands
    if filled.any() and not cleaned.any():
        cleaned = _largest_part(filled)
    return cleaned, bool((cleaned != mask).any())


def _small_parts(mask: NDArray[np.bool_], min_area_px: int) -> NDArray[np.bool_]:
    """Connected parts (8 neighbours) of fewer pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(mask).view(np.uint8), connectivity=8)
    small = stats[:, cv2.CC_STAT_AREA] < min_area_px
    small[0] = False  # what is not in the mask
    return np.asarray(small[labels])


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(mask).view(np.uint8), connectivity=8)
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))
