"""How far masks in another number format, or of pictures with a little noise, are from those in float32."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.training.metrics import region_similarity
from sam_perception.training.scenes import Clip
from sam_perception.training.scoring import new_tracker, prompt_for

MIN_PROMPT_PX = 150  # objects that show less in the first frame are left out


@dataclass(frozen=True, eq=False)
class Deviation:
    """One number format against float32, over M frames and objects."""

    agreement: NDArray[np.float64]  # (M,) IoU of the two masks; 1 where both are empty
    disputed: float  # share of frames in which one sees the object and the other does not
    exact_j: float  # float32 against the truth, where the object shows
    other_j: float  # the other format against the truth

    @property
    def summary(self) -> dict[str, float]:
        """What is worth printing."""
        return {
            "IoU mean": float(self.agreement.mean()),
            "IoU median": float(np.median(self.agreement)),
            "IoU 5 % quantile": float(np.quantile(self.agreement, 0.05)),
            "seen or not disputed": self.disputed,
            "J float32": self.exact_j,
            "J": self.other_j,
            "frames and objects": float(len(self.agreement)),
        }


def deviation(exact: Any, other: Any, clips: Iterable[Clip], *, objects: int = 4, noise_levels: int = 0) -> Deviation:
    """Track clips with both models, prompted with the same boxes in the first frame.

    Differences add up over a clip, since each goes on from its own memories. How much of one a doubtful mask makes
    depends on the weights; the same model with `noise_levels` is the yardstick for that.

    Args:
        exact: in float32.
        other: the same weights in another format.
        clips: to track.
        objects: at most so many in each clip.
        noise_levels: `other` sees pictures to which up to so many grey levels, of 255, are added or taken.
    """
    rng = np.random.default_rng(0)
    agreement: list[float] = []
    disputed: list[bool] = []
    scores: list[tuple[float, float]] = []
    for clip in clips:
        ids = [i for i in clip.object_ids if np.count_nonzero(clip.ids[0] == i) >= MIN_PROMPT_PX][:objects]
        if not ids:
            continue
        trackers = [new_tracker(model, len(ids)) for model in (exact, other)]
        for tracker in trackers:
            for i in ids:
                tracker.prompt(prompt_for("box", i, clip.ids[0] == i))
        for t, rgb in enumerate(clip.rgb):
            noise = rng.integers(-noise_levels, noise_levels + 1, rgb.shape)
            seen = np.clip(rgb + noise, 0, 255).astype(np.uint8)
            a, b = (tracker.step(picture) for tracker, picture in zip(trackers, (rgb, seen), strict=True))
            for row, i in enumerate(a.ids.tolist()):
                agreement.append(region_similarity(a.masks[row], b.masks[row]))
                disputed.append(a.states[row].visible != b.states[row].visible)
                true = clip.ids[t] == i
                if true.any():
                    scores.append((region_similarity(a.masks[row], true), region_similarity(b.masks[row], true)))
    exact_j, other_j = np.mean(scores, axis=0)
    return Deviation(np.array(agreement), float(np.mean(disputed)), float(exact_j), float(other_j))
