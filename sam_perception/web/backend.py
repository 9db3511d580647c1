"""What the console needs of whoever it is served for; all of it is called from the console's own threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sam_perception.frame import RgbdFrame
from sam_perception.scene import Regions, Scene
from sam_perception.web.wire import PromptRequest


class Seen(Protocol):
    """A processed frame."""

    @property
    def frame(self) -> RgbdFrame:
        """What came from the camera."""

    @property
    def scene(self) -> Scene:
        """What is known about it, perhaps without positions."""


@dataclass(frozen=True, eq=False)
class CutUp:
    """A picture and what it was cut into."""

    seen: Seen
    regions: Regions


@dataclass(frozen=True)
class Done:
    """What became of a request that was taken."""

    text: str
    object_id: int = 0  # the object that it was about; 0: none, or all


@dataclass(frozen=True)
class Report:
    """How the node is, in numbers and words; goes to the page as it is."""

    node: str  # its name
    state: str  # of its lifecycle
    model: str
    device: str
    rate_hz: float = 0.0  # of processed frames
    input_hz: Mapping[str, float] = field(default_factory=dict)  # by stream
    latency_ms: Mapping[str, Sequence[float]] = field(default_factory=dict)  # by stage: p50, p95, p99
    known_ids: Sequence[int] = ()  # objects that are tracked or asked for
    diagnostics: Sequence[Mapping[str, Any]] = ()  # name, level (0 fine, 1 warning, 2 error), message
    refusals: Sequence[Mapping[str, Any]] = ()  # kind, message, age_s; newest first
    notes: Sequence[str] = ()  # newest last


class Backend(Protocol):
    """The node, as narrow as the console needs it."""

    def newest(self) -> Seen | None:
        """The newest processed frame, at once: the same object as long as there is no newer one."""

    def complete(self, seen: Seen) -> Scene:
        """Its scene with positions, without the objects that were removed since."""

    def report(self) -> Report:
        """How the node is."""

    def prompt(self, request: PromptRequest) -> Done:
        """Point at an object.

        Raises:
            PerceptionError: what is wrong with it, and what to do.
        """

    def rename(self, object_id: int, label: str) -> Done:
        """Give an object another name.

        Raises:
            PerceptionError: there is no such object, or it cannot have this name.
        """

    def remove(self, object_id: int) -> Done:
        """Forget an object.

        Raises:
            PerceptionError: there is no such object.
        """

    def reset(self) -> Done:
        """Forget all objects.

        Raises:
            PerceptionError: the node cannot.
        """

    def regions(self) -> CutUp:
        """Cut the newest picture up as a whole; may take seconds.

        Raises:
            PerceptionError: there is no picture, or the node cannot.
        """
