"""Values as ROS messages, written once for rclpy's message classes and for the rosbags library's.

Every function takes `types`, which makes a message from its type's name and its fields:
`types("std_msgs/Header", frame_id="camera")`. Fields left out have their defaults, and numpy
arrays become whatever the backend keeps arrays in. Headers are the colour image's own, never the clock's.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sam_perception.frame import CameraIntrinsics, DistortionModel, RgbdFrame
from sam_perception.overlay import caption_of, color_of, draw_overlay
from sam_perception.scene import OrientedBox, Scene, Track

Message = Any  # rclpy and rosbags make their classes at run time

# sensor_msgs/PointField datatypes.
_UINT32, _FLOAT32 = 6, 7
# visualization_msgs/Marker types and actions.
_CUBE, _SPHERE, _TEXT, _ADD, _DELETE_ALL = 1, 2, 9, 0, 3
# An ellipsoid of this many standard deviations holds 97 % of a normal distribution in three dimensions.
_COVARIANCE_SIGMAS = 3.0
_TEXT_HEIGHT_M = 0.03

_CLOUD_DTYPE = np.dtype([("xyz", "<f4", 3), ("rgb", "<u4"), ("object_id", "<u4")])


class MessageTypes(Protocol):
    """Makes messages of one backend."""

    def __call__(self, name: str, /, **fields: Any) -> Message:
        """A message of type `name` ("package/Type") with these fields, the others at their defaults."""


def time(types: MessageTypes, stamp_ns: int) -> Message:
    """`builtin_interfaces/Time` of nanoseconds."""
    return types("builtin_interfaces/Time", sec=int(stamp_ns // 10**9), nanosec=int(stamp_ns % 10**9))


def header(types: MessageTypes, stamp_ns: int, frame_id: str) -> Message:
    """`std_msgs/Header` of a frame."""
    return types("std_msgs/Header", stamp=time(types, stamp_ns), frame_id=frame_id)


def stamp_ns_of(stamp: Message) -> int:
    """Nanoseconds of a `builtin_interfaces/Time`."""
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def stamp_ns_of_cdr(raw: bytes | memoryview) -> int:
    """Nanoseconds of the header that starts a serialised message, without decoding the rest."""
    little = raw[1] == 1  # CDR's encapsulation header
    seconds, nanoseconds = struct.unpack_from("<iI" if little else ">iI", raw, 4)
    return int(seconds) * 10**9 + int(nanoseconds)


def image(types: MessageTypes, message_header: Message, pixels: NDArray[Any], encoding: str) -> Message:
    """`sensor_msgs/Image`, little-endian and without padding, from (H, W) or (H, W, C) samples."""
    samples = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    height, width = samples.shape[:2]
    data = samples.reshape(-1).view(np.uint8)
    return types(
        "sensor_msgs/Image",
        header=message_header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=data.size // height if height else 0,
        data=data,
    )


def color_image(types: MessageTypes, frame: RgbdFrame) -> Message:
    """The frame's colour as rgb8."""
    return image(types, header(types, frame.stamp_ns, frame.frame_id), frame.rgb, "rgb8")


def depth_image(types: MessageTypes, frame: RgbdFrame) -> Message:
    """The frame's depth as 16UC1: whole millimetres, 0 where there is no return or more than 65.535 m."""
    millimetres = np.rint(np.nan_to_num(frame.depth_m, nan=0.0, posinf=0.0, neginf=0.0) * 1000.0)
    millimetres[(millimetres < 0) | (millimetres > 65535)] = 0
    return image(types, header(types, frame.stamp_ns, frame.frame_id), millimetres.astype(np.uint16), "16UC1")


def camera_info(types: MessageTypes, frame: RgbdFrame) -> Message:
    """The frame's intrinsics as `sensor_msgs/CameraInfo`; librealsense's inverse model keeps its own name."""
    camera: CameraIntrinsics = frame.intrinsics
    projection = np.zeros((3, 4))
    projection[:, :3] = camera.matrix
    plain = camera.distortion_model is DistortionModel.NONE
    return types(
        "sensor_msgs/CameraInfo",
        header=header(types, frame.stamp_ns, frame.frame_id),
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob" if plain else camera.distortion_model.value,
        d=np.zeros(5) if plain else np.array(camera.distortion),
        k=camera.matrix.reshape(9),
        r=np.eye(3).reshape(9),
        p=projection.reshape(12),
    )


