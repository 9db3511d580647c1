"""What discovery does to the tracker: points at things, and says what it did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GeometryConfig
from sam_perception.detections import Detection
from sam_perception.discovery.association import Candidate
from sam_perception.discovery.looks import looks_of
from sam_perception.discovery.memory import ObjectMemory, Seen
from sam_perception.discovery.names import Names
from sam_perception.discovery.places import middle_of, position_of
from sam_perception.errors import PerceptionError
from sam_perception.frame import RgbdFrame
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt


class PromptTaker(Protocol):
    """The part of a tracker that is used here."""

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Objects that are tracked."""

    @property
    def waiting(self) -> tuple[int, ...]:
        """Objects with a prompt that waits."""

    def prompt(self, prompt: Prompt, /) -> None:
        """Point at an object."""

    def remove(self, object_id: int, /) -> None:
        """Forget one object."""

    def rename(self, object_id: int, label: str, /) -> None:
        """Give an object another name."""


@runtime_checkable
class Describing(Protocol):
    """A tracker that can tell what pixels look like."""

    def appearance(self, masks: NDArray[np.bool_], stamp_ns: int | None = None) -> NDArray[np.float32]:
        """(N, C) unit vectors of masks (N, H, W) in the frame of that stamp, or in the newest."""


class Hands:
    """Points at what was found.

    Args:
        tracker: takes the prompts.
        memory: is told of objects that are to come.
        names: are given here.
    """

    def __init__(self, tracker: PromptTaker, memory: ObjectMemory, names: Names) -> None:
        self._tracker, self._memory, self._names = tracker, memory, names
        self.notes: list[str] = []
        self._refused: set[str] = set()  # names of what was found and could not be tracked, since something could

    def take_notes(self) -> tuple[str, ...]:
        """What was done since the last call, in words."""
        notes, self.notes = tuple(self.notes), []
        return notes

    @property
    def taken(self) -> frozenset[int]:
        """Ids in use."""
        return frozenset((*self._tracker.object_ids, *self._tracker.waiting))

    def begin(self, object_id: int, detection: Detection, label: str, frame: RgbdFrame) -> bool:
        """Start to track what was detected in `frame`; whether the tracker has room for it."""
        prompt = prompt_of(detection, object_id, label, frame)
        if prompt is None or not self._point(prompt):
            return False
        self._memory.expect(object_id, label, detection.box, frame.stamp_ns)
        self._names.give(object_id, label, detection.score)
        self.notes.append(f"object {object_id} is {label!r}, found with a score of {detection.score:.2f}")
        return True

    def recover(self, seen: Seen, detection: Detection, frame: RgbdFrame) -> bool:
        """Point the tracker at an object that it had lost; whether that was possible."""
        prompt = prompt_of(detection, seen.object_id, seen.label, frame)
        if prompt is None:
            return False
        # Its memories of the last frames say that it is not there; with them, a correction is overruled.
        self._tracker.remove(seen.object_id)
        if not self._point(prompt):
            return False
        self.notes.append(f"object {seen.object_id} ({seen.label!r}) is found again, score {detection.score:.2f}")
        return True

    def rename(self, object_id: int, label: str, score: float) -> None:
        """Let a detector name an object."""
        self._names.give(object_id, label, score)
        self._tracker.rename(object_id, label)

    def candidates(
        self, detections: Sequence[Detection], frame: RgbdFrame, settings: GeometryConfig, *, looks: bool
    ) -> list[Candidate]:
        """The detections of a frame with their places, and where `looks` are asked for, with those."""
        if not detections:
            return []
        masks = [middle_of(d, (frame.height, frame.width)) for d in detections]
        positions = [position_of(frame, mask, settings) if mask.any() else None for mask in masks]
        if not looks:
            return [Candidate(*entry) for entry in zip(detections, positions, strict=True)]
        vectors: Sequence[NDArray[np.float32] | None] = [None] * len(masks)
        if isinstance(self._tracker, Describing):
            vectors = list(self._tracker.appearance(np.stack(masks), frame.stamp_ns))
        seen = [looks_of(frame.rgb, mask, vector) for mask, vector in zip(masks, vectors, strict=True)]
        return [Candidate(*entry) for entry in zip(detections, positions, seen, strict=True)]

    def _point(self, prompt: Prompt) -> bool:
        try:
            self._tracker.prompt(prompt)
        except PerceptionError as error:
            if prompt.label not in self._refused:  # a detector finds it again and again
                self._refused.add(prompt.label)
                self.notes.append(f"{prompt.label!r} was found and is not tracked: {error}")
            return False
        self._refused.clear()
        return True


def prompt_of(detection: Detection, object_id: int, label: str, frame: RgbdFrame) -> Prompt | None:
    """How a detection of a frame points at its thing: by mask, by place or by box; None where it is off the picture."""
    if detection.mask is not None:
        return MaskPrompt(object_id, detection.mask, label, frame.stamp_ns)
    if detection.point is not None:
        point = np.clip(detection.point, 0, (frame.width - 1, frame.height - 1))
        return PointPrompt(object_id, np.array([point], np.float32), label=label, stamp_ns=frame.stamp_ns)
    clipped = detection.clipped(frame.width, frame.height)
    return None if clipped is None else BoxPrompt(object_id, clipped.box, label=label, stamp_ns=frame.stamp_ns)
