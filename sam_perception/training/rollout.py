"""One training step's forward pass: single pictures, and clips through the memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sam_perception.training import blocks
from sam_perception.training.blocks import Decoded, Features, Memory
from sam_perception.training.losses import DenseHeads, MaskLoss, Target, mask_loss
from sam_perception.training.samples import MIN_VISIBLE_AREA, Batch

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, as every SAM 2 checkpoint is normalised
DEVIATION = (0.229, 0.224, 0.225)
RECENT = 6  # remembered frames beside the prompted ones
CONDITIONING_ROW = 6  # of the temporal code, for prompted frames
LOGIT_LIMIT = 32.0  # of the previous mask when it is fed back with a click (SAM 2)


@dataclass(frozen=True)
class Knobs:
    """What changes in the course of training."""

    balance: float = 0.1  # of the mask loss, see `mask_terms`
    dense_prompt: float = 0.0  # chance that a drawn hint of the prompt is given as a mask
    correction: float = 0.3  # chance of a corrective click
    forced_memory: float = 0.4  # chance that the truth is remembered in place of the prediction
    hints: float = 0.5  # weight of the dense heads


@dataclass
class Outcome:
    """Loss of a step and the mean IoU by kind of decoding; `loss` carries gradients, the rest does not."""

    loss: Tensor
    iou: dict[str, Tensor] = field(default_factory=dict)  # by "box", "point", "click", "track", "last"


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


def _score(decoded: Decoded, target: Target, knobs: Knobs, *, multimask: bool) -> tuple[MaskLoss, Tensor]:
    index = blocks.chosen(decoded, multimask=multimask)
    return mask_loss(decoded, target, index, knobs.balance), index


def _mean_visible(loss: MaskLoss) -> Tensor:
    return (loss.iou * loss.visible).sum() / loss.visible.sum().clamp(min=1)


def _prompted(
    model: Any, lesson: Lesson, features: Features, kind: str, knobs: Knobs, rng: np.random.Generator, out: Outcome
) -> tuple[Decoded, Tensor]:
    """Decode the prompted frame, with a corrective click at times; returns the last decoding and its choice."""
    target = lesson.target(0)
    points, labels = prompt_of(lesson, kind)
    dense = drawn_hint(lesson, kind) if rng.random() < knobs.dense_prompt else None
    decoded = blocks.decode(model, blocks.without_memory(model, features), points, labels, dense)
    loss, index = _score(decoded, target, knobs, multimask=kind == "point")
    out.loss = out.loss + loss.loss
    if dense is None:
        out.iou[kind] = _mean_visible(loss)
    if rng.random() < knobs.correction:
        before = blocks.take(decoded.masks, index).detach()
        point, label = corrective_click(before, target.share)
        points, labels = torch.cat([points, point], 1), torch.cat([labels, label], 1)
        dense = before.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)[:, None]
        decoded = blocks.decode(model, blocks.without_memory(model, features), points, labels, dense)
        loss, index = _score(decoded, target, knobs, multimask=False)
        out.loss = out.loss + 0.5 * loss.loss
        out.iou["click"] = _mean_visible(loss)
    return decoded, index


def picture_pass(
    model: Any,
    heads: DenseHeads | None,
    lesson: Lesson,
    knobs: Knobs,
    rng: np.random.Generator,
    *,
    checkpointing: bool = False,
) -> Outcome:
    """Single pictures: every object once from a click and once from a box.

    With `checkpointing`, the encoder's activations are computed again in the backward pass instead of being kept.
    """
    if checkpointing:
        features = checkpoint(blocks.encode_images, model, lesson.pixels, use_reentrant=False)
    else:
        features = blocks.encode_images(model, lesson.pixels)
    out = Outcome(_hints(heads, features, lesson, knobs))
    mine = features.of(lesson.pictures_at(0))
    for kind in ("point", "box"):
        _prompted(model, lesson, mine, kind, knobs, rng, out)
    return out


def _hints(heads: DenseHeads | None, features: Features, lesson: Lesson, knobs: Knobs) -> Tensor:
    if heads is None or knobs.hints == 0:
        return torch.zeros((), device=lesson.pixels.device)
    loss: Tensor = heads(features, lesson.foreground, lesson.edges, lesson.offsets)
    return knobs.hints * loss


def _mask_prompted(
    model: Any, lesson: Lesson, features: Features, knobs: Knobs, out: Outcome
) -> tuple[Tensor, Tensor, Tensor]:
    """A given mask is the output itself; the decoder reads it for the pointer alone (SAM 2)."""
    dense = model.mask_downsample(lesson.first_mask[:, None])
    points, labels = prompt_of(lesson, "none")
    decoded = blocks.decode(model, features, points, labels, dense)
    loss, _ = _score(decoded, lesson.target(0), knobs, multimask=False)
    out.loss = out.loss + 0.5 * loss.loss
    logits = (lesson.first_mask * 2 - 1) * blocks.FULL_MASK_LOGIT
    return logits, decoded.tokens[:, 0], torch.ones(len(logits), dtype=torch.bool, device=logits.device)


@dataclass
class _Bank:
    """Remembered frames: of each its number, memory, and whether it was prompted."""

    gap: int  # frames of the camera between two frames of the clip, as far as pointers are told
    elapsed: int  # frames by which the prompt is older than the clip says
    entries: list[tuple[int, Memory, bool]] = field(default_factory=list)

    def recall(self, model: Any, features: Features, frame: int, rng: np.random.Generator) -> Features:
        prompted = [e for e in self.entries if e[2]]
        recent = [e for e in self.entries if not e[2]][-RECENT:]
        # A short clip would teach only the first rows of the temporal code, so ages are drawn at times.
        ages = [frame - k for k, _, _ in recent]
        if recent and rng.random() < 0.5:
            ages = sorted((int(a) + 1 for a in rng.choice(RECENT, len(recent), replace=False)), reverse=True)
        chosen = prompted + recent
        rows = [CONDITIONING_ROW] * len(prompted) + [min(a, RECENT) - 1 for a in ages]
        told = [(frame - k) * self.gap + (self.elapsed if p else 0) for k, _, p in chosen]
        return blocks.attend(
            model, features, [m.features for _, m, _ in chosen], rows, [m.pointer for _, m, _ in chosen], told
        )


def clip_pass(
    model: Any, heads: DenseHeads | None, lesson: Lesson, kind: str, knobs: Knobs, rng: np.random.Generator
) -> Outcome:
    """Clips: prompted by `kind` ("point", "box", "mask") in the first frame, then tracked through the memory."""
    features = blocks.encode_images(model, lesson.pixels)
    out = Outcome(torch.zeros((), device=lesson.pixels.device))
    bank = _Bank(int(rng.integers(1, 3)), int(rng.integers(0, 200)) if rng.random() < 0.3 else 0)
    tracked: list[Tensor] = []
    for frame in range(lesson.frames):
        mine = features.of(lesson.pictures_at(frame))
        corrected = frame > 0 and rng.random() < 0.3 * knobs.correction
        if frame > 0:
            logits, token, present, iou = _track(model, lesson, mine, frame, bank, knobs, rng, corrected, out)
            tracked.append(iou)
        elif kind == "mask":
            logits, token, present = _mask_prompted(model, lesson, mine, knobs, out)
        else:
            decoded, index = _prompted(model, lesson, mine, kind, knobs, rng, out)
            logits, token = blocks.take(decoded.masks, index), blocks.take(decoded.tokens, index)
            present = decoded.presence > 0
        if frame + 1 < lesson.frames:
            prompted = frame == 0 or corrected
            memory = _remember(model, lesson, mine, frame, logits, token, present, prompted, knobs)
            bank.entries.append((frame, memory, prompted))
    out.iou["track"], out.iou["last"] = torch.stack(tracked).mean(), tracked[-1]
    out.loss = out.loss / lesson.frames + _hints(heads, features, lesson, knobs)
    return out


def _track(
    model: Any,
    lesson: Lesson,
    mine: Features,
    frame: int,
    bank: _Bank,
    knobs: Knobs,
    rng: np.random.Generator,
    corrected: bool,
    out: Outcome,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One frame without a prompt; where `corrected`, a click is added to what came out."""
    target = lesson.target(frame)
    conditioned = bank.recall(model, mine, frame, rng)
    decoded = blocks.decode(model, conditioned, *prompt_of(lesson, "none"), None)
    loss, index = _score(decoded, target, knobs, multimask=True)
    out.loss = out.loss + loss.loss
    iou = _mean_visible(loss)
    if corrected:
        before = blocks.take(decoded.masks, index).detach()
        point, label = corrective_click(before, target.share)
        dense = before.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)[:, None]
        decoded = blocks.decode(model, conditioned, point, label, dense)
        loss, index = _score(decoded, target, knobs, multimask=True)
        out.loss = out.loss + 0.5 * loss.loss
    return blocks.take(decoded.masks, index), blocks.take(decoded.tokens, index), decoded.presence > 0, iou


def _remember(
    model: Any,
    lesson: Lesson,
    mine: Features,
    frame: int,
    logits: Tensor,
    token: Tensor,
    present: Tensor,
    prompted: bool,
    knobs: Knobs,
) -> Memory:
    """Memory of a frame; for some objects the truth takes the prediction's place, so that errors do not pile up."""
    target = lesson.target(frame)
    forced = torch.rand(len(logits), device=logits.device) < knobs.forced_memory
    size = (lesson.size, lesson.size)
    logits = F.interpolate(logits[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    truth = F.interpolate(target.share[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    logits = torch.where(forced[:, None, None], (truth * 2 - 1) * blocks.FULL_MASK_LOGIT, logits)
    present = torch.where(forced, target.visible > 0, present)
    binarise = torch.full_like(forced, prompted)
    return blocks.remember(model, mine.coarse, logits, token, present, binarise=binarise)


def steps_iou(outcomes: Iterator[Outcome]) -> dict[str, float]:
    """Mean of every kind's IoU over steps."""
    lists: dict[str, list[float]] = {}
    for outcome in outcomes:
        for name, value in outcome.iou.items():
            lists.setdefault(name, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in lists.items()}
