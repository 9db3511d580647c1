"""What `Perception` needs of its parts, so that others can take their place."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import EverythingConfig
from sam_perception.frame import RgbdFrame
from sam_perception.prompts import Prompt
from sam_perception.scene import DepthEvidence, Placement, Regions

if TYPE_CHECKING:
    from sam_perception.segmentation import Tracks


class Tracker(Protocol):
    """What the recipe needs of a tracker; `segmentation.StreamingTracker` is one."""

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Objects that are tracked, ascending."""

    @property
    def waiting(self) -> tuple[int, ...]:
        """Objects with a prompt that waits for its frame."""

    def prompt(self, prompt: Prompt, /) -> None:
        """Point at an object, from the next step on."""

    def step(
        self,
        rgb: NDArray[np.uint8],
        stamp_ns: int,
        evidence: Mapping[int, DepthEvidence] | None = None,
        only: Collection[int] | None = None,
        /,
    ) -> Tracks:
        """Track all objects, or those whose turn it is, into the next picture."""

    def remove(self, object_id: int, /) -> None:
        """Forget one object."""

    def rename(self, object_id: int, label: str, /) -> None:
        """Give an object another name."""

    def reset(self) -> None:
        """Forget everything."""

    def forget_memory(self) -> None:
        """Forget recent frames and keep the objects."""

    def judge(self, placements: Mapping[int, Placement], /) -> None:
        """Decide what to remember of the newest frame, knowing where depth puts the visible objects in it."""


@runtime_checkable
class Degradable(Protocol):
    """A tracker that may make do with less than it was asked for."""

    @property
    def degraded(self) -> str:
        """In words; "" while it need not."""


class RegionFinder(Protocol):
    """What cuts pictures up as a whole; `segmentation.RegionFinder` is one."""

    def search(self, frame: RgbdFrame, config: EverythingConfig, /) -> Generator[float, None, Regions]:
        """The regions of a frame's picture, in small steps, each with the share that is done."""
