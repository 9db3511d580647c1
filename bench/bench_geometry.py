"""Masked depth to points: vectorised, against the loops over librealsense's own function.

    python bench/bench_geometry.py

Everything is measured in one run, as the best of several repetitions, on a mask of 60 000 pixels in a
640 x 480 image; loops and deprojection use one thread. Needs pyrealsense2 (and libusb-1.0).
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyrealsense2 as rs

from sam_perception.config import GeometryConfig
from sam_perception.frame import CameraIntrinsics, DistortionModel, RgbdFrame
from sam_perception.geometry import deproject_mask, depth_from_millimetres, flying_pixels, lift, oriented_box, ray_grid

LENS = (-0.0565, 0.0682, 0.00037, 0.00069, -0.0218)  # of a RealSense D455's colour camera
WIDTH, HEIGHT, RADIUS = 640, 480, 138.2


def scene(camera: CameraIntrinsics) -> tuple[RgbdFrame, Any]:
    """A ball before a wall with the sensor's noise and 3 % holes, and the ball's mask of 60 013 pixels."""
    random = np.random.default_rng(0)
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    square = ((row - 240) ** 2 + (column - 320) ** 2) / RADIUS**2
    mask = square < 1.0
    depth_m = np.where(mask, 0.8 - 0.2 * np.sqrt(np.clip(1.0 - square, 0.0, 1.0)), 1.2)
    depth_m = depth_m + random.normal(size=depth_m.shape) * 0.0015 * depth_m**2
    depth_m[random.uniform(size=depth_m.shape) < 0.03] = 0.0
    rgb = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    depth_mm = np.rint(1000.0 * depth_m).astype(np.uint16)
    return RgbdFrame(rgb, depth_from_millimetres(depth_mm), camera, 0, "camera_optical"), mask


def realsense_intrinsics(camera: CameraIntrinsics) -> Any:
    result = rs.intrinsics()
    result.width, result.height = camera.width, camera.height
    result.fx, result.fy, result.ppx, result.ppy = camera.fx, camera.fy, camera.cx, camera.cy
    result.model = getattr(rs.distortion, camera.distortion_model.value)
    result.coeffs = list(camera.distortion) or [0.0] * 5
    return result


def realsense_frame(intrinsics: Any, depth_mm: Any) -> Any:
    """The depth image as the SDK's own frame, by way of its software device."""
    sensor = rs.software_device().add_sensor("depth")
    stream = rs.video_stream()
    stream.type, stream.fmt, stream.bpp, stream.fps = rs.stream.depth, rs.format.z16, 2, 30
    stream.width, stream.height, stream.uid, stream.index = WIDTH, HEIGHT, 0, 0
    stream.intrinsics = intrinsics
    profile = sensor.add_video_stream(stream).as_video_stream_profile()
    sensor.add_read_only_option(rs.option.depth_units, 0.001)
    queue = rs.frame_queue(1)
    sensor.open(profile)
    sensor.start(queue)
    frame = rs.software_video_frame()
    frame.pixels, frame.stride, frame.bpp = depth_mm, 2 * WIDTH, 2
    frame.timestamp, frame.domain, frame.frame_number = 0.0, rs.timestamp_domain.hardware_clock, 1
    frame.profile, frame.depth_units = profile, 0.001
    sensor.on_video_frame(frame)
    return queue.wait_for_frame().as_depth_frame(), sensor


def tutorial_loop(intrinsics: Any, depth_frame: Any, mask: Any) -> Any:
    """As tutorials have it: every pixel of the image; if it is in the mask and has depth, a point."""
    points = []
    for v in range(mask.shape[0]):
        for u in range(mask.shape[1]):
            if mask[v, u] > 0:
                z = depth_frame.get_distance(u, v)
                if z == 0:
                    continue
                points.append(rs.rs2_deproject_pixel_to_point(intrinsics, [u, v], z))
    return np.array(points)


def tight_loop(intrinsics: Any, depth_m: Any, mask: Any) -> Any:
    """As fast as a loop over that function gets: only the mask's pixels, plain Python numbers."""
    rows, columns = np.nonzero(mask & (depth_m > 0))
    triples = zip(columns.tolist(), rows.tolist(), depth_m[rows, columns].tolist(), strict=True)
    return np.array([rs.rs2_deproject_pixel_to_point(intrinsics, [u, v], z) for u, v, z in triples])


def best_ms(work: Callable[[], Any], repetitions: int) -> float:
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000.0 * min(times)


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model = names[0] if names else platform.machine()
    return f"{model}, {os.cpu_count()} CPUs, Python {platform.python_version()}, numpy {np.__version__}"


def compare(camera: CameraIntrinsics, settings: GeometryConfig) -> None:
    frame, mask = scene(camera)
    intrinsics, depth_m = realsense_intrinsics(camera), frame.depth_m
    depth_frame, sensor = realsense_frame(intrinsics, np.rint(depth_m * 1000).astype(np.uint16))
    usable, mask_u8 = mask & (depth_m > 0), mask.astype(np.uint8) * 255
    points = deproject_mask(camera, depth_m, usable)  # makes the ray grid, too
    if not np.allclose(points, tutorial_loop(intrinsics, depth_frame, mask_u8), atol=1e-5):
        raise SystemExit("the loop's points differ from the vectorised ones: nothing to compare")
    tutorial = best_ms(lambda: tutorial_loop(intrinsics, depth_frame, mask_u8), 5)
    tight = best_ms(lambda: tight_loop(intrinsics, depth_m, mask), 7)
    name = camera.distortion_model.value
    for what, ms in {
        "loop over the image, as tutorials write it": tutorial,
        "loop over the mask's pixels, as short as it gets": tight,
        "deproject_mask": best_ms(lambda: deproject_mask(camera, depth_m, usable), 200),
        "lift: filters, colours, centroid, covariance, box": best_ms(lambda: lift(frame, mask, settings), 30),
        "  flying_pixels alone, whole image": best_ms(lambda: flying_pixels(depth_m, settings), 30),
        "  oriented_box alone": best_ms(lambda: oriented_box(points), 30),
    }.items():
        print(f"{name:24}{what:52}{ms:10.3f}{tutorial / ms:14.1f}{tight / ms:14.1f}")
    print(f"{name:24}{'ray_grid, once per camera':52}{best_ms(lambda: ray_grid.__wrapped__(camera), 3):10.3f}\n")
    sensor.stop()
    sensor.close()


def main() -> None:
    cv2.setNumThreads(1)
    print(f"{machine()}; best of several, {WIDTH} x {HEIGHT}\n")
    print(f"{'camera':24}{'what':52}{'ms':>10}{'times faster than':>28}")
    print(f"{'':86}{'tutorial':>14}{'short loop':>14}")
    for model, lens in ((DistortionModel.NONE, ()), (DistortionModel.INVERSE_BROWN_CONRADY, LENS)):
        compare(CameraIntrinsics(WIDTH, HEIGHT, 612.0, 612.0, 320.0, 240.0, model, lens), GeometryConfig())


if __name__ == "__main__":
    main()
