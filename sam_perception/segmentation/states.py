"""What became of one object: a small state machine.

    first prompt, seen ─────────────► TRACKED ◄───────────── confirm_frames seen in a row, or a prompt
                                        │ unseen                              │
                                        ▼                                     │
    first prompt, unseen ──────────► OCCLUDED ─────── seen ────────────► REACQUIRED
                                        │  ▲                                ▲  │
       unseen for lost_after_frames, or │  └──────────── unseen ────────────┼──┘
       depth shows the place empty      ▼                                   │
                                       LOST ────────────── seen ────────────┘

An object is seen when its score and its mask's area reach their thresholds. Depth decides between
OCCLUDED and LOST only: an empty place says the object is gone, whatever the time.
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
        self._unseen = 0  # frames in a row
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
        self._seen, self._unseen = 0, self._unseen + 1
        self._empty = self._empty + 1 if evidence is DepthEvidence.EMPTY else 0
        gone = self._empty >= EMPTY_FRAMES or self._unseen >= self._config.lost_after_frames
        if self._state is ObjectState.LOST or gone:
            return ObjectState.LOST
        return ObjectState.OCCLUDED


def is_seen(score: float, area_px: int, config: TrackerConfig) -> bool:
    """Whether an object's presence probability and mask area count as seen."""
    return score >= config.visible_score and area_px >= config.min_mask_area_px
