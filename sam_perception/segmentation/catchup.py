"""Late prompts, worked off in the background of the stream.

An object that was pointed at in a frame of the past is brought forward from there: that frame first,
then every frame after it, as if the prompt had come in time. One step works off a few of those frames
and its own, so that the other objects wait for no more than that. A frame without features, from before
there was any object, takes a whole run of the image encoder: it is all that one step works off. Until
an object has arrived, it is tracked in the newest frame with the memory that it has so far; what that
gave is then replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sam_perception.errors import DeviceMemoryError, PromptError
from sam_perception.prompts import Prompt
from sam_perception.segmentation.advancing import Advancer
from sam_perception.segmentation.device_memory import is_device_memory_error
from sam_perception.segmentation.frames import CachedFrame, DuePrompt, FrameCache
from sam_perception.segmentation.observing import TrackedObject


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
    """Objects that are being brought forward.

    Args:
        advance: brings objects into a frame.
        objects: everything tracked.
        limit: frames of the past that one step works off, of those that have features.
    """

    def __init__(self, advance: Advancer, objects: Mapping[int, TrackedObject], limit: int) -> None:
        self._advance, self._objects, self._limit = advance, objects, limit
        self._ways: dict[int, _Way] = {}
        self._applied: list[Prompt] = []

    def __contains__(self, object_id: int) -> bool:
        return object_id in self._ways

    @property
    def kept(self) -> tuple[Prompt, ...]:
        """Prompts that have not been applied yet."""
        return tuple(d.prompt for way in self._ways.values() for d in way.prompts)

    @property
    def waiting(self) -> tuple[int, ...]:
        """Objects with a prompt that has not been applied yet."""
        return tuple(i for i, way in self._ways.items() if way.prompts)

    @property
    def applied(self) -> tuple[Prompt, ...]:
        """Prompts that were applied to frames of the past since the last call of `take`."""
        return tuple(self._applied)

    def take(
        self, due: Sequence[DuePrompt], cache: FrameCache, notes: list[str], rejected: list[tuple[int, str]]
    ) -> list[DuePrompt]:
        """Take over the prompts that are to be worked off.

        A prompt for an object that is still on its way waits for its turn, wherever it points: it adds
        to what the object will then be.

        Args:
            due: accepted prompts, whose objects are among `objects`.
            cache: the frames there are.
            notes: gets a line for a prompt that is applied to another frame than was asked for.
            rejected: gets the prompts that lost their frame and do not fit the newest one, and why.

        Returns:
            The prompts to apply to the newest frame, beside those of `arrived`.
        """
        self._applied, newest = [], cache.newest
        behind = {d.prompt.object_id for d in due if d.frame is not newest or d.prompt.object_id in self._ways}
        now = [d for d in due if d.prompt.object_id not in behind]
        for d in due:
            if d.prompt.object_id in behind:
                self._add(d)
        for d in self._stranded(cache):
            known, (height, width) = self._objects[d.prompt.object_id], newest.size
            known.first_frame = known.first_frame if known.begun else newest.index
            lost = f"prompt for object {d.prompt.object_id} lost its frame"
            try:
                d.prompt.check_inside(width, height)
            except PromptError as error:
                rejected.append((d.prompt.object_id, f"{lost}, and does not fit the newest one: {error}"))
                continue
            now.append(DuePrompt(d.prompt, newest))
            notes.append(f"{lost}: applied to the newest one")
        return now

    def work_off(self, cache: FrameCache) -> None:
        """Bring objects that are on their way forward, as far as one step may."""
        spent, hurried = 0, False
        while (portion := self._portion(cache)) is not None:
            cost = 1 if portion.frame.encoded else self._limit
            if spent + cost > self._limit:
                # One more, and no further one, where a frame would leave otherwise: the others wait for this.
                if hurried or not self._pressing(cache):
                    break
                hurried = True
            self._work_on(portion)
            spent += cost

    def arrived(self, newest: CachedFrame) -> list[DuePrompt]:
        """Take out the objects that have come to the newest frame; their prompts for that frame."""
        done = [i for i, way in self._ways.items() if way.next_frame >= newest.index]
        return [d for i in done for d in self._ways.pop(i).prompts]

    def withdraw(self, frame: CachedFrame) -> None:
        """The frame's step failed, and it is not kept: prompts for it are to be given again."""
        for object_id, way in list(self._ways.items()):
            way.prompts = [d for d in way.prompts if d.frame is not frame]
            if way.next_frame >= frame.index:
                del self._ways[object_id]

    def _work_on(self, portion: Portion) -> None:
        frame, prompts = portion.frame, [d.prompt for d in portion.prompts]
        asked = {p.object_id for p in prompts}
        ids = [
            i
            for i in portion.object_ids
            # On a frame that was pointed at before, that answer stands.
            if self._objects[i].first_frame < frame.index and (i in asked or i not in frame.prompted)
        ]
        try:
            with frame.all_or_nothing():
                self._advance(frame, ids, prompts)
        except Exception as error:
            if not (isinstance(error, DeviceMemoryError) or is_device_memory_error(error)):
                # It would fail again, and every step with it.
                for object_id in portion.object_ids:
                    self.forget(object_id)
            raise
        self._applied += prompts
        for object_id in portion.object_ids:
            way = self._ways[object_id]
            way.prompts = [d for d in way.prompts if d.frame is not frame]
            way.next_frame += 1

    def _add(self, due: DuePrompt) -> None:
        """Apply a prompt when its frame's turn comes; the object goes back to that frame if it is past it."""
        way = self._ways.setdefault(due.prompt.object_id, _Way(due.frame.index))
        way.next_frame = min(way.next_frame, due.frame.index)
        way.prompts.append(due)

    def forget(self, object_id: int) -> None:
        """The object was removed."""
        self._ways.pop(object_id, None)

    def _stranded(self, cache: FrameCache) -> list[DuePrompt]:
        """Give up on objects whose next frame is not kept any more; their prompts that were not applied."""
        oldest, prompts = next(iter(cache)).index, []
        for object_id, way in list(self._ways.items()):
            if way.next_frame < oldest:
                del self._ways[object_id]
                prompts += way.prompts
        return prompts

    def _portion(self, cache: FrameCache) -> Portion | None:
        """The oldest frame of the past with something to do; None if all have arrived at the newest."""
        newest = cache.newest.index
        first = min((way.next_frame for way in self._ways.values()), default=newest)
        if first >= newest:
            return None
        frame = next(f for f in cache if f.index == first)
        here = {i: way for i, way in self._ways.items() if way.next_frame == first}
        return Portion(frame, tuple(here), tuple(d for way in here.values() for d in way.prompts if d.frame is frame))

    def _pressing(self, cache: FrameCache) -> bool:
        """Whether the next frame to work off is about to leave the cache."""
        return any(cache.leaves_next(way.next_frame) for way in self._ways.values())