def tracked_object_array(types: MessageTypes, scene: Scene, *, with_masks: bool = True) -> Message:
    """`TrackedObjectArray` of every object in the scene, seen or not."""
    scene_header = header(types, scene.stamp_ns, scene.frame_id)
    objects = [tracked_object(types, track, scene_header, with_mask=with_masks) for track in scene.objects]
    return types("sam_perception/TrackedObjectArray", header=scene_header, objects=objects)


def tracked_object(types: MessageTypes, track: Track, scene_header: Message, *, with_mask: bool) -> Message:
    """`TrackedObject`; without enough depth its position is NaN, its box without size."""
    x, y, width, height = track.roi
    crop = np.where(track.mask[y : y + height, x : x + width], np.uint8(255), np.uint8(0))
    return types(
        "sam_perception/TrackedObject",
        id=track.id,
        label=track.label,
        state=track.state.value,
        score=float(track.score),
        mask_score=float(track.mask_score),
        last_seen=time(types, track.last_seen_ns),
        roi=types("sensor_msgs/RegionOfInterest", x_offset=x, y_offset=y, width=width, height=height),
        mask=image(types, scene_header, crop if with_mask else crop[:0, :0], "mono8"),
        valid_depth_share=float(track.lifted.valid_depth_share),
        point_count=len(track.points),
        **_position_fields(types, track),
    )


def _position_fields(types: MessageTypes, track: Track) -> dict[str, Message]:
    centroid, covariance, box = track.centroid, track.covariance, track.box
    known = centroid is not None and covariance is not None and box is not None
    nowhere = np.full(3, np.nan)
    return {
        "has_position": known,
        "centroid": _point(types, centroid if known and centroid is not None else nowhere),
        "covariance": np.array(covariance, np.float64).reshape(9) if known else np.full(9, np.nan),
        "box_pose": _pose(types, box.center_m, box.camera_from_box) if known and box else _pose(types, nowhere),
        "box_size": _vector(types, box.size_m if known and box else np.zeros(3)),
    }


def id_mask_image(types: MessageTypes, scene: Scene) -> Message:
    """mono16, the object's id per pixel and 0 on the background."""
    return image(types, header(types, scene.stamp_ns, scene.frame_id), scene.id_mask, "mono16")


def overlay_image(types: MessageTypes, rgb: NDArray[np.uint8], scene: Scene) -> Message:
    """rgb8 picture of the scene drawn over its colour image."""
    return image(types, header(types, scene.stamp_ns, scene.frame_id), draw_overlay(rgb, scene.objects), "rgb8")


def object_cloud(types: MessageTypes, scene: Scene) -> Message:
    """`PointCloud2` of all objects' points: x y z in metres, rgb packed as PCL does, object_id as uint32."""
    cloud = np.concatenate([np.zeros(0, _CLOUD_DTYPE), *(_cloud_of(track) for track in scene.objects)])
    return types(
        "sensor_msgs/PointCloud2",
        header=header(types, scene.stamp_ns, scene.frame_id),
        height=1,
        width=len(cloud),
        fields=[
            types("sensor_msgs/PointField", name=name, offset=offset, datatype=datatype, count=1)
            for name, offset, datatype in (
                ("x", 0, _FLOAT32),
                ("y", 4, _FLOAT32),
                ("z", 8, _FLOAT32),
                ("rgb", 12, _FLOAT32),
                ("object_id", 16, _UINT32),
            )
        ],
        is_bigendian=False,
        point_step=_CLOUD_DTYPE.itemsize,
        row_step=_CLOUD_DTYPE.itemsize * len(cloud),
        data=cloud.view(np.uint8),
        is_dense=True,
    )


def _cloud_of(track: Track) -> NDArray[Any]:
    cloud = np.zeros(len(track.points), _CLOUD_DTYPE)
    colors = track.colors.astype(np.uint32)
    cloud["xyz"] = track.points
    cloud["rgb"] = colors[:, 0] << 16 | colors[:, 1] << 8 | colors[:, 2]
    cloud["object_id"] = track.id
    return cloud


