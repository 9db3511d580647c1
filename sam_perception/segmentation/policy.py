"""Which frames a memory keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sam_perception.scene import DepthEvidence, ObjectState


@dataclass(frozen=True)
class Observation:
    """One object in one tracked frame, as far as the host knows it once the frame is done."""

    object_id: int
    frame: int  # number of the frame in the stream
    score: float  # probability that the object is in the picture
    mask_score: float  # the model's estimate of the mask's IoU
    area_px: int  # pixels of the mask in the full image
    state: ObjectState
    evidence: DepthEvidence
    prompted: bool


class MemoryPolicy(Protocol):
    """Decides, after a frame, which objects' memories of that frame are attended to later.

    The memory has already been written; a refusal marks it as not there, which needs no
    work on the device. Prompted frames are kept whatever the policy says.
    """

    def admit(self, observations: Sequence[Observation]) -> Sequence[bool]:
        """For each observation, whether its memory stays."""
        ...


class FifoPolicy:
    """SAM 2's own policy: every frame is remembered, the oldest is forgotten first."""

    def admit(self, observations: Sequence[Observation]) -> Sequence[bool]:
        """Every memory stays, also of frames without the object: absence is remembered too."""
        return [True] * len(observations)
