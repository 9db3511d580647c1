"""Image decoding: every encoding against pixels worked out by hand or by OpenCV's encoder."""

from __future__ import annotations

import array

import numpy as np
import pytest

from sam_perception.errors import InvalidIntrinsics, MalformedImage, UnsupportedEncoding
from sam_perception.frame import DistortionModel
from sam_perception.images import (
    depth_from_image,
    depth_from_millimetres,
    intrinsics_from_camera_info,
    rgb_from_image,
)

RGB = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)
ALPHA = np.full((2, 2, 1), 77, np.uint8)
K = [500.0, 0.0, 320.0, 0.0, 501.0, 240.0, 0.0, 0.0, 1.0]


def padded(pixels: np.ndarray, padding: int) -> tuple[int, bytes]:
    """Step and data of an image whose rows end with `padding` odd bytes."""
    rows = np.ascontiguousarray(pixels).reshape(pixels.shape[0], -1).view(np.uint8)
    filled = np.concatenate([rows, np.full((len(rows), padding), 0xAB, np.uint8)], axis=1)
    return filled.shape[1], filled.tobytes()


@pytest.mark.parametrize("padding", [0, 1, 13])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("RGB8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("rgba8", np.concatenate([RGB, ALPHA], axis=2)),
        ("bgra8", np.concatenate([RGB[..., ::-1], ALPHA], axis=2)),
    ],
)
def test_colour_encodings_give_rgb_whatever_the_padding(encoding: str, pixels: np.ndarray, padding: int) -> None:
    step, data = padded(pixels, padding)
    np.testing.assert_array_equal(rgb_from_image(encoding, 2, 2, step, 0, data), RGB)


def test_mono8_becomes_grey() -> None:
    step, data = padded(np.array([[0, 200]], np.uint8), 2)
    np.testing.assert_array_equal(rgb_from_image("mono8", 1, 2, step, 0, data), [[[0] * 3, [200] * 3]])


# BT.601 limited range: Y' U V of saturated colours, from the standard's matrix.
YUV = {
    (235, 128, 128): (255, 255, 255),
    (16, 128, 128): (0, 0, 0),
    (81, 90, 240): (255, 0, 0),
    (41, 240, 110): (0, 0, 255),
}


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
@pytest.mark.parametrize(("yuv", "rgb"), YUV.items())
def test_packed_yuv_is_limited_range_bt601(encoding: str, yuv: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    y, u, v = yuv
    pair = [u, y, v, y] if encoding in ("yuv422", "uyvy") else [y, u, y, v]
    decoded = rgb_from_image(encoding, 2, 2, 4, 0, bytes(pair * 2))
    np.testing.assert_allclose(decoded, np.broadcast_to(rgb, (2, 2, 3)), atol=3)


def test_unpadded_rgb8_is_a_view_and_arrays_of_rclpy_are_read() -> None:
    data = array.array("B", RGB.tobytes())
    decoded = rgb_from_image("rgb8", 2, 2, 6, 0, data)
    assert np.shares_memory(decoded, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("big", [0, 1])
@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
def test_16_bit_depth_is_millimetres_in_either_byte_order(encoding: str, big: int, padding: int) -> None:
    millimetres = np.array([[0, 1, 1234], [256, 65535, 1000]], np.uint16)
    step, data = padded(millimetres.astype(">u2" if big else "<u2"), padding)
    depth = depth_from_image(encoding, 2, 3, step, big, data)
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, np.float32([[0, 0.001, 1.234], [0.256, 65.535, 1.0]]))


@pytest.mark.parametrize("big", [0, 1])
def test_float_depth_is_metres_and_keeps_no_return(big: int) -> None:
    metres = np.array([[0.5, np.nan, 0.0]], np.float32)
    step, data = padded(metres.astype(">f4" if big else "<f4"), 5)
    np.testing.assert_array_equal(depth_from_image("32FC1", 1, 3, step, big, data), metres)


def test_millimetres_become_the_nearest_float_in_metres() -> None:
    every = np.arange(65536, dtype=np.uint16)
    depth_m = depth_from_millimetres(every)
    assert depth_m.dtype == np.float32
    np.testing.assert_array_equal(depth_m, (every.astype(np.float64) / 1000.0).astype(np.float32))


def test_millimetres_in_the_other_byte_order() -> None:
    np.testing.assert_array_equal(depth_from_millimetres(np.array([1000], ">u2")), [1.0])


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8])
def test_only_sixteen_bits_are_millimetres(dtype: type) -> None:
    with pytest.raises(MalformedImage, match="must be uint16"):
        depth_from_millimetres(np.ones((2, 2), dtype))


