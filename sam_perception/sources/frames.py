"""Frames that are in memory already, as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from types import TracebackType

from sam_perception.frame import RgbdFrame
from sam_perception.sources.source import FrameSource, Rejection


class FrameList:
    """A `FrameSource` of frames that are at hand."""

    def __init__(self, frames: Sequence[RgbdFrame], description: str, rejected: Sequence[Rejection] = ()) -> None:
        self._frames, self._description, self._rejected = frames, description, rejected

    @classmethod
    def of(cls, source: FrameSource, limit: int) -> FrameList:
        """The first `limit` usable frames of another source."""
        with source:
            frames = list(islice(source, limit))
            return cls(frames, f"the first {len(frames)} of {source.description}", tuple(source.rejected))

    @property
    def description(self) -> str:
        """One line for people."""
        return self._description

    @property
    def independent(self) -> bool:
        """The frames belong together."""
        return False

    @property
    def rejected(self) -> Sequence[Rejection]:
        """Frames that were left out when the list was made."""
        return self._rejected

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[RgbdFrame]:
        return iter(self._frames)

    def __enter__(self) -> FrameList:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None
