"""A batch on the device, and the prompts that are given for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam_perception.training.losses import Target
from sam_perception.training.samples import MIN_VISIBLE_AREA, Batch

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, as every SAM 2 checkpoint is normalised
DEVIATION = (0.229, 0.224, 0.225)


class Lesson:
    """A batch on the device, with objects laid out flat: object o is in picture o // N."""

    def __init__(self, batch: Batch, device: torch.device) -> None:
        def put(a: np.ndarray[Any, Any]) -> Tensor:
            tensor: Tensor = torch.from_numpy(a)
            return tensor.to(device, non_blocking=True)

        b, t, s = batch.pictures.shape[:3]
        n = batch.point.shape[1]
        self.clips, self.frames, self.size, self.objects = b, t, s, n
        mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
        deviation = torch.tensor(DEVIATION, device=device).view(1, 3, 1, 1)
        pictures = put(batch.pictures).flatten(0, 1).permute(0, 3, 1, 2)
        self.pixels = (pictures.float() / 255 - mean) / deviation  # (B T, 3, S, S)
        self.share = put(batch.share).flatten(0, 1).float() / 255  # (O, T, S/4, S/4)
        self.area = put(batch.area).flatten(0, 1)  # (O, T)
        self.first_mask = put(batch.first_mask).flatten(0, 1).float()  # (O, S, S)
        self.point = put(batch.point).flatten(0, 1)  # (O, 2)
        self.box = put(batch.box).flatten(0, 1)  # (O, 4)
        self.foreground = put(batch.foreground).flatten(0, 1).float() / 255
        self.edges = put(batch.edges).flatten(0, 1).float()
        self.offsets = put(batch.offsets).flatten(0, 1)
        self._clip_of_object = torch.arange(b * n, device=device) // n

    def pictures_at(self, frame: int) -> Tensor:
        """(O,) index of each object's picture in this frame."""
        index: Tensor = self._clip_of_object * self.frames + frame
        return index

    def target(self, frame: int) -> Target:
        """The truth in this frame."""
        area = self.area[:, frame]
        visible = (area >= MIN_VISIBLE_AREA).float()
        return Target(self.share[:, frame], visible, ((area == 0) | (visible > 0)).float())


def prompt_of(lesson: Lesson, kind: str) -> tuple[Tensor, Tensor]:
    """Points (O, P, 2) and labels (O, P) of a "point", "box" or "none" prompt."""
    count, device = len(lesson.point), lesson.point.device
    if kind == "point":
        return lesson.point[:, None], torch.ones(count, 1, dtype=torch.int32, device=device)
    if kind == "box":
        labels = torch.tensor([2, 3], dtype=torch.int32, device=device)
        return lesson.box.view(count, 2, 2), labels.expand(count, 2)
    return torch.zeros(count, 1, 2, device=device), torch.full((count, 1), -1, dtype=torch.int32, device=device)


def drawn_hint(lesson: Lesson, kind: str) -> Tensor:
    """(O, 1, S/4, S/4) the prompt drawn as mask logits: a filled box, or a spot at the click.

    Early in training it shows the decoder where to look before it has learnt to read coordinates.
    """
    n = lesson.size // 4
    at = torch.arange(n, device=lesson.point.device) * 4 + 1.5
    x, y = at.view(1, 1, n), at.view(1, n, 1)
    if kind == "box":
        x0, y0, x1, y1 = (lesson.box[:, i].view(-1, 1, 1) for i in range(4))
        drawn = ((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)).float()
    else:
        px, py = (lesson.point[:, i].view(-1, 1, 1) for i in range(2))
        drawn = torch.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * (0.05 * lesson.size) ** 2))
    return (drawn * 20 - 10)[:, None]


@torch.no_grad()
def corrective_click(logits: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """A click (O, 1, 2) in a wrong cell of the mask and its label (O, 1); anywhere where nothing is wrong."""
    true = share > 0.5
    wrong = (((logits > 0) != true).float() + 1e-6).flatten(1)
    cell = torch.multinomial(wrong, 1)[:, 0]
    label = true.flatten(1).gather(1, cell[:, None]).to(torch.int32)
    n = logits.shape[-1]
    point = torch.stack([cell % n, cell // n], dim=1).float() * 4 + 1.5
    return point[:, None], label
