"""Which frames a memory keeps: the interface, and SAM 2's own answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Flag, auto
from typing import TYPE_CHECKING, Protocol

from sam_perception.scene import DepthEvidence, ObjectState, Placement

if TYPE_CHECKING:
    from sam_perception.config import TrackerConfig


class Keep(Flag):
    """What becomes of one object's memory of a frame."""

    NOTHING = 0
    RECENT = auto()  # attended to while it is among the last ones
    LASTING = auto()  # also copied to a place where it stays until newer lasting ones need it


@dataclass(frozen=True)
class Observation:
    """One object in one tracked frame, as far as the host knows it once the frame is done."""

    object_id: int
    frame: int  # number of the frame in the stream
    stamp_ns: int  # of the picture
    score: float  # probability that the object is in the picture
    mask_score: float  # the model's estimate of the mask's IoU
    area_px: int  # pixels of the mask in the full image
    rival_share: float  # see `hypotheses.rival_share`; NaN where the backend gives one mask only
    state: ObjectState
    evidence: DepthEvidence
    prompted: bool
    placement: Placement | None = None  # where depth puts it; None: not seen, no depth, or nobody told


class MemoryPolicy(Protocol):
    """Decides, after a frame, which objects' memories of that frame are attended to later.

    The memory has been written already; a refusal marks it as not there, which needs no work on the
    device. Prompted frames are kept whatever the policy says. Every frame is asked about once, in
    order. Frames that a late prompt works off again are all remembered.
    """

    def admit(self, observations: Sequence[Observation]) -> Sequence[Keep]:
        """For each observation, what becomes of its memory."""
        ...

    def forget(self, object_id: int) -> None:
        """The object was removed: one of the same id that comes later is another one."""
        ...


class FifoPolicy:
    """SAM 2's own policy: every frame is remembered, the oldest is forgotten first."""

    def admit(self, observations: Sequence[Observation]) -> Sequence[Keep]:
        """Every memory stays, also of frames without the object: absence is remembered too."""
        return [Keep.RECENT] * len(observations)

    def forget(self, object_id: int) -> None:
        """Nothing was known of it."""


def make_policy(config: TrackerConfig) -> MemoryPolicy:
    """The policy that `config.memory_policy` names."""
    from sam_perception.segmentation.policies import DistractorAwarePolicy, GatedPolicy

    if config.memory_policy == "distractor_aware":
        return DistractorAwarePolicy(config)
    if config.memory_policy == "gated_3d":
        return GatedPolicy(config)
    return FifoPolicy()
