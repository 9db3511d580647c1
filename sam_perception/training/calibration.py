"""Where the object score says that an object is gone: set by tracking, once the weights are learnt.

In the course of training the score's zero wanders between calling what shows hidden and what is hidden seen, by far
from one half hour to the next. So at the end of a course its bias is moved, where it is clearly off, to where a wanted
share of the frames of hidden objects is said to be without them, on rendered clips of their own seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sam_perception.training.scenes import Clip
from sam_perception.training.scoring import new_tracker, prompt_for
from sam_perception.training.synthetic import HELD_OUT, promptable_objects, rendered_clips

SEED = HELD_OUT + 1  # neither training's nor the one that is measured with
LEAST_HIDDEN = 2  # frames
WANTED = 0.90  # share of frames
TOLERANCE = 0.05  # of it: the standard error of a share over some forty occlusions; closer is left as it is
STEP = 0.5  # of the score's logit
FARTHEST = 3.0
KINDS = ("box", "click")


@dataclass(frozen=True, eq=False)
class HiddenCase:
    """A clip, and the objects of it that show in its first frame and are hidden altogether later."""

    clip: Clip
    objects: tuple[int, ...]


def hidden_cases(clips: Iterable[Clip]) -> Iterator[HiddenCase]:
    """Those of the clips in which something is hidden."""
    for clip in clips:
        gone = [k for k in promptable_objects(clip) if (~(clip.ids == k).any((1, 2))).sum() >= LEAST_HIDDEN]
        if gone:
            yield HiddenCase(clip, tuple(gone))


def calibration_cases(count: int) -> list[HiddenCase]:
    """`count` of them from the seeds that are kept for this."""
    found = hidden_cases(rendered_clips(SEED))
    return [next(found) for _ in range(count)]


@dataclass(frozen=True)
class Judged:
    """How many frames of objects are said to be without them, and how many are."""

    hidden: int
    hidden_said: int
    visible: int
    visible_denied: int

    @property
    def share_said(self) -> float:
        """Of the frames in which an object is hidden."""
        return self.hidden_said / max(self.hidden, 1)

    @property
    def right(self) -> int:
        """Frames of which the truth is said."""
        return self.hidden_said + self.visible - self.visible_denied


def judge(model: Any, cases: Sequence[HiddenCase]) -> Judged:
    """Track the cases, each object prompted by a box and by a click, and count what is said of whether it shows."""
    counts: Counter[tuple[bool, bool]] = Counter()  # by whether an object shows and is said to
    for case in cases:
        # Both kinds in one tracker, as objects of their own: objects do not influence each other.
        prompted = [(k, kind) for k in case.objects for kind in KINDS]
        tracker = new_tracker(model, len(prompted))
        for number, (k, kind) in enumerate(prompted, 1):
            tracker.prompt(prompt_for(kind, number, case.clip.ids[0] == k))
        for rgb, ids in zip(case.clip.rgb, case.clip.ids, strict=True):
            tracks = tracker.step(rgb)
            for number, (k, _) in enumerate(prompted, 1):
                counts[bool((ids == k).any()), tracks.states[tracks.index(number)].visible] += 1
    denied = counts[True, False]
    return Judged(counts[False, True] + counts[False, False], counts[False, False], counts[True, True] + denied, denied)


@torch.no_grad()
def calibrate(model: Any, cases: Sequence[HiddenCase], wanted: float = WANTED) -> float:
    """Move the object score's bias, in place, as little down or as far up as lets `wanted` of hidden frames be said.

    Where a step down would deny more frames of what shows than it would add of what is hidden, it is not taken: some
    hidden objects are taken for others, surely, and no score tells them.

    Returns what was added to the bias, in steps of STEP, at most FARTHEST either way; 0 where the share is within
    TOLERANCE.
    """
    bias = model.mask_decoder.pred_obj_score_head.proj_out.bias
    learnt = bias.clone()

    def judged(moved: float) -> Judged:
        bias.copy_(learnt + moved)
        return judge(model, cases)

    moved, now = 0.0, judged(0.0)
    if now.share_said > wanted + TOLERANCE:
        while moved < FARTHEST and judged(moved + STEP).share_said >= wanted:
            moved += STEP
    elif now.share_said < wanted - TOLERANCE:
        while moved > -FARTHEST and now.share_said < wanted:
            lower = judged(moved - STEP)
            if lower.right < now.right:
                break
            moved, now = moved - STEP, lower
    bias.copy_(learnt + moved)
    return moved