@pytest.mark.parametrize("encoding", ["8UC3", "bayer_rggb8", "16UC1", "", "jpeg"])
def test_unknown_colour_encoding_says_what_is_known(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding, match=r"rgb8, bgr8") as caught:
        rgb_from_image(encoding, 1, 1, 3, 0, b"abc")
    assert repr(encoding) in str(caught.value)


@pytest.mark.parametrize("encoding", ["rgb8", "16UC1; compressedDepth png", "64FC1"])
def test_unknown_depth_encoding_says_what_is_known(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding, match="16UC1, mono16, 32FC1"):
        depth_from_image(encoding, 1, 1, 8, 0, bytes(8))


@pytest.mark.parametrize(
    ("height", "width", "step", "size", "message"),
    [
        (2, 2, 6, 11, "has 11 bytes, step x height is 12"),
        (2, 2, 6, 13, "has 13 bytes"),
        (2, 2, 5, 10, "a row needs 6 bytes"),
        (0, 2, 6, 0, "no pixels"),
        (2, 0, 0, 0, "no pixels"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(height: int, width: int, step: int, size: int, message: str) -> None:
    with pytest.raises(MalformedImage, match=message):
        rgb_from_image("rgb8", height, width, step, 0, bytes(size))


def test_odd_width_yuv_is_refused() -> None:
    with pytest.raises(MalformedImage, match="even width"):
        rgb_from_image("yuyv", 1, 3, 6, 0, bytes(6))


def test_camera_info_fields_become_intrinsics() -> None:
    camera = intrinsics_from_camera_info(640, 480, K, [0.1, 0.2, 0.3, 0.4], "plumb_bob")
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500.0, 501.0, 320.0, 240.0)
    assert camera.distortion == (0.1, 0.2, 0.3, 0.4, 0.0)
    assert intrinsics_from_camera_info(640, 480, np.array(K), [], "").distortion_model is DistortionModel.NONE
    assert intrinsics_from_camera_info(640, 480, K, [0.0] * 5, "plumb_bob").distortion_model is DistortionModel.NONE
    fisheye = intrinsics_from_camera_info(640, 480, K, [0.0] * 4, "equidistant")
    assert fisheye.distortion_model is DistortionModel.EQUIDISTANT
    fourteen = [0.1] * 8 + [0.0] * 6  # OpenCV writes 14 even when thin prism and tilt are off
    assert intrinsics_from_camera_info(640, 480, K, fourteen, "rational_polynomial").distortion == (0.1,) * 8


@pytest.mark.parametrize(
    ("k", "d", "model", "message"),
    [
        ([0.0] * 9, [], "plumb_bob", "must be positive"),
        ([float("nan")] * 9, [], "plumb_bob", "not finite"),
        ([500, 0, float("nan"), 0, 500, 0, 0, 0, 1], [], "plumb_bob", "not finite"),
        (K[:8], [], "plumb_bob", "8 numbers"),
        ([500, 1, 320, 0, 500, 240, 0, 0, 1], [], "plumb_bob", "skew"),
        (K, [0.1], "", "known are none, plumb_bob"),
        (K, [0.1], "thin_prism", "thin_prism"),
        (K, [0.1] * 8, "plumb_bob", "5 coefficients"),
    ],
)
def test_bad_camera_info_is_refused(k: list[float], d: list[float], model: str, message: str) -> None:
    with pytest.raises(InvalidIntrinsics, match=message):
        intrinsics_from_camera_info(640, 480, k, d, model)
