"""What became of one object: a small state machine.

    first prompt, seen ─────────────► TRACKED ◄───────────── confirm_frames seen in a row, or a prompt
                                        │ unseen                              │
                                        ▼                                     │
    first prompt, unseen ──────────► OCCLUDED ─────── seen ────────────► REACQUIRED
       unseen for lost_after_frames     │  ▲                                ▲  │
       without anything nearer in       │  └──────────── unseen ────────────┼──┘
       front, or with an empty place    ▼                                   │
                                       LOST ────────────── seen ────────────┘

Seen is what reaches three thresholds: the object score (visible_score), the predicted IoU of the mask
(min_mask_score) and the mask's area (min_mask_area_px). Hysteresis: while an object is TRACKED or
REACQUIRED, stay_share of each suffices, so that a mask that hovers at a threshold does not flicker. It
never gives a mask where SAM 2 gives none: an object score below a half comes with an empty mask.

Depth decides between OCCLUDED and LOST only. Something nearer in front says that the object is covered:
such frames do not count towards lost_after_frames. An empty place says that it is gone, whatever the time.
"""

from __future__ import annotations

from sam_perception.config import TrackerConfig
from sam_perception.scene import DepthEvidence, ObjectState

# Depth has holes and flickers at edges: one frame that looks empty is not enough.
EMPTY_FRAMES = 3


class ObjectStateMachine:
    """One object's state; `update` once per frame."""

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self._state: ObjectState | None = None
        self._seen = 0  # frames in a row
        self._unseen = 0  # frames since it was seen, without those in which something covers its place
        self._empty = 0  # frames in a row with an empty place

    @property
    def state(self) -> ObjectState:
        """The state after the last update; OCCLUDED before the first."""
        return self._state or ObjectState.OCCLUDED

    def update(
        self, *, seen: bool, evidence: DepthEvidence = DepthEvidence.UNKNOWN, prompted: bool = False
    ) -> ObjectState:
        """Advance by one frame.

        Args:
            seen: the model sees the object in this frame.
            evidence: what depth shows where an unseen object was.
            prompted: somebody pointed at the object in this frame, which confirms it when it is seen.
        """
        self._state = self._after_seen(prompted) if seen else self._after_unseen(evidence)
        return self._state

    def _after_seen(self, prompted: bool) -> ObjectState:
        self._seen, self._unseen, self._empty = self._seen + 1, 0, 0
        confirmed = prompted or self._seen >= self._config.confirm_frames
        if self._state in (None, ObjectState.TRACKED) or confirmed:
            return ObjectState.TRACKED
        return ObjectState.REACQUIRED

    def _after_unseen(self, evidence: DepthEvidence) -> ObjectState:
        self._seen = 0
        if evidence is not DepthEvidence.NEARER:
            self._unseen += 1
        self._empty = self._empty + 1 if evidence is DepthEvidence.EMPTY else 0
        gone = self._empty >= EMPTY_FRAMES or self._unseen >= self._config.lost_after_frames
        if self._state is ObjectState.LOST or gone:
            return ObjectState.LOST
        return ObjectState.OCCLUDED


def is_seen(score: float, mask_score: float, area_px: int, config: TrackerConfig, *, staying: bool = False) -> bool:
    """Whether an object counts as seen; NaN never does.

    Args:
        score: probability that it is in the picture.
        mask_score: predicted IoU of its mask.
        area_px: of its mask.
        config: has the thresholds.
        staying: it was seen in the frame before, so that `stay_share` of each threshold suffices.
    """
    share = config.stay_share if staying else 1.0
    levels = config.visible_score, config.min_mask_score, config.min_mask_area_px
    reached = (have >= share * level for have, level in zip((score, mask_score, area_px), levels, strict=True))
    return area_px > 0 and all(reached)
