"""What every source of frames offers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from sam_perception.errors import PerceptionError
from sam_perception.frame import RgbdFrame

ENDLESS = sys.maxsize  # length of a live camera


@dataclass(frozen=True)
class Rejection:
    """A frame that a source could not hand out, and why; the ones after it are handed out all the same."""

    stamp_ns: int
    kind: str  # name of the error's class
    reason: str

    @classmethod
    def of(cls, stamp_ns: int, error: PerceptionError) -> Rejection:
        """What `error` says about the frame at `stamp_ns`."""
        return cls(stamp_ns, error.kind, str(error))


class FrameSource(Protocol):
    """Frames in the order of their recording; may be iterated again, and is closed by `with`."""

    @property
    def description(self) -> str:
        """One line for people: what is read, from where."""

    @property
    def independent(self) -> bool:
        """Whether the frames are separate scenes, between which nothing can be tracked."""

    @property
    def rejected(self) -> Sequence[Rejection]:
        """Frames left out so far in the latest iteration."""

    def __len__(self) -> int:
        """How many frames there are, rejected ones included; ENDLESS of a live camera."""

    def __iter__(self) -> Iterator[RgbdFrame]:
        """Each frame, decoded when it is asked for."""

    def __enter__(self) -> FrameSource:
        """The source itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close files."""
