"""From mask logits to the masks worth keeping, with bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.config import EverythingConfig
from sam_perception.segmentation.picture_scaling import PictureScaling, Size
from sam_perception.segmentation.rle import Rle

Tensor = torch.Tensor

# Full-size logits in work at once: 64 MB of them. A 4K picture's go through two by two, a small one's by the dozen.
_PIXELS_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False)
class Candidates:
    """N masks of one crop with what speaks for them."""

    rles: tuple[Rle, ...]  # N, of the crop's size
    boxes: NDArray[np.int64]  # (N, 4) first and last column and row of the mask: x_min, y_min, x_max, y_max
    ious: NDArray[np.float32]  # (N,) as the model predicts them
    stability: NDArray[np.float32]  # (N,)
    points: NDArray[np.float64]  # (N, 2) x y in pixels of the crop

    @staticmethod
    def join(parts: list[Candidates]) -> Candidates:
        """All of them, in their order."""
        return Candidates(
            tuple(rle for part in parts for rle in part.rles),
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.ious for part in parts]),
            np.concatenate([part.stability for part in parts]),
            np.concatenate([part.points for part in parts]),
        )

    def rows(self, rows: NDArray[np.integer]) -> Candidates:
        """Some of them, in the order of `rows`."""
        kept = tuple(self.rles[int(row)] for row in rows)
        return Candidates(kept, self.boxes[rows], self.ious[rows], self.stability[rows], self.points[rows])


@torch.inference_mode()
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
    of_point = torch.arange(len(points), device=logits.device).repeat_interleave(logits.shape[1])
    flat, scores = logits.flatten(0, 1), ious.flatten()
    sure = torch.nonzero(scores > config.pred_iou_thresh)[:, 0]
    rles: list[Rle] = []
    rows: list[NDArray[np.int64]] = []
    stability: list[NDArray[np.float32]] = []
    at_once = max(1, _PIXELS_AT_ONCE // (size[0] * size[1]))
    for some in torch.split(sure, at_once):
        full = scaling.enlarged(flat[some], size)
        stable = _stability(full, config.stability_score_offset)
        good = (stable >= config.stability_score_thresh) & (full > 0).flatten(1).any(dim=1)
        masks = (full[good] > 0).cpu().numpy()
        rles += [Rle.of(mask) for mask in masks]
        rows.append(some[good].cpu().numpy())
        stability.append(stable[good].cpu().numpy())
    kept = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    index = torch.from_numpy(kept).to(logits.device)
    return Candidates(
        tuple(rles),
        np.array([rle.corners for rle in rles], np.int64).reshape(-1, 4),
        scores[index].cpu().numpy(),
        np.concatenate(stability) if stability else np.zeros(0, np.float32),
        points[of_point[index].cpu().numpy()],
    )


def _stability(logits: Tensor, offset: float) -> Tensor:
    """(N,) intersection over union of the masks (N, H, W) cut `offset` above and below zero; 0 where both are empty."""
    high = (logits > offset).flatten(1).sum(dim=1)
    low = (logits > -offset).flatten(1).sum(dim=1)
    return high / low.clamp(min=1)


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
