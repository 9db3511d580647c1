"""One training step's forward pass: single pictures, and clips through the memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sam_perception.training import blocks
from sam_perception.training.blocks import Decoded, Features, Memory
from sam_perception.training.lesson import Lesson, corrective_click, drawn_hint, prompt_of
from sam_perception.training.losses import DenseHeads, MaskLoss, Target, mask_loss

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
    """Loss of a step and the mean IoU by kind of decoding; `loss` carries gradients, the rest does not.

    An IoU is of the objects that show; NaN where none does.
    """

    loss: Tensor
    iou: dict[str, Tensor] = field(default_factory=dict)  # by "box", "point", "click", "track", "last"


def _score(decoded: Decoded, target: Target, knobs: Knobs, *, multimask: bool) -> tuple[MaskLoss, Tensor]:
    index = blocks.chosen(decoded, multimask=multimask)
    return mask_loss(decoded, target, index, knobs.balance), index


def _mean_visible(loss: MaskLoss) -> Tensor:
    return (loss.iou * loss.visible).sum() / loss.visible.sum()  # 0 / 0 is NaN


def _fed_back(decoded: Decoded, index: Tensor) -> Tensor:
    """(N, S/4, S/4) mask logits as inference has them before a click: none where the object was called absent."""
    before = blocks.take(decoded.masks, index).detach()
    present = (decoded.presence > 0).view(-1, 1, 1)
    return torch.where(present, before, torch.full_like(before, blocks.NO_OBJECT_LOGIT))


def _prompted(
    model: Any,
    lesson: Lesson,
    features: Features,
    kind: str,
    knobs: Knobs,
    rng: np.random.Generator,
    out: Outcome,
    *,
    checkpointing: bool = False,
) -> tuple[Decoded, Tensor]:
    """Decode the prompted frame, with a corrective click at times; returns the last decoding and its choice."""
    decode = partial(checkpoint, blocks.decode, use_reentrant=False) if checkpointing else blocks.decode
    target = lesson.target(0)
    points, labels = prompt_of(lesson, kind)
    dense = drawn_hint(lesson, kind) if rng.random() < knobs.dense_prompt else None
    decoded = decode(model, blocks.without_memory(model, features), points, labels, dense)
    loss, index = _score(decoded, target, knobs, multimask=kind == "point")
    out.loss = out.loss + loss.loss
    if dense is None:
        out.iou[kind] = _mean_visible(loss)
    if rng.random() < knobs.correction:
        before = _fed_back(decoded, index)
        point, label = corrective_click(before, target.share)
        points, labels = torch.cat([points, point], 1), torch.cat([labels, label], 1)
        dense = before.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)[:, None]
        decoded = decode(model, blocks.without_memory(model, features), points, labels, dense)
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

    With `checkpointing`, activations are computed again in the backward pass instead of being kept: the decoder's,
    and the encoder's where it is trained (a frozen one keeps none, and would only run twice).
    """
    if checkpointing and any(p.requires_grad for p in model.vision_encoder.parameters()):
        features = checkpoint(blocks.encode_images, model, lesson.pixels, use_reentrant=False)
    else:
        features = blocks.encode_images(model, lesson.pixels)
    out = Outcome(_hints(heads, features, lesson, knobs))
    mine = features.of(lesson.pictures_at(0))
    for kind in ("point", "box"):
        _prompted(model, lesson, mine, kind, knobs, rng, out, checkpointing=checkpointing)
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
    out.iou["track"], out.iou["last"] = torch.stack(tracked).nanmean(), tracked[-1]
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
        before = _fed_back(decoded, index)
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
