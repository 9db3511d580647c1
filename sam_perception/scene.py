"""The output vocabulary: everything known about one frame, under the frame's own header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import UnknownObject
from sam_perception.frame import DepthSource


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


@dataclass(frozen=True)
class Placement:
    """Where depth puts an object in one frame, told from its mask and the median of its depth."""

    position_m: tuple[float, float, float]  # in the camera's optical frame
    size_m: float  # square root of the area that the mask covers at that depth


class SurfaceLabel(Enum):
    """What a pixel belongs to, as a semantic model sees it; kept as uint8 maps."""

    UNKNOWN = 0
    FLOOR = 1
    WALL = 2


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
    last_seen_ns: int  # stamp of the last frame with the object visible; 0: never yet
    lifted: Lifted = field(default_factory=Lifted)
    label_score: float = 0.0  # how sure a detector was of `label`; 0 where a person gave it

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

    @cached_property  # asked for by messages, pictures and the memory of places
    def roi(self) -> tuple[int, int, int, int]:
        """x, y, width, height of the mask's bounding rectangle in pixels; zeros when empty."""
        rows = np.flatnonzero(self.mask.any(axis=1))
        if rows.size == 0:
            return (0, 0, 0, 0)
        columns = np.flatnonzero(self.mask[rows[0] : rows[-1] + 1].any(axis=0))
        x, y = int(columns[0]), int(rows[0])
        return (x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1)


