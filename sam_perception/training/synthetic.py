"""How well a model tracks rendered clips that it has not seen, through occlusions and absence."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sam_perception.training.metrics import region_similarity
from sam_perception.training.scenes import Clip, SceneOptions, random_clip
from sam_perception.training.scoring import new_tracker, prompt_for

# Training draws its scenes from [seed, worker, step, rank, 1]; these seeds end otherwise, whatever its seed is.
HELD_OUT = 770_000
MIN_PROMPT_PX = 150  # at 256 x 256: objects prompted in the first frame show at least this much
MIN_VISIBLE_PX = 40
FOUND_J = 0.5  # a mask that overlaps so much has found the object again


@dataclass
class Tally:
    """Counts over frames and objects, for one kind of prompt."""

    prompted: list[float] = field(default_factory=list)  # J in the prompted frame
    visible: list[float] = field(default_factory=list)  # J in later frames in which the object shows
    hidden: list[bool] = field(default_factory=list)  # said to be unseen where it is fully hidden
    found: list[bool] = field(default_factory=list)  # J >= 0.5 within three frames of coming back
    invented: list[bool] = field(default_factory=list)  # said to be unseen where it does show

    def summary(self) -> dict[str, float]:
        """Means, NaN where nothing was counted."""

        def mean(values: Sequence[float]) -> float:
            return float(np.mean(values)) if values else float("nan")

        return {
            "J prompted": mean(self.prompted),
            "J visible": mean(self.visible),
            "hidden said": mean([float(v) for v in self.hidden]),
            "found again": mean([float(v) for v in self.found]),
            "visible denied": mean([float(v) for v in self.invented]),
            "hidden frames": float(len(self.hidden)),
            "returns": float(len(self.found)),
            "visible frames": float(len(self.visible)),
        }


def rendered_clips(seed: int, frames: int = 24) -> Iterator[Clip]:
    """Endless clips of medium difficulty, each from `seed` and its number."""
    options = SceneOptions(width=256, height=256, frames=frames, stride=2, difficulty=0.5, max_objects=6)
    for k in itertools.count():
        yield random_clip(np.random.default_rng([seed, k]), options)


def held_out_clips(count: int, frames: int = 24) -> Iterator[Clip]:
    """Clips of seeds that training never uses."""
    return itertools.islice(rendered_clips(HELD_OUT, frames), count)


def promptable_objects(clip: Clip) -> list[int]:
    """Those of which the first frame shows enough."""
    least = MIN_PROMPT_PX * clip.ids.shape[1] * clip.ids.shape[2] / 256**2
    return [k for k in clip.object_ids if (clip.ids[0] == k).sum() >= least]


def track_clip(model: Any, clip: Clip, kind: str, tally: Tally, limit: int = 6) -> None:
    """Track up to `limit` objects of a clip, prompted in its first frame, and count."""
    scale = clip.ids.shape[1] * clip.ids.shape[2] / 256**2
    objects = promptable_objects(clip)[:limit]
    if not objects:
        return
    tracker = new_tracker(model, len(objects))
    for k in objects:
        tracker.prompt(prompt_for(kind, k, clip.ids[0] == k))
    hidden_for = dict.fromkeys(objects, 0)
    back_for = dict.fromkeys(objects, -1)  # frames since it came back; -1: not waiting
    best = dict.fromkeys(objects, 0.0)
    for t, rgb in enumerate(clip.rgb):
        tracks = tracker.step(rgb)
        for k in objects:
            row = tracks.index(k)
            seen, mask, true = tracks.states[row].visible, tracks.masks[row], clip.ids[t] == k
            area = int(true.sum())
            if area >= MIN_VISIBLE_PX * scale:
                j = region_similarity(mask, true)
                if t == 0:
                    tally.prompted.append(j)
                    continue
                tally.visible.append(j)
                tally.invented.append(not seen)
                if hidden_for[k] >= 2:
                    back_for[k], best[k] = 0, 0.0
                hidden_for[k] = 0
                if back_for[k] >= 0:
                    best[k], back_for[k] = max(best[k], j), back_for[k] + 1
                    if back_for[k] == 3:
                        tally.found.append(best[k] >= FOUND_J)
                        back_for[k] = -1
            elif area == 0 and t > 0:
                tally.hidden.append(not seen)
                hidden_for[k] += 1
    for k in objects:
        if back_for[k] > 0:
            tally.found.append(best[k] >= FOUND_J)


def score_synthetic(model: Any, clips: Iterable[Clip], kinds: Sequence[str] = ("box", "click")) -> dict[str, Tally]:
    """Tallies by kind of prompt."""
    tallies = {kind: Tally() for kind in kinds}
    for clip in clips:
        for kind in kinds:
            track_clip(model, clip, kind, tallies[kind])
    return tallies
