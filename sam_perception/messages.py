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
from sam_perception.overlay import draw_overlay
from sam_perception.scene import Scene, Track

Message = Any  # rclpy and rosbags make their classes at run time

# sensor_msgs/PointField datatypes.
_UINT32, _FLOAT32 = 6, 7


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
    return types(
        "sam_perception/TrackedObjectArray",
        header=scene_header,
        objects=objects,
        depth_source=scene.depth_source.value,
    )


def tracked_object(types: MessageTypes, track: Track, scene_header: Message, *, with_mask: bool) -> Message:
    """`TrackedObject`; without enough depth its position is NaN, its box without size."""
    x, y, width, height = track.roi
    crop = np.where(track.mask[y : y + height, x : x + width], np.uint8(255), np.uint8(0))
    return types(
        "sam_perception/TrackedObject",
        id=track.id,
        label=track.label,
        label_score=float(track.label_score),
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
        "centroid": point(types, centroid if known and centroid is not None else nowhere),
        "covariance": np.array(covariance, np.float64).reshape(9) if known else np.full(9, np.nan),
        "box_pose": pose(types, box.center_m, box.camera_from_box) if known and box else pose(types, nowhere),
        "box_size": vector(types, box.size_m if known and box else np.zeros(3)),
    }


def id_mask_image(types: MessageTypes, scene: Scene) -> Message:
    """mono16, the object's id per pixel and 0 on the background."""
    return image(types, header(types, scene.stamp_ns, scene.frame_id), scene.id_mask, "mono16")


def overlay_image(types: MessageTypes, rgb: NDArray[np.uint8], scene: Scene) -> Message:
    """rgb8 picture of the scene drawn over its colour image."""
    return image(types, header(types, scene.stamp_ns, scene.frame_id), draw_overlay(rgb, scene.objects), "rgb8")


def object_cloud(types: MessageTypes, scene: Scene) -> Message:
    """`PointCloud2` of all objects' points, each with its object_id."""
    parts = [(track.points, track.colors, track.id) for track in scene.objects]
    return point_cloud(types, header(types, scene.stamp_ns, scene.frame_id), parts, "object_id")


def point_cloud(
    types: MessageTypes,
    message_header: Message,
    parts: Sequence[tuple[NDArray[np.float32], NDArray[np.uint8], int]],
    id_name: str = "",
) -> Message:
    """`PointCloud2` of points (P, 3) in metres, their RGB (P, 3) and an id for each of the parts.

    Fields x y z, rgb packed as PCL does, and where `id_name` is given a uint32 of that name.
    """
    named = [("x", 0, _FLOAT32), ("y", 4, _FLOAT32), ("z", 8, _FLOAT32), ("rgb", 12, _FLOAT32)]
    if id_name:
        named.append((id_name, 16, _UINT32))
    # Columns of one table, each written with one stride.
    words = np.zeros((sum(len(points) for points, _, _ in parts), len(named)), "<u4")
    numbers, samples = words.view("<f4"), words.view(np.uint8)
    start = 0
    for points, colors, part_id in parts:
        part = slice(start, start + len(points))
        for axis in range(3):
            numbers[part, axis] = points[:, axis]
            samples[part, 14 - axis] = colors[:, axis]  # blue first, then green, red and nothing
        words[part, 4:] = part_id
        start += len(points)
    return types(
        "sensor_msgs/PointCloud2",
        header=message_header,
        height=1,
        width=len(words),
        fields=[
            types("sensor_msgs/PointField", name=name, offset=offset, datatype=datatype, count=1)
            for name, offset, datatype in named
        ],
        is_bigendian=False,
        point_step=4 * len(named),
        row_step=words.nbytes,
        data=samples.reshape(-1),
        is_dense=True,
    )


def point(types: MessageTypes, xyz: NDArray[Any]) -> Message:
    """`geometry_msgs/Point` of (3,) metres."""
    return types("geometry_msgs/Point", x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def vector(types: MessageTypes, xyz: NDArray[Any]) -> Message:
    """`geometry_msgs/Vector3` of (3,) numbers."""
    return types("geometry_msgs/Vector3", x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def pose(types: MessageTypes, position: NDArray[Any], rotation: NDArray[Any] | None = None) -> Message:
    """`geometry_msgs/Pose` of a position (3,) and a rotation (3, 3), none where it is left out."""
    x, y, z, w = quaternion_from_matrix(np.eye(3) if rotation is None else rotation)
    return types(
        "geometry_msgs/Pose",
        position=point(types, position),
        orientation=types("geometry_msgs/Quaternion", x=x, y=y, z=z, w=w),
    )


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
