"""Whether a tracker stays with its object: absence, returns, and switches to look-alikes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import PerceptionConfig
from sam_perception.errors import ConfigError
from sam_perception.frame import RgbdFrame
from sam_perception.perception import Perception, Wanted
from sam_perception.prompts import BoxPrompt
from sam_perception.training.metrics import region_similarity
from sam_perception.training.scenes import Clip
from sam_perception.training.scoring import bounding_box

Mask = NDArray[np.bool_]

MIN_VISIBLE_PX = 40  # with less of it showing, nothing is said about an object
FOUND_J = 0.5  # a mask that overlaps so much has found the object again,
FOUND_WITHIN_FRAMES = 5  # in so many frames with the object after its return
HIDDEN_FRAMES = 3  # out of sight for so long counts as gone
ELSEWHERE_J = 0.1  # a mask is on another object if it overlaps that by FOUND_J, and its own by less than this


@dataclass
class IdentityTally:
    """Counts over objects and frames after the prompted one."""

    visible_j: list[float] = field(default_factory=list)
    absent_said: list[bool] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)
    switches: int = 0  # times that a mask went over to another object
    elsewhere: int = 0  # frames in which it was there

    def summary(self) -> dict[str, float]:
        """Means, NaN where nothing was counted, and counts."""
        return {
            "J visible": _mean(self.visible_j),
            "absent said": _mean(self.absent_said),
            "returns found": _mean(self.found),
            "switches": float(self.switches),
            "frames on another": float(self.elsewhere),
            "visible frames": float(len(self.visible_j)),
            "absent frames": float(len(self.absent_said)),
            "returns": float(len(self.found)),
        }


def _mean(values: list[Any]) -> float:
    return float(np.mean(values)) if values else float("nan")


class ObjectJudge:
    """Follows one object through a clip and counts."""

    def __init__(self, object_id: int, tally: IdentityTally) -> None:
        self._id, self._tally = object_id, tally
        self._hidden = 0  # frames in a row
        self._since_return: int | None = None  # frames with the object, while a return is being judged
        self._best = 0.0  # J among them
        self._was_elsewhere = False

    def frame(self, mask: Mask, seen: bool, truth: Mapping[int, Mask]) -> None:
        """Judge one frame, by the mask and what was said, and the true masks of all objects."""
        true = truth[self._id]
        area = int(np.count_nonzero(true))
        own = region_similarity(mask, true) if area else 0.0
        if area >= MIN_VISIBLE_PX:
            self._visible(own)
        elif area == 0:
            self._hidden += 1
            self._tally.absent_said.append(not seen)
        others = [region_similarity(mask, other) for i, other in truth.items() if i != self._id and other.any()]
        elsewhere = own < ELSEWHERE_J and max(others, default=0.0) >= FOUND_J
        self._tally.elsewhere += elsewhere
        self._tally.switches += elsewhere and not self._was_elsewhere
        self._was_elsewhere = elsewhere

    def _visible(self, own: float) -> None:
        self._tally.visible_j.append(own)
        if self._hidden >= HIDDEN_FRAMES:
            self._since_return, self._best = 0, 0.0
        self._hidden = 0
        if self._since_return is not None:
            self._since_return, self._best = self._since_return + 1, max(self._best, own)
            if self._since_return == FOUND_WITHIN_FRAMES:
                self.end()

    def end(self) -> None:
        """The clip is over; a return that is still being judged is judged by what there was."""
        if self._since_return:
            self._tally.found.append(self._best >= FOUND_J)
        self._since_return = None


def follow_clip(model: Any, clip: Clip, stamps_ns: list[int], config: PerceptionConfig, tally: IdentityTally) -> None:
    """Track every object that shows in the clip's first frame, prompted with a box there, with depth, and count.

    Args:
        model: as `load_model` returns it.
        clip: with depth.
        stamps_ns: of its frames.
        config: the tracker's settings count.
        tally: is added to.

    Raises:
        ConfigError: the clip was made without depth.
    """
    from sam_perception.segmentation import StreamingTracker

    if clip.depth_m is None:
        raise ConfigError("the clip has no depth: make it with SceneOptions(depth=True)")
    first = {i: clip.ids[0] == i for i in clip.object_ids}
    ids = [i for i, mask in first.items() if np.count_nonzero(mask) >= MIN_VISIBLE_PX]
    perception = Perception(config, StreamingTracker(model, len(ids), config.tracker))
    for i in ids:
        perception.prompt(BoxPrompt(i, bounding_box(first[i])))
    judges = {i: ObjectJudge(i, tally) for i in ids}
    for t, stamp_ns in enumerate(stamps_ns):
        frame = RgbdFrame(clip.rgb[t], clip.depth_m[t], clip.intrinsics, stamp_ns, "camera")
        scene = perception.step(frame, wanted=Wanted.MASKS)
        truth = {i: clip.ids[t] == i for i in clip.object_ids}
        for i, judge in judges.items():
            track = scene.object(i)
            if t:
                judge.frame(track.mask, track.state.visible, truth)
    for judge in judges.values():
        judge.end()
