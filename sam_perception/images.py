"""Image messages as arrays: the one place for colour order, for millimetres to metres, and for byte order.

Takes the fields of `sensor_msgs/Image` and `CameraInfo` one by one, so that it serves rclpy's
messages and the rosbags library's alike and needs neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import InvalidIntrinsics, MalformedImage, UnsupportedEncoding
from sam_perception.frame import CameraIntrinsics, DistortionModel

# Bytes per pixel, and OpenCV's conversion to RGB (None: RGB already).
_COLOR: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    # sensor_msgs/image_encodings.hpp: yuv422 is the old name of uyvy, yuv422_yuy2 that of yuyv.
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
}
_PACKED_YUV = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv")
# REP-118: 16-bit depth is millimetres, floating-point depth is metres.
_DEPTH = {"16uc1": "u2", "mono16": "u2", "32fc1": "f4"}

COLOR_ENCODINGS = tuple(_COLOR)
DEPTH_ENCODINGS = ("16UC1", "mono16", "32FC1")


def depth_from_millimetres(depth_mm: NDArray[Any]) -> NDArray[np.float32]:
    """Metres, float32, of a 16-bit depth image in millimetres (encoding 16UC1, REP-118); 0 stays 0.

    Raises:
        MalformedImage: not unsigned 16 bit.
    """
    if depth_mm.dtype.kind != "u" or depth_mm.dtype.itemsize != 2:
        raise MalformedImage(
            f"depth in millimetres is {depth_mm.dtype}: it must be uint16 (16UC1); 32FC1 is in metres already"
        )
    # A division rounds correctly, as 1000 is exact in float32; the product with 0.001 does not.
    metres: NDArray[np.float32] = np.divide(depth_mm, np.float32(1000), dtype=np.float32)
    return metres


def is_color_encoding(encoding: str) -> bool:
    """Whether `rgb_from_image` can read `encoding`."""
    return encoding.lower() in _COLOR


def is_depth_encoding(encoding: str) -> bool:
    """Whether `depth_from_image` can read `encoding`."""
    return encoding.lower() in _DEPTH


def _rows(encoding: str, height: int, width: int, step: int, data: Any, pixel_bytes: int) -> NDArray[np.uint8]:
    """(H, W * pixel_bytes) uint8 view of `data` without the padding at the end of each row.

    Raises:
        MalformedImage: size, step and data do not fit together.
    """
    seen = f"{width} x {height} {encoding} image with step {step}"
    if width < 1 or height < 1:
        raise MalformedImage(f"{seen} has no pixels: check the driver's image size")
    if step < width * pixel_bytes:
        raise MalformedImage(f"{seen}: a row needs {width * pixel_bytes} bytes; check the driver's encoding and step")
    flat = np.frombuffer(data, np.uint8)
    if flat.size != step * height:
        raise MalformedImage(
            f"{seen} has {flat.size} bytes, step x height is {step * height}: the message is cut off or mislabelled"
        )
    return flat.reshape(height, step)[:, : width * pixel_bytes]


def rgb_from_image(
    encoding: str, height: int, width: int, step: int, is_bigendian: int, data: Any
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, red first, from the fields of a colour `sensor_msgs/Image`.

    `data` is anything with the buffer protocol. An unpadded rgb8 image is a view of it, without a copy.
    Alpha is dropped, mono8 becomes grey, YUV is BT.601 limited range, as cameras send it.

    Raises:
        UnsupportedEncoding: not a colour encoding known here.
        MalformedImage: size, step and data do not fit together, or YUV 4:2:2 of odd width.
    """
    del is_bigendian  # samples of one byte have no byte order
    known = _COLOR.get(encoding.lower())
    if known is None:
        raise UnsupportedEncoding(
            f"colour image has encoding {encoding!r}: set the driver to one of {', '.join(COLOR_ENCODINGS)}"
        )
    pixel_bytes, conversion = known
    if encoding.lower() in _PACKED_YUV and width % 2:
        raise MalformedImage(
            f"{encoding} image is {width} pixels wide: two pixels share their colour, set an even width"
        )
    pixels = _rows(encoding, height, width, step, data, pixel_bytes).reshape(height, width, pixel_bytes)
    if conversion is None:
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), conversion), np.uint8)


def depth_from_image(
    encoding: str, height: int, width: int, step: int, is_bigendian: int, data: Any
) -> NDArray[np.float32]:
    """(H, W) float32 metres from the fields of a depth `sensor_msgs/Image` (REP-118).

    16UC1 and mono16 are millimetres, 32FC1 is metres; 0 and NaN (no return) are kept.

    Raises:
        UnsupportedEncoding: not a depth encoding.
        MalformedImage: size, step and data do not fit together.
    """
    kind = _DEPTH.get(encoding.lower())
    if kind is None:
        raise UnsupportedEncoding(
            f"depth image has encoding {encoding!r}: publish {', '.join(DEPTH_ENCODINGS)} "
            "(16 bits in millimetres or 32-bit metres); compressed depth needs image_transport republish"
        )
    sample = np.dtype((">" if is_bigendian else "<") + kind)
    rows = _rows(encoding, height, width, step, data, sample.itemsize)
    # Padding may leave rows at odd addresses, hence the copy before the bytes are seen as samples.
    samples = np.ascontiguousarray(rows).view(sample)
    if kind == "u2":
        return depth_from_millimetres(samples.astype(np.uint16, copy=False))
    return samples.astype(np.float32, copy=False)


def intrinsics_from_camera_info(
    width: int, height: int, k: Sequence[float] | NDArray[np.float64], d: Any, distortion_model: str
) -> CameraIntrinsics:
    """Intrinsics from the fields of `sensor_msgs/CameraInfo`: the raw image's K and its lens model.

    Polynomial models with zeros only, and an empty name without coefficients (as simulators publish it), are
    cameras without distortion. A fisheye with zeros is not.

    Raises:
        InvalidIntrinsics: K not nine numbers, with skew, zero or not finite; unknown lens model; too many coefficients.
    """
    matrix = np.asarray(k, np.float64).reshape(-1)
    if matrix.size != 9:
        raise InvalidIntrinsics(f"camera_info has K with {matrix.size} numbers: K is 3 x 3, row by row")
    if abs(matrix[1]) > 0:  # NaN goes on, to be reported with the others
        raise InvalidIntrinsics(f"camera_info has skew K[1] = {matrix[1]}: calibrate with a model without skew")
    coefficients = tuple(float(c) for c in np.asarray(d, np.float64).reshape(-1))
    return CameraIntrinsics(
        int(width),
        int(height),
        fx=float(matrix[0]),
        fy=float(matrix[4]),
        cx=float(matrix[2]),
        cy=float(matrix[5]),
        distortion_model=_lens_model(distortion_model, coefficients),
        distortion=coefficients,
    )


def _lens_model(name: str, coefficients: tuple[float, ...]) -> DistortionModel:
    try:
        model = DistortionModel(name.lower()) if name or any(coefficients) else DistortionModel.NONE
    except ValueError:
        known = ", ".join(model.value for model in DistortionModel)
        raise InvalidIntrinsics(
            f"camera_info has distortion_model {name!r} with coefficients {coefficients}: known are {known}"
        ) from None
    straight = model is not DistortionModel.EQUIDISTANT and not any(coefficients)
    return DistortionModel.NONE if straight else model
