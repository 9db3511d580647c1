"""The output vocabulary: everything known about one frame, under the frame's own header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import UnknownObject


class ObjectState(Enum):
    """What became of an object in this frame; values are those of `TrackedObject.msg`."""

    TRACKED = 1  # seen
    OCCLUDED = 2  # not seen; something nearer is in front of it, or it has just vanished
    LOST = 3  # not seen for long, or its place is empty
    REACQUIRED = 4  # seen again, not yet for long enough to be TRACKED

    @property
    def visible(self) -> bool:
        """Whether the object has a mask in this frame."""
        return self in (ObjectState.TRACKED, ObjectState.REACQUIRED)


class DepthEvidence(Enum):
    """What depth shows now at the place where an object was last seen."""

    UNKNOWN = "unknown"  # too little depth there to tell
    NEARER = "nearer"  # another surface stands in front of the place
    SAME = "same"  # a surface at the object's last depth
    EMPTY = "empty"  # one sees past the place, to something farther away


@dataclass(frozen=True, eq=False)
class OrientedBox:
    """A box in the camera's optical frame."""

    center_m: NDArray[np.float64]  # (3,)
    camera_from_box: NDArray[np.float64]  # (3, 3) rotation; columns are the box's axes, det +1
    size_m: NDArray[np.float64]  # (3,) full edge lengths along those axes


def _empty_points() -> NDArray[np.float32]:
    return np.zeros((0, 3), np.float32)


def _empty_colors() -> NDArray[np.uint8]:
    return np.zeros((0, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class Lifted:
    """A mask in three dimensions: what depth says about it, in the camera's optical frame.

    `centroid`, `covariance` and `box` are None where too little depth is valid to tell.
    """

    points: NDArray[np.float32] = field(default_factory=_empty_points)  # (P, 3) metres
    colors: NDArray[np.uint8] = field(default_factory=_empty_colors)  # (P, 3) RGB
    centroid: NDArray[np.float64] | None = None  # (3,) metres, mean of the visible surface
    covariance: NDArray[np.float64] | None = None  # (3, 3) square metres, of the centroid
    box: OrientedBox | None = None
    valid_depth_share: float = 0.0  # pixels of the mask with usable depth / pixels of the mask


@dataclass(frozen=True, eq=False)
class Track:
    """One object in one frame."""

    id: int
    label: str
    state: ObjectState
    score: float  # probability that the object is in the picture
    mask_score: float  # the model's estimate of the mask's IoU
    mask: NDArray[np.bool_]  # (H, W); all false when not visible
    last_seen_ns: int  # stamp of the last frame with the object visible
    lifted: Lifted = field(default_factory=Lifted)

    @property
    def points(self) -> NDArray[np.float32]:
        """(P, 3) metres, the object's visible surface in the camera's optical frame."""
        return self.lifted.points

    @property
    def colors(self) -> NDArray[np.uint8]:
        """(P, 3) RGB of `points`."""
        return self.lifted.colors

    @property
    def centroid(self) -> NDArray[np.float64] | None:
        """(3,) metres, or None without enough depth."""
        return self.lifted.centroid

    @property
    def covariance(self) -> NDArray[np.float64] | None:
        """(3, 3) square metres of the centroid, or None without enough depth."""
        return self.lifted.covariance

    @property
    def box(self) -> OrientedBox | None:
        """Oriented box around `points`, or None without enough depth."""
        return self.lifted.box

    @property
    def roi(self) -> tuple[int, int, int, int]:
        """x, y, width, height of the mask's bounding rectangle in pixels; zeros when empty."""
        columns = np.flatnonzero(self.mask.any(axis=0))
        if columns.size == 0:
            return (0, 0, 0, 0)
        rows = np.flatnonzero(self.mask.any(axis=1))
        x, y = int(columns[0]), int(rows[0])
        return (x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1)


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything known about one frame; `stamp_ns` and `frame_id` are the colour image's."""

    stamp_ns: int
    frame_id: str
    width: int  # pixels
    height: int  # pixels
    objects: tuple[Track, ...] = ()  # in order of id; also those not visible
    timings_ms: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))  # per stage
    rejected: tuple[str, ...] = ()  # prompts that could not be applied to this frame, and why

    def object(self, object_id: int) -> Track:
        """The object with this id.

        Raises:
            UnknownObject: there is none.
        """
        for track in self.objects:
            if track.id == object_id:
                return track
        raise UnknownObject(f"no object {object_id} in this scene, it has {[t.id for t in self.objects]}")

    @property
    def id_mask(self) -> NDArray[np.uint16]:
        """(H, W) object id per pixel, 0 background; where masks overlap the surer one wins."""
        ids = np.zeros((self.height, self.width), np.uint16)
        for track in sorted(self.objects, key=lambda t: t.mask_score):
            ids[track.mask] = track.id
        return ids
