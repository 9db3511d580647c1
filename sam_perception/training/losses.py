"""What the model is taught with: masks, their quality, presence, and dense hints for the encoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from sam_perception.training.blocks import Decoded, Features, take

ABSENT_WEIGHT = 3.0  # of frames in which an object is hidden, against those in which it shows


@dataclass(frozen=True)
class Target:
    """The truth about N objects in one frame."""

    share: Tensor  # (N, S/4, S/4) float, the object's share of each cell
    visible: Tensor  # (N,) float 1 where enough of it shows to be segmented
    judged: Tensor  # (N,) float 1 where presence is beyond doubt: visible, or hidden altogether


@dataclass(frozen=True)
class MaskLoss:
    """Loss of one decoding, and the IoU of the mask that inference would take."""

    loss: Tensor  # scalar
    iou: Tensor  # (N,) no gradient
    visible: Tensor  # (N,)


def mask_terms(logits: Tensor, share: Tensor, balance: float) -> Tensor:
    """(N, K) cross-entropy plus dice of K masks for each of N objects.

    Cross-entropy is averaged over object and background apart (share `balance`: learns to find the object at all)
    and over the object's area with a mild focus on wrong pixels (share `1 - balance`: sharpens the outline).
    """
    target = share[:, None].expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    inside = target.sum((-1, -2)).clamp(min=2.0)
    outside = (1 - target).sum((-1, -2)).clamp(min=1.0)
    apart = (entropy * target).sum((-1, -2)) / inside + (entropy * (1 - target)).sum((-1, -2)) / outside
    chance = logits.sigmoid()
    focus = 1 + 3 * (chance.detach() - target).abs()
    by_area = 0.5 * (entropy * focus).sum((-1, -2)) / inside
    overlap = 2 * (chance * target).sum((-1, -2)) + 1
    dice = 1 - overlap / (chance.sum((-1, -2)) + target.sum((-1, -2)) + 1)
    return balance * apart + (1 - balance) * by_area.clamp(max=8.0) + dice


@torch.no_grad()
def mask_iou(logits: Tensor, share: Tensor) -> Tensor:
    """(N, K) IoU of thresholded masks on the logits' own grid; 1 where both are empty."""
    predicted, true = logits > 0, (share > 0.5)[:, None]
    both = (predicted & true).sum((-1, -2)).float()
    either = (predicted | true).sum((-1, -2)).float()
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both))


def mask_loss(decoded: Decoded, target: Target, index: Tensor, balance: float) -> MaskLoss:
    """The mask that is taken, the best of the three alternatives, the single one, quality estimates, and presence.

    `index` (N,) is the mask that inference would take. As in SAM the best alternative is taught, so that the three
    may differ. But an estimate never tells them apart as well as the truth does, so what is taken is taught most:
    it has to be a good answer even where another would have been better. Every quality estimate is taught on
    visible objects.
    """
    terms = mask_terms(decoded.masks, target.share, balance)
    per_object = take(terms, index) + 0.5 * terms[:, 1:].min(dim=1).values + 0.25 * terms[:, 0]
    iou = mask_iou(decoded.masks, target.share)
    quality = (decoded.iou - iou).abs().mean(dim=1)
    count = target.visible.sum().clamp(min=1)
    masks = ((per_object + quality) * target.visible).sum() / count
    presence = F.binary_cross_entropy_with_logits(decoded.presence, target.visible, reduction="none")
    # Most objects are in sight most of the time; without this weight the score learns just that.
    weight = target.judged * (1 + (ABSENT_WEIGHT - 1) * (1 - target.visible))
    presence = (presence * weight).sum() / weight.sum().clamp(min=1)
    return MaskLoss(masks + presence, take(iou, index), target.visible)


class DenseHeads(nn.Module):
    """Small heads that teach the encoder directly what objects are; thrown away after training.

    Foreground at every level, instance edges at the two fine ones, and at the coarse one the offset to
    the centre of the instance. Without them the encoder gets next to no signal until masks are half right.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(channels, 3, 1)  # foreground, offset x, offset y
        self.middle = nn.Conv2d(channels // 4, 2, 1)  # foreground, edge
        self.fine = nn.Conv2d(channels // 8, 2, 1)

    def forward(self, features: Features, foreground: Tensor, edges: Tensor, offsets: Tensor) -> Tensor:
        """Loss of all heads.

        Args:
            features: of B pictures.
            foreground: (B, S/4, S/4) share of labelled objects in each cell.
            edges: (B, S/4, S/4) 1 where an instance begins or ends.
            offsets: (B, 3, S/16, S/16) offset to the instance's centre as a share of the picture, and 1 where it holds.
        """
        total = torch.zeros((), device=foreground.device)
        weight = torch.tensor(3.0, device=foreground.device)
        for level, head in ((features.coarse, self.coarse), (features.middle, self.middle), (features.fine, self.fine)):
            out = head(level).float()
            size = out.shape[-2:]
            area = F.adaptive_avg_pool2d(foreground[:, None], size)[:, 0]
            total = total + F.binary_cross_entropy_with_logits(out[:, 0], area, pos_weight=weight)
            if out.shape[1] == 2:
                edge = F.adaptive_max_pool2d(edges[:, None], size)[:, 0]
                total = total + F.binary_cross_entropy_with_logits(out[:, 1], edge, pos_weight=weight)
            else:
                wrong = (out[:, 1:] - offsets[:, :2]).abs().sum(1) * offsets[:, 2]
                total = total + 5 * wrong.sum() / offsets[:, 2].sum().clamp(min=1)
        return total
