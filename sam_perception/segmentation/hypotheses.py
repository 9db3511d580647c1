"""How far the mask decoder's hypotheses about one object disagree."""

from __future__ import annotations

import torch

Tensor = torch.Tensor


def rival_share(logits: Tensor, best: Tensor) -> Tensor:
    """How much of another hypothesis lies elsewhere than the chosen one, as a share of the chosen one.

    Where something that looks like the object stands beside it, one of the decoder's other masks
    covers that as well or instead. Pixels of another mask count if they lie outside the bounding
    box of the chosen mask: masks that only differ in how much of the object they take (a mug, its
    handle, the mug with its saucer) differ little there. Counting pixels and not boxes, a few
    stray ones change nothing.

    Args:
        logits: (N, H, h, w) mask logits of H hypotheses.
        best: (N,) the chosen one.

    Returns:
        (N,) float32, 0 with an empty mask; no synchronisation with the device.
    """
    masks = logits > 0
    chosen = masks[torch.arange(len(best), device=best.device), best]
    box = _span(chosen.any(dim=1))[:, None, :] & _span(chosen.any(dim=2))[:, :, None]
    elsewhere = (masks & ~box[:, None]).flatten(2).sum(dim=2).amax(dim=1)
    area = chosen.flatten(1).sum(dim=1)
    return torch.where(area > 0, elsewhere / area.clamp(min=1), 0.0).float()


def _span(line: Tensor) -> Tensor:
    """(N, L) true from the first true to the last."""
    marks = line.to(torch.int32)
    return (marks.cumsum(dim=1) > 0) & (marks.flip(1).cumsum(dim=1).flip(1) > 0)
