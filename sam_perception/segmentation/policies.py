"""Memory policies for streams with look-alikes, occlusions and depth."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from sam_perception.config import TrackerConfig
from sam_perception.scene import ObjectState, Placement
from sam_perception.segmentation.policy import Keep, Observation

# The paper's: a mask is steady if its area lies within 20 % of the median of the last ten.
AREA_FRAMES = 10
STEADY_SHARE = 0.2
# Ours (the paper compares bounding boxes): so much of another hypothesis lies outside the object's box.
RIVAL_SHARE = 0.3
# Depth noise, and the part of a surface that happens to be visible, move a centroid by this much.
GATE_SLACK_M = 0.03
GATE_SLACK_SIZES = 0.5  # and by this share of the object's size


@dataclass
class _History:
    """What distractor_aware knows of one object."""

    areas_px: deque[int] = field(default_factory=lambda: deque(maxlen=AREA_FRAMES))
    last_kept: int = 0  # number of the last prompted or lasting frame


class DistractorAwarePolicy:
    """Two memories: recent frames for the object's looks, and lasting ones that tell it from its look-alikes.

    After Videnovic, Lukezic, Kristan: A Distractor-Aware Memory for Visual Object Tracking with SAM2
    (CVPR 2025). Recent frames are not remembered while the object is out of sight, so that they still
    hold it when it returns. A frame becomes a lasting one if a look-alike is in view (the decoder's other
    hypotheses lie elsewhere) and the answer can be trusted nevertheless: high predicted IoU, steady
    area, TRACKED, and some frames after the last such frame. Lasting frames are attended to with the
    temporal encoding of prompted frames, which carries no age.

    Otherwise than there, every frame with the object enters the recent memory, not every fifth one.
    """

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self._histories: dict[int, _History] = {}

    def admit(self, observations: Sequence[Observation]) -> Sequence[Keep]:
        """Recent where the object is seen; lasting too where that helps to tell it from another."""
        return [self._admit(o) for o in observations]

    def _admit(self, seen: Observation) -> Keep:
        history = self._histories.setdefault(seen.object_id, _History())
        if seen.prompted:
            history.areas_px.clear()
            history.last_kept = seen.frame
        if not seen.state.visible:
            return Keep.NOTHING
        steady = _is_steady(seen.area_px, history.areas_px)
        history.areas_px.append(seen.area_px)
        if seen.prompted or not (steady and self._tells_apart(seen)):
            return Keep.RECENT
        if seen.frame - history.last_kept < self._config.lasting_gap_frames:
            return Keep.RECENT
        history.last_kept = seen.frame
        return Keep.RECENT | Keep.LASTING

    def _tells_apart(self, seen: Observation) -> bool:
        reliable = seen.mask_score >= self._config.reliable_mask_score and seen.state is ObjectState.TRACKED
        return reliable and seen.rival_share >= RIVAL_SHARE

    def forget(self, object_id: int) -> None:
        """Drop the object's history."""
        self._histories.pop(object_id, None)


def _is_steady(area_px: int, before_px: Sequence[int]) -> bool:
    if not before_px:
        return False
    middle = statistics.median(before_px)
    return abs(area_px - middle) <= STEADY_SHARE * middle


class GatedPolicy:
    """Depth as a witness: a frame in which the object would have jumped is not remembered.

    A mask that went over to a look-alike, or swelled to what the object stands on, is at another place or
    of another size than the object can have reached since the last remembered frame. It is still shown,
    but the memory stays with the object. The longer the object was out of sight the more is allowed, so
    that an object that was carried away is believed in the end. Without depth it is SAM 2's own policy.
    """

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self._placed: dict[int, tuple[Placement, int]] = {}  # with the stamp, of the last remembered frame

    def admit(self, observations: Sequence[Observation]) -> Sequence[Keep]:
        """Recent, unless the object has jumped."""
        return [self._admit(o) for o in observations]

    def _admit(self, seen: Observation) -> Keep:
        if seen.placement is None:
            return Keep.RECENT
        before = self._placed.get(seen.object_id)
        if before is not None and not seen.prompted and not self._reachable(seen.placement, seen.stamp_ns, *before):
            return Keep.NOTHING
        self._placed[seen.object_id] = seen.placement, seen.stamp_ns
        return Keep.RECENT

    def _reachable(self, now: Placement, now_ns: int, then: Placement, then_ns: int) -> bool:
        elapsed_s = max(0.0, (now_ns - then_ns) * 1e-9)
        slack_m = GATE_SLACK_M + GATE_SLACK_SIZES * then.size_m
        moved_m = math.dist(now.position_m, then.position_m)
        grown = abs(math.log(max(now.size_m, 1e-6) / max(then.size_m, 1e-6)))
        return moved_m <= slack_m + self._config.gate_speed_m_s * elapsed_s and grown <= math.log(
            self._config.gate_size_ratio
        ) * (1.0 + elapsed_s)

    def forget(self, object_id: int) -> None:
        """Drop the object's place."""
        self._placed.pop(object_id, None)
