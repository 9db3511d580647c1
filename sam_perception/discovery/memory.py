"""What is remembered of each object: where it was, when, and what it looked like."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GeometryConfig
from sam_perception.discovery.looks import Looks, looks_of
from sam_perception.discovery.places import position_of
from sam_perception.frame import RgbdFrame
from sam_perception.scene import ObjectState, Track

# Masks (N, H, W) and the stamp of their picture to unit vectors (N, C), as `StreamingTracker.appearance`.
Describe = Callable[[NDArray[np.bool_], "int | None"], NDArray[np.float32]]

_VIEWS = 32  # frames for which it is known what was where; a detector may be that much behind
_NEW_SHARE = 0.1  # of the newest look in what is remembered
_LOOK_AGAIN_NS = 300_000_000  # things do not change that fast, and a look costs a millisecond for each
_PENDING_FRAMES = 8  # an object that was asked for and has not come by then is not waited for


@dataclass(frozen=True, eq=False)
class Seen:
    """One object, when it was last visible."""

    object_id: int
    label: str
    state: ObjectState  # now
    stamp_ns: int  # of that sight
    box: tuple[float, float, float, float]  # pixels, outermost edges
    mask: NDArray[np.bool_]  # (h, w), cropped to the box
    position_m: NDArray[np.float64] | None  # (3,) in the camera's frame of that time; None without depth
    looks: Looks | None  # a mean over time; None before it was TRACKED
    looks_ns: int = 0  # stamp of the newest part of them


class ObjectMemory:
    """Follows scenes; knows objects out of sight, and what the last frames showed."""

    def __init__(self) -> None:
        self._known: dict[int, Seen] = {}
        self._views: deque[tuple[int, tuple[Seen, ...]]] = deque(maxlen=_VIEWS)
        self._pending: dict[int, tuple[Seen, int]] = {}  # with the frames that it has been waited for

    def remember(
        self,
        frame: RgbdFrame,
        tracks: Iterable[Track],
        settings: GeometryConfig,
        describe: Describe | None,
        resting: Collection[int] = (),
    ) -> None:
        """Take in one frame; objects that are not among `tracks` are forgotten, the masks of those resting are old."""
        tracks = list(tracks)
        visible = [t for t in tracks if t.state.visible and t.mask.any() and t.id not in resting]
        sure = [t for t in visible if t.state is ObjectState.TRACKED and self._to_be_looked_at(t.id, frame.stamp_ns)]
        vectors: Sequence[NDArray[np.float32] | None] = [None] * len(sure)
        if describe is not None and sure:
            vectors = list(describe(np.stack([track.mask for track in sure]), frame.stamp_ns))
        looks = {t.id: looks_of(frame.rgb, t.mask, vector) for t, vector in zip(sure, vectors, strict=True)}
        known = {}
        for track in tracks:
            before = self._known.get(track.id)
            if track in visible:
                known[track.id] = _seen(frame, track, settings, before, looks.get(track.id))
            elif before is not None:
                known[track.id] = replace(before, state=track.state, label=track.label)
        self._known = known
        self._views.append((frame.stamp_ns, tuple(seen for seen in known.values() if seen.state.visible)))
        self._pending = {
            i: (seen, waited + 1)
            for i, (seen, waited) in self._pending.items()
            if i not in known and waited < _PENDING_FRAMES
        }

    def _to_be_looked_at(self, object_id: int, stamp_ns: int) -> bool:
        before = self._known.get(object_id)
        return before is None or before.looks is None or not 0 <= stamp_ns - before.looks_ns < _LOOK_AGAIN_NS

    def expect(self, object_id: int, label: str, box: tuple[float, float, float, float], stamp_ns: int) -> None:
        """Note an object that was asked for and is in no scene yet, so that it is not asked for twice."""
        mask = np.ones((max(round(box[3] - box[1]), 1), max(round(box[2] - box[0]), 1)), np.bool_)
        self._pending[object_id] = (Seen(object_id, label, ObjectState.TRACKED, stamp_ns, box, mask, None, None), 0)

    def get(self, object_id: int) -> Seen | None:
        """The object as it was last seen, if it ever was."""
        return self._known.get(object_id)

    @property
    def hidden(self) -> tuple[Seen, ...]:
        """Objects that are out of sight now, as they were last seen."""
        return tuple(seen for seen in self._known.values() if not seen.state.visible)

    @property
    def empty(self) -> bool:
        """Whether there is no object at all."""
        return not self._known and not self._pending

    def view(self, stamp_ns: int) -> tuple[Seen, ...] | None:
        """What was visible at a stamp, with what is expected; None where that is too long ago to tell.

        Between two frames the later one counts, and after the newest one that one.
        """
        expected = tuple(seen for seen, _ in self._pending.values())
        if not self._views:
            return expected
        if stamp_ns < self._views[0][0]:
            return None
        at = next((seen for stamp, seen in self._views if stamp >= stamp_ns), self._views[-1][1])
        # What has been removed since is not there, what has another name by now bears that, and what was
        # begun in that very picture, by detections before these, is in sight from the next one on.
        known = [replace(s, label=self._known[s.object_id].label) for s in at if s.object_id in self._known]
        ids = {seen.object_id for seen in known}
        later = (seen for seen in self._known.values() if seen.state.visible and seen.object_id not in ids)
        return (*known, *later, *expected)

    def forget(self, object_id: int) -> None:
        """Forget one object."""
        self._known.pop(object_id, None)
        self._pending.pop(object_id, None)

    def forget_frames(self) -> None:
        """Forget which frame showed what, for a stream that jumps; what objects look like stays."""
        self._views.clear()
        self._known = {i: replace(seen, position_m=None) for i, seen in self._known.items()}

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
        self._views.clear()
        self._pending.clear()


def _seen(frame: RgbdFrame, track: Track, settings: GeometryConfig, before: Seen | None, look: Looks | None) -> Seen:
    x, y, width, height = track.roi
    crop = track.mask[y : y + height, x : x + width].copy()  # a view would keep all masks of the frame alive
    looks, looks_ns = (before.looks, before.looks_ns) if before is not None else (None, 0)
    if look is not None:
        looks, looks_ns = look if looks is None else looks.blended(look, _NEW_SHARE), frame.stamp_ns
    box = (float(x), float(y), float(x + width), float(y + height))
    position = position_of(frame, track.mask, settings)
    return Seen(track.id, track.label, track.state, frame.stamp_ns, box, crop, position, looks, looks_ns)
