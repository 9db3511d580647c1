"""Masks of a model on labelled pictures and clips, through the tracker that everybody uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from sam_perception.training.metrics import contour_accuracy, region_similarity, sequence_scores
from sam_perception.training.recordings import Recording

STILL_PROMPTS = ("box", "click")
CLIP_PROMPTS = ("box", "click", "mask")
BASELINES = ("filled box", "GrabCut")
MIN_AREA_PX = 40  # objects and remains smaller than this are not scored

Mask = NDArray[np.bool_]
Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Score:
    """One object in one picture, or over one clip."""

    recording: str
    frame: str  # of a single picture; "clip" for a whole clip
    object_id: int
    prompt: str  # kind of prompt, or name of a baseline
    j: float
    f: float
    picture: Image | None = field(default=None, repr=False)  # (H, W, 3), of the frame shown for the worst cases
    predicted: Mask | None = field(default=None, repr=False)
    true: Mask | None = field(default=None, repr=False)

    @property
    def mean(self) -> float:
        """J&F."""
        return (self.j + self.f) / 2


def bounding_box(mask: Mask) -> tuple[float, float, float, float]:
    """x_min, y_min, x_max, y_max of a mask's pixels, its outer edges as a detector gives them."""
    ys, xs = np.nonzero(mask)
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


def innermost_pixel(mask: Mask) -> tuple[float, float]:
    """x, y of the pixel farthest from the mask's border."""
    inner = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    return float(x), float(y)


def prompt_for(kind: str, object_id: int, mask: Mask) -> Prompt:
    """The prompt that a careful user would give for a mask."""
    if kind == "box":
        return BoxPrompt(object_id, bounding_box(mask))
    if kind == "click":
        return PointPrompt(object_id, np.array([innermost_pixel(mask)], np.float32))
    return MaskPrompt(object_id, mask)


def new_tracker(model: Any, count: int) -> Any:
    """A tracker for `count` objects."""
    from sam_perception.segmentation import StreamingTracker

    return StreamingTracker(model, max_objects=max(1, count))


def filled_box(mask: Mask) -> Mask:
    """The whole bounding box: what a detector alone gives."""
    x0, y0, x1, y1 = (int(v) for v in bounding_box(mask))
    box = np.zeros_like(mask)
    box[y0:y1, x0:x1] = True
    return box


def grabcut(rgb: Image, mask: Mask) -> Mask:
    """OpenCV's GrabCut, five rounds from the bounding box."""
    x0, y0, x1, y1 = (int(v) for v in bounding_box(mask))
    state = np.zeros(mask.shape, np.uint8)
    models = np.zeros((1, 65), np.float64), np.zeros((1, 65), np.float64)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    cv2.grabCut(bgr, state, (x0, y0, x1 - x0, y1 - y0), *models, 5, cv2.GC_INIT_WITH_RECT)
    return np.asarray((state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD))


def score_stills(
    model: Any, recording: Recording, kinds: Sequence[str] = STILL_PROMPTS, *, baselines: bool = True
) -> Iterator[Score]:
    """Every object of every labelled picture, from every kind of prompt."""
    for index in range(len(recording)):
        ids = recording.labels(index)
        if ids is None:
            continue
        rgb = recording.rgb(index)
        truth = {k: ids == k for k in recording.objects(ids)}
        truth = {k: m for k, m in truth.items() if m.sum() >= MIN_AREA_PX}
        found = {kind: segment_all(model, rgb, truth, kind) for kind in kinds}
        for k, true in truth.items():
            masks = {kind: found[kind][k] for kind in kinds}
            if baselines:
                masks |= {"filled box": filled_box(true), "GrabCut": grabcut(rgb, true)}
            for kind, mask in masks.items():
                j, f = region_similarity(mask, true), contour_accuracy(mask, true)
                yield Score(recording.name, recording.colors[index].stem, k, kind, j, f, rgb, mask, true)


def segment_all(model: Any, rgb: Image, truth: dict[int, Mask], kind: str) -> dict[int, Mask]:
    """The model's mask of every object in one picture."""
    if not truth:
        return {}
    tracker = new_tracker(model, len(truth))
    for k, mask in truth.items():
        tracker.prompt(prompt_for(kind, k, mask))
    tracks = tracker.step(rgb)
    return {k: tracks.masks[tracks.index(k)] for k in truth}


def score_clip(model: Any, recording: Recording, kinds: Sequence[str] = CLIP_PROMPTS) -> Iterator[Score]:
    """J and F of every object of a labelled clip, prompted where it first has a label."""
    ids = [recording.labels(i) for i in range(len(recording))]
    first = next((i for i, label in enumerate(ids) if label is not None and recording.objects(label)), None)
    if first is None:
        return
    start = ids[first]
    assert start is not None  # noqa: S101 (for the type checker)
    objects = recording.objects(start)
    for kind in kinds:
        tracker = new_tracker(model, len(objects))
        for k in objects:
            tracker.prompt(prompt_for(kind, k, start == k))
        found: dict[int, list[Mask]] = {k: [] for k in objects}
        for i in range(first, len(recording)):
            tracks = tracker.step(recording.rgb(i))
            for k in objects:
                found[k].append(tracks.masks[tracks.index(k)])
        for k in objects:
            yield _clip_score(recording, kind, k, first, found[k], ids)


def _clip_score(
    recording: Recording, kind: str, object_id: int, first: int, found: list[Mask], ids: Sequence[Any]
) -> Score:
    judged = [i for i in range(first, len(recording)) if ids[i] is not None]
    true = [np.asarray(ids[i] == object_id) for i in judged]
    predicted = [found[i - first] for i in judged]
    j, f = sequence_scores(predicted, true)
    worst = int(np.argmin([region_similarity(p, t) for p, t in zip(predicted, true, strict=True)]))
    picture = recording.rgb(judged[worst])
    return Score(recording.name, "clip", object_id, kind, j, f, picture, predicted[worst], true[worst])


def mean_by_prompt(scores: Sequence[Score]) -> dict[tuple[str, str], tuple[float, float, int]]:
    """Mean J, mean F and count for each recording and prompt."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.recording, score.prompt), []).append(score)
    return {
        key: (float(np.mean([s.j for s in group])), float(np.mean([s.f for s in group])), len(group))
        for key, group in groups.items()
    }
