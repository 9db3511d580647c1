"""What the tracker's network met in a clip, kept so that parts of it can learn from that again.

Clips that are trained through as a whole cost most where there is least to learn: in the encoder, in making memories,
in frame after frame in which all goes well. Here the real tracker follows objects through a clip once, over as many
frames as it is judged by and with its own mistakes in its memory. Image features and memories are kept on disk;
memory attention and mask decoder then learn from single moments of it, of which the telling ones are drawn more often.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from sam_perception.config import TrackerConfig
from sam_perception.files import replaced
from sam_perception.prompts import BoxPrompt, PointPrompt, Prompt
from sam_perception.segmentation import StreamingTracker
from sam_perception.segmentation.encoder import ImageFeatures
from sam_perception.segmentation.network import Clicks, Decoded, Network
from sam_perception.training.samples import REFERENCE_PX, click, hide, jittered_box, random_window, recolour
from sam_perception.training.scenes import SceneOptions, random_clip
from sam_perception.training.scoring import prompt_for

MOST_OBJECTS = 5  # of a clip, each followed twice: from a box and from a click
LEAST_AREA = 90.0  # of an object in the first frame, pixels at the reference size
HIDE_CHANCE = 0.3  # that something is put in front of an object, in clips of mixed kind
REPLAY = 5  # ends the seeds of these clips, apart from those that `loader` and `trainer` end in 1 to 4

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Practice:
    """A clip to follow objects through."""

    rgb: Image  # (T, H, W, 3)
    ids: Image  # (T, H, W)
    objects: tuple[int, ...]
    prompts: tuple[Prompt, ...]  # boxes of all objects, then clicks; ids from 1


def practice_clip(seed: int, number: int) -> Practice | None:
    """One clip of those of a seed, or None where its first frame shows no object.

    Those of even number are such as `synthetic` measures with, prompted as it does; the others are of every
    difficulty, size and pace, cropped and recoloured, with things put in front, and are pointed at less carefully.
    """
    rng = np.random.default_rng([seed, number, REPLAY])
    careful = number % 2 == 0
    if careful:
        options = SceneOptions(width=256, height=256, frames=24, stride=2, difficulty=0.5, max_objects=6)
        clip = random_clip(rng, options)
        rgb, ids = clip.rgb, clip.ids
    else:
        rgb, ids = _mixed_clip(rng)
    objects = _followed(rng, ids)
    if not objects:
        return None
    if not careful:
        for k in objects:
            if rng.random() < HIDE_CHANCE:
                rgb, ids = hide(rng, rgb, ids, k)
    prompts: list[Prompt] = []
    for kind in ("box", "click"):
        for k in objects:
            number, mask = len(prompts) + 1, ids[0] == k
            prompts.append(prompt_for(kind, number, mask) if careful else _loose_prompt(rng, kind, number, mask))
    return Practice(rgb, ids, objects, tuple(prompts))


def _mixed_clip(rng: np.random.Generator) -> tuple[Image, Image]:
    size = int(rng.integers(256, 481))
    stride, difficulty = int(rng.integers(1, 6)), float(rng.uniform(0.15, 0.95))
    options = SceneOptions(width=size, height=size, frames=20, stride=stride, difficulty=difficulty, max_objects=7)
    clip = random_clip(rng, options)
    rgb, ids = clip.rgb, clip.ids
    if rng.random() < 0.6:
        x0, y0, x1, y1 = random_window(rng, *ids.shape[1:])
        rgb, ids = rgb[:, y0:y1, x0:x1], ids[:, y0:y1, x0:x1]
    if rng.random() < 0.5:
        rgb, ids = rgb[:, :, ::-1], ids[:, :, ::-1]
    if rng.random() < 0.5:
        rgb, ids = rgb[::-1], ids[::-1]
    return recolour(rng, np.ascontiguousarray(rgb)), np.array(ids)


def _followed(rng: np.random.Generator, ids: Image) -> tuple[int, ...]:
    """Objects that the first frame shows enough of; where they are many, those that are hidden at times first."""
    areas = np.bincount(ids[0].ravel(), minlength=256) * _per_pixel(ids)
    able = np.flatnonzero(areas[1:] >= LEAST_AREA) + 1
    lost = np.array([(~(ids == k).any((1, 2))).sum() > 1 for k in able], np.float64)
    order = np.argsort(rng.random(len(able)) - 0.5 * lost)
    return tuple(int(k) for k in able[order[:MOST_OBJECTS]])


def _per_pixel(ids: Image) -> float:
    """Area of a pixel, where the whole picture has that of the reference size."""
    height, width = ids.shape[1:]
    return float(REFERENCE_PX**2 / (height * width))


def _loose_prompt(rng: np.random.Generator, kind: str, number: int, mask: NDArray[np.bool_]) -> Prompt:
    if kind == "click":
        return PointPrompt(number, np.array([click(rng, mask)], np.float32))
    x0, y0, x1, y1 = jittered_box(rng, mask)
    return BoxPrompt(number, (float(x0), float(y0), float(x1) + 1, float(y1) + 1))


class _Recorder(Network):
    """A network that keeps what passes through it."""

    is_backend = True

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.features: list[ImageFeatures] = []  # of every frame
        self.clicks: list[Clicks] = []  # of the first frame, group by group
        self.memories: list[Tensor] = []  # (O, hw, 64) of every frame
        self.decoded: list[Decoded] = []

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        self.features.append(super().encode_image(pixels))
        return self.features[-1]

    def decode(
        self, pixel_features: Tensor, features: ImageFeatures, clicks: Clicks | None = None,
        previous: Tensor | None = None, *, fresh: bool = False,
    ) -> Decoded:  # fmt: skip
        if clicks is not None:
            self.clicks.append(clicks)
        return super().decode(pixel_features, features, clicks, previous, fresh=fresh)

    def memorise(self, projected: Tensor, decoded: Decoded, prompted: list[bool]) -> Tensor:
        self.memories.append(super().memorise(projected, decoded, prompted))
        self.decoded.append(decoded)
        return self.memories[-1]


def record(model: Any, practice: Practice) -> dict[str, Tensor]:
    """Follow the objects of a clip, and say what came up.

    Returns:
        For T frames and O tracks of N objects, O = 2 N, features and memories in float16:
        fine (T, C/8, 4h, 4w), middle (T, C/4, 2h, 2w), tokens (T, hw, C): the picture as decoder and memory
        attention have it; fresh (C, h, w): the first one without a memory; memories (T, O, hw, 64);
        pointers (T, O, C); points (O, 2, 2), labels (O, 2): the prompts, clicks filled up with label -1;
        share (T, N, 4h, 4w) uint8: what the object has of each cell, 255 = all; area (T, N) at the reference size;
        score (T, O): object score; quality (T, O): predicted IoU.
    """
    recorder, count = _Recorder(model), len(practice.prompts)
    tracker = StreamingTracker(recorder, max_objects=count, config=TrackerConfig())
    for prompt in practice.prompts:
        tracker.prompt(prompt)
    for rgb in practice.rgb:
        tracker.step(rgb)
    boxes, clicks = recorder.clicks
    points, labels = torch.zeros(count, 2, 2), torch.full((count, 2), -1, dtype=torch.int32)
    points[: len(boxes.points)], labels[: len(boxes.points)] = boxes.points.cpu(), boxes.labels.cpu().int()
    points[len(boxes.points) :, :1], labels[len(boxes.points) :, :1] = clicks.points.cpu(), clicks.labels.cpu().int()
    features, decoded, side = recorder.features, recorder.decoded, 4 * recorder.feature_size[0]

    def half(tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack([t.to(torch.float16).cpu() for t in tensors])

    masks = practice.ids[:, None] == np.array(practice.objects, np.uint8)[None, :, None, None]
    cells = [[cv2.resize(m.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) for m in f] for f in masks]
    return {
        "fine": half([f.fine[0][0] for f in features]),
        "middle": half([f.fine[1][0] for f in features]),
        "tokens": half([f.tokens[0] for f in features]),
        "fresh": recorder.fresh(features[0])[0].to(torch.float16).cpu(),
        "memories": half(recorder.memories),
        "pointers": half([d.pointers for d in decoded]),
        "points": points,
        "labels": labels,
        "share": torch.from_numpy(np.rint(np.array(cells) * 255).astype(np.uint8)),
        "area": torch.from_numpy((masks.sum((-1, -2)) * _per_pixel(practice.ids)).astype(np.float32)),
        "score": torch.stack([d.score_logits.float().cpu() for d in decoded]),
        "quality": torch.stack([d.mask_scores.float().cpu() for d in decoded]),
    }


def record_clips(model: Any, folder: Path, seed: int, numbers: Iterable[int]) -> None:
    """Record the clips of these numbers into `folder`, each as safetensors; those that are there are left as they are.

    Single moments can be read from such a file without reading it all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        path = folder / f"{number:04}.safetensors"
        practice = None if path.exists() else practice_clip(seed, number)
        if practice is not None:
            with replaced(path) as part:
                save_file({k: v.contiguous() for k, v in record(model, practice).items()}, part)