def markers(types: MessageTypes, scene: Scene) -> Message:
    """`MarkerArray` for RViz: box, centroid, its uncertainty (3 sigma) and caption of each object with a position.

    Starts by deleting what earlier frames drew, so that nothing stays of an object that is gone,
    whichever messages were lost in between.
    """
    scene_header = header(types, scene.stamp_ns, scene.frame_id)
    drawn = [types("visualization_msgs/Marker", header=scene_header, action=_DELETE_ALL)]
    for track in scene.objects:
        if track.box is not None and track.centroid is not None and track.covariance is not None:
            drawn += _markers_of(types, scene_header, track, track.box, track.centroid, track.covariance)
    return types("visualization_msgs/MarkerArray", markers=drawn)


def _markers_of(
    types: MessageTypes,
    scene_header: Message,
    track: Track,
    box: OrientedBox,
    centroid: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> list[Message]:
    def marker(ns: str, kind: int, pose: Message, scale: NDArray[Any], alpha: float, text: str = "") -> Message:
        return types(
            "visualization_msgs/Marker",
            header=scene_header,
            ns=ns,
            id=track.id,
            type=kind,
            action=_ADD,
            pose=pose,
            scale=_vector(types, scale),
            color=_color(types, track.id, alpha),
            text=text,
        )

    variances, axes = np.linalg.eigh(covariance)
    axes[:, 2] *= np.sign(np.linalg.det(axes))  # eigenvectors may form a left-handed frame
    spread = 2 * _COVARIANCE_SIGMAS * np.sqrt(np.clip(variances, 0, None))
    # The optical frame's y points down, so the caption goes above the box towards -y.
    above = box.center_m - [0.0, np.abs(box.camera_from_box[1]) @ box.size_m / 2 + _TEXT_HEIGHT_M, 0.0]
    return [
        marker("box", _CUBE, _pose(types, box.center_m, box.camera_from_box), np.maximum(box.size_m, 1e-3), 0.35),
        marker("centroid", _SPHERE, _pose(types, centroid), np.full(3, 0.01), 1.0),
        marker("covariance", _SPHERE, _pose(types, centroid, axes), np.maximum(spread, 1e-4), 0.5),
        marker("caption", _TEXT, _pose(types, above), np.array([0, 0, _TEXT_HEIGHT_M]), 1.0, caption_of(track)),
    ]


def _point(types: MessageTypes, xyz: NDArray[Any]) -> Message:
    return types("geometry_msgs/Point", x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def _vector(types: MessageTypes, xyz: NDArray[Any]) -> Message:
    return types("geometry_msgs/Vector3", x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def _pose(types: MessageTypes, position: NDArray[Any], rotation: NDArray[Any] | None = None) -> Message:
    x, y, z, w = quaternion_from_matrix(np.eye(3) if rotation is None else rotation)
    return types(
        "geometry_msgs/Pose",
        position=_point(types, position),
        orientation=types("geometry_msgs/Quaternion", x=x, y=y, z=z, w=w),
    )


def _color(types: MessageTypes, object_id: int, alpha: float) -> Message:
    red, green, blue = (channel / 255 for channel in color_of(object_id))
    return types("std_msgs/ColorRGBA", r=red, g=green, b=blue, a=alpha)


def quaternion_from_matrix(rotation: NDArray[Any]) -> tuple[float, float, float, float]:
    """x, y, z, w with w >= 0 of a (3, 3) rotation.

    The eigenvector of Bar-Itzhack's symmetric 4 x 4 matrix ("New method for extracting the quaternion
    from a rotation matrix", 2000): no case distinctions, and the nearest rotation for a noisy one.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.asarray(rotation, np.float64).tolist()
    symmetric = np.array(
        [
            [xx - yy - zz, yx + xy, zx + xz, zy - yz],
            [yx + xy, yy - xx - zz, zy + yz, xz - zx],
            [zx + xz, zy + yz, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    quaternion: Sequence[float] = np.linalg.eigh(symmetric)[1][:, -1].tolist()
    sign = -1.0 if quaternion[3] < 0 else 1.0
    x, y, z, w = (sign * part for part in quaternion)
    return x, y, z, w