@dataclass(frozen=True, eq=False)
class Region:
    """One region of a picture that was cut up as a whole; regions may overlap and lie within one another."""

    id: int  # 1 and up in one answer, largest region first
    mask: NDArray[np.bool_]  # (H, W)
    box: tuple[int, int, int, int]  # x, y, width, height in pixels
    area_px: int
    predicted_iou: float  # the model's estimate of the mask's intersection over union, 0 to 1
    stability_score: float  # intersection over union of the mask cut at a higher and at a lower level
    point: tuple[float, float]  # x, y in pixels of the point that gave the region


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of one picture, under its own header."""

    stamp_ns: int
    frame_id: str
    width: int  # pixels
    height: int  # pixels
    regions: tuple[Region, ...] = ()  # largest first

    def region(self, region_id: int) -> Region:
        """The region with this id.

        Raises:
            UnknownObject: there is none.
        """
        for region in self.regions:
            if region.id == region_id:
                return region
        known = f"1 to {len(self.regions)}" if self.regions else "none"
        raise UnknownObject(f"no region {region_id} in the newest answer, it has {known}: cut the picture up again")


class PlaneKind(Enum):
    """What a plane is, told by its height and normal."""

    GROUND = 1  # the lowest horizontal plane in view: a floor, or a table top where no floor is seen
    TABLE = 2  # horizontal and above the ground
    WALL = 3  # upright
    OTHER = 4  # neither: a ramp, a lid


@dataclass(frozen=True, eq=False)
class Plane:
    """Points p with `normal` . p + `offset_m` = 0, in the camera's optical frame.

    The normal points to the side on which the camera is, so that `offset_m` is the camera's distance
    from the plane; for the ground, its height above it. (In a scene that was brought into another frame it
    is the distance from that frame's origin instead, see `Scene.frame_from_camera`.)
    """

    normal: NDArray[np.float64]  # (3,) of length 1
    offset_m: float  # at least 0
    kind: PlaneKind
    inlier_share: float  # of the points with depth that lie on it
    rms_m: float  # root mean square distance of those points
    outline_m: NDArray[np.float64]  # (K, 3) convex outline of those points, on the plane; none if out of sight
    id: int = 0  # the same for as long as the plane is followed from frame to frame

    def height_m(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """(...,) signed distances of points (..., 3), positive on the camera's side."""
        return np.asarray(points @ self.normal.astype(points.dtype) + self.offset_m)


class GraspKind(Enum):
    """How a grasp was found."""

    TOP_DOWN = 1  # from above, closing along the ground
    SIDE = 2  # along the ground, closing along it
    ANTIPODAL = 3  # on two opposite patches of the visible surface


@dataclass(frozen=True, eq=False)
class GraspTarget:
    """One grasp for a parallel gripper.

    The gripper's frame: x is the approach, y the closing direction, z = x cross y (towards the
    reader); the origin is the middle between the finger tips::

             +-----------------+
             |     finger      |
        +----+-----------------+       y
        |    |                         ^
        |palm|                 o       |
        |    |             (origin)    +--> x
        +----+-----------------+
             |     finger      |
             +-----------------+

    `object_width_m` is the visible extent between the contacts. Where the object's far side is not
    seen, it is a lower bound, and the gripper is to be opened wider than that: `width_m`.
    """

    object_id: int
    camera_from_gripper: NDArray[np.float64]  # (4, 4)
    width_m: float  # opening to set before the approach
    object_width_m: float  # visible extent of the object along the closing direction
    width_is_lower_bound: bool  # the object may extend farther, on its unseen side
    kind: GraspKind
    score: float  # 0 to 1, the geometric mean of the parts
    parts: Mapping[str, float]  # each 0 to 1

    @property
    def approach(self) -> NDArray[np.float64]:
        """(3,) direction in which the gripper comes."""
        return self.camera_from_gripper[:3, 0]

    @property
    def closing(self) -> NDArray[np.float64]:
        """(3,) direction along which the fingers close."""
        return self.camera_from_gripper[:3, 1]

    @property
    def position_m(self) -> NDArray[np.float64]:
        """(3,) middle between the finger tips."""
        return self.camera_from_gripper[:3, 3]


class ObstacleKind(Enum):
    """What stands above the ground and is no target; values are those of `ObstacleSegment.msg`."""

    OBSTACLE = 1
    WALL = 2
    TABLE = 3  # the top of a table above the ground, without what stands on it
    UNKNOWN = 4  # too low, too small or without depth: not proven to be an obstacle, never free


@dataclass(frozen=True, eq=False)
class ObstacleSegment:
    """One segment of what is in the way, in the camera's optical frame."""

    id: int  # stable from frame to frame as long as it is seen, see `ObstacleMap`
    kind: ObstacleKind
    points: NDArray[np.float32]  # (P, 3) metres; none for a hole in depth
    colors: NDArray[np.uint8]  # (P, 3) RGB
    box: OrientedBox | None  # upright where the ground is known; None without points
    nearest_point_m: NDArray[np.float64]  # (3,); of a hole: where its nearest ray would meet the ground
    distance_m: float  # of the nearest point from the camera
    ground_distance_m: float  # the same along the ground from the camera's foot; NaN without ground
    height_m: float  # of its highest point above the ground; NaN without ground or points
    unknown_share: float  # pixels without depth in the segment's outline / pixels of the outline


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
    notes: tuple[str, ...] = ()  # what was done otherwise than asked, or happened to the stream
    resting: tuple[int, ...] = ()  # objects whose turn it was not: all of them is of the frame of `last_seen_ns`
    grasp_targets: tuple[GraspTarget, ...] = ()  # per object best first, in order of object id
    grasp_reasons: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))  # object id: why none
    ground: Plane | None = None
    planes: tuple[Plane, ...] = ()  # all dominant planes, the ground among them
    obstacles: tuple[ObstacleSegment, ...] = ()  # in order of id
    scene_points: NDArray[np.float32] = field(default_factory=_empty_points)  # (S, 3) metres, all but the targets
    scene_colors: NDArray[np.uint8] = field(default_factory=_empty_colors)  # (S, 3) RGB of `scene_points`
    fixed_planes: tuple[Plane, ...] = ()  # averaged over time, in the fixed frame, where the camera's pose is known
    frame_from_camera: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))  # (4, 4), see `moved_scene`
    depth_source: DepthSource = DepthSource.SENSOR  # of the objects' points, centroids, boxes and grasps
    around_source: DepthSource = DepthSource.SENSOR  # of ground, planes, obstacles and `scene_points`

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
            x, y, width, height = track.roi
            window = slice(y, y + height), slice(x, x + width)
            ids[window][track.mask[window]] = track.id
        return ids
