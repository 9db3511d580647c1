"""Boxes from elsewhere: `vision_msgs/Detection2DArray` on ~/detections, where vision_msgs is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from math import cos, sin
from typing import Any

from sam_perception.detections import Detection
from sam_perception.errors import FrameIdMismatch, PerceptionError, PromptError
from sam_perception.messages import Message, stamp_ns_of

TOPIC = "~/detections"
_QUEUE = 10

Take = Callable[[Sequence[Detection], int, str], None]


class DetectionInput:
    """Subscribes to ~/detections for as long as it is not closed; does nothing where vision_msgs is missing.

    Args:
        node: to subscribe with.
        take: called with the detections, their picture's stamp (0: the newest) and its frame_id.
        on_error: called with what is wrong with a message.
    """

    def __init__(self, node: Any, take: Take, on_error: Callable[[PerceptionError], None]) -> None:
        self._node, self._take, self._on_error = node, take, on_error
        kind = detection_array_class()
        self._subscription = None if kind is None else node.create_subscription(kind, TOPIC, self._on_array, _QUEUE)

    @property
    def listening(self) -> bool:
        """Whether vision_msgs is installed."""
        return self._subscription is not None

    def close(self) -> None:
        """Subscribe no longer."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def _on_array(self, array: Message) -> None:
        found, errors = detections_from_msg(array)
        for error in errors:
            self._on_error(error)
        try:
            self._take(found, stamp_ns_of(array.header.stamp), array.header.frame_id)
        except PerceptionError as error:
            self._on_error(error)


def detection_array_class() -> Any:
    """vision_msgs' Detection2DArray, or None where it is not installed."""
    try:
        return import_module("vision_msgs.msg").Detection2DArray
    except (ImportError, AttributeError):
        return None


def detections_from_msg(array: Message) -> tuple[list[Detection], list[PerceptionError]]:
    """The detections of a `Detection2DArray`, each by its surest hypothesis, and what is wrong with the others.

    The layouts of vision_msgs 4 (Humble and later: `bbox.center.position.x`, `results[].hypothesis.class_id`)
    and 3 (before it: `bbox.center.x`, `results[].id`) are read. A detection without any hypothesis is
    taken with no name and a score of 1: who sends a box means it.
    """
    found: list[Detection] = []
    errors: list[PerceptionError] = []
    for number, one in enumerate(array.detections):
        try:
            label, score = _surest(one.results)
            found.append(Detection(label, score, _box(one.bbox)))
        except PromptError as error:
            errors.append(PromptError(f"detection {number} of {len(array.detections)}: {error}"))
    return found, errors


def check_frame(frame_id: str, expected: str) -> None:
    """Raise FrameIdMismatch where detections are of another camera's pictures."""
    if frame_id and frame_id != expected:
        raise FrameIdMismatch(
            f"detections are for images in {frame_id!r}, the colour images are in {expected!r}: let the detector look "
            "at this node's camera and send the image's own header"
        )


def _surest(results: Sequence[Message]) -> tuple[str, float]:
    named: list[Message] = [getattr(result, "hypothesis", result) for result in results]
    if not named:
        return "", 1.0
    best: Message = max(named, key=lambda hypothesis: float(hypothesis.score))
    return str(best.class_id if hasattr(best, "class_id") else best.id), float(best.score)


def _box(bbox: Message) -> tuple[float, float, float, float]:
    """The upright rectangle of a box; one that is turned (theta) is enclosed by it."""
    centre = getattr(bbox.center, "position", bbox.center)
    x, y, turn = float(centre.x), float(centre.y), float(bbox.center.theta)
    wide, high = float(bbox.size_x), float(bbox.size_y)
    half_x = (abs(wide * cos(turn)) + abs(high * sin(turn))) / 2
    half_y = (abs(wide * sin(turn)) + abs(high * cos(turn))) / 2
    return x - half_x, y - half_y, x + half_x, y + half_y
