"""Late prompts, worked off in the background of the stream.

An object that was pointed at in a frame of the past is brought forward from there: that frame first,
then every frame after it, as if the prompt had come in time. One step works off a few of those frames
and its own, so that the other objects wait for no more than that. Until an object has arrived, it is
tracked in the newest frame with the memory that it has so far; what that gave is then replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sam_perception.segmentation.frames import CachedFrame, DuePrompt, FrameCache


@dataclass(eq=False)
class _Way:
    """What is still to be done for one object."""

    next_frame: int  # number of the frame that comes next
    prompts: list[DuePrompt] = field(default_factory=list)  # not yet applied


@dataclass(frozen=True)
class Portion:
    """What is to be done on one frame of the past."""

    frame: CachedFrame
    object_ids: tuple[int, ...]  # that are tracked into it or pointed at on it
    prompts: tuple[DuePrompt, ...]


class CatchUp:
    """Objects that are being brought forward."""

    def __init__(self) -> None:
        self._ways: dict[int, _Way] = {}

    def __contains__(self, object_id: int) -> bool:
        return object_id in self._ways

    @property
    def waiting(self) -> tuple[int, ...]:
        """Objects with a prompt that has not been applied yet."""
        return tuple(i for i, way in self._ways.items() if way.prompts)

    def add(self, due: DuePrompt) -> None:
        """Apply a prompt when its frame's turn comes; the object goes back to that frame if it is past it."""
        way = self._ways.setdefault(due.prompt.object_id, _Way(due.frame.index))
        way.next_frame = min(way.next_frame, due.frame.index)
        way.prompts.append(due)

    def forget(self, object_id: int) -> None:
        """The object was removed."""
        self._ways.pop(object_id, None)

    def clear(self) -> None:
        """Drop everything."""
        self._ways.clear()

    def stranded(self, cache: FrameCache) -> list[DuePrompt]:
        """Give up on objects whose next frame is not kept any more; their prompts that were not applied."""
        oldest, prompts = next(iter(cache)).index, []
        for object_id, way in list(self._ways.items()):
            if way.next_frame < oldest:
                del self._ways[object_id]
                prompts += way.prompts
        return prompts

    def portion(self, cache: FrameCache) -> Portion | None:
        """The oldest frame of the past with something to do; None if all have arrived at the newest."""
        newest = cache.newest.index
        first = min((way.next_frame for way in self._ways.values()), default=newest)
        if first >= newest:
            return None
        frame = next(f for f in cache if f.index == first)
        here = {i: way for i, way in self._ways.items() if way.next_frame == first}
        return Portion(frame, tuple(here), tuple(d for way in here.values() for d in way.prompts if d.frame is frame))

    def finish(self, portion: Portion) -> None:
        """A portion has been worked off."""
        for object_id in portion.object_ids:
            way = self._ways[object_id]
            way.prompts = [d for d in way.prompts if d.frame is not portion.frame]
            way.next_frame += 1

    def pressing(self, cache: FrameCache) -> bool:
        """Whether the next frame to work off is about to leave the cache."""
        return any(cache.leaves_next(way.next_frame) for way in self._ways.values())

    def arrived(self, newest: CachedFrame) -> list[DuePrompt]:
        """Take out the objects that have come to the newest frame; their prompts for that frame."""
        done = [i for i, way in self._ways.items() if way.next_frame >= newest.index]
        return [d for i in done for d in self._ways.pop(i).prompts]


def split(due: Sequence[DuePrompt], newest: CachedFrame, late: CatchUp) -> tuple[list[DuePrompt], list[DuePrompt]]:
    """Prompts for the newest frame, and those for the past.

    A prompt for an object that is still on its way waits for its turn, wherever it points: it adds to
    what the object will then be.
    """
    behind = {d.prompt.object_id for d in due if d.frame is not newest or d.prompt.object_id in late}
    now = [d for d in due if d.prompt.object_id not in behind]
    return now, [d for d in due if d.prompt.object_id in behind]
