"""Depth onto colour's pixels: `rs.align`, and what it leaves out.

librealsense's alignment has several implementations. The vectorised ones (SSE, NEON, CUDA; release 2.59 and
before) put depth where a camera *without* distortion would see it, for every lens model but the modified
Brown-Conrady, while deprojection takes the distortion out again. With the lens of a D455 the two differ by
pixels at the corners of the image: depth lies beside what colour shows, and points come out 5 mm off at 1 m.
So depth is brought from the undistorted pixels to the real ones here, by the one lens formula that this
package has (`geometry.distortion`). Whether the SDK's alignment needs that is found out by giving it a
picture, for each camera once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import SourceError
from sam_perception.frame import CameraIntrinsics
from sam_perception.geometry import project, ray_grid

_NEGLIGIBLE_PX = 0.3  # of distortion; alignment rounds to whole pixels
_PROBE_MM = 1000
_HALF_PX = 2  # half the side of the probe's plate
_PROBE_S = 5.0
_PROBE_FRAMES = 4
_NOT_TURNED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def same_pixels(depth_profile: Any, color_profile: Any) -> bool:
    """Whether one imager gives both streams (D405, D401), so that depth lies on colour's pixels already.

    Alignment would lose one pixel in twenty to rounding then.
    """
    one, other = (profile.as_video_stream_profile().get_intrinsics() for profile in (depth_profile, color_profile))
    names = ("width", "height", "fx", "fy", "ppx", "ppy")
    if any(getattr(one, name) != getattr(other, name) for name in names) or any((*one.coeffs, *other.coeffs)):
        return False
    between = depth_profile.get_extrinsics_to(color_profile)
    return bool(
        np.allclose(between.translation, 0, atol=1e-6) and np.allclose(between.rotation, _NOT_TURNED, atol=1e-6)
    )


class Aligner:
    """Depth samples on colour's pixels."""

    def __init__(self, sdk: Any) -> None:
        self._sdk, self._align = sdk, sdk.align(sdk.stream.color)
        self._warps: dict[CameraIntrinsics, _Warp | None] = {}

    def __call__(self, frames: Any, camera: CameraIntrinsics) -> NDArray[np.uint16]:
        """(H, W) depth in the frame's units; 0 where colour sees nothing that has depth.

        Args:
            frames: a frameset with colour and depth.
            camera: colour's.
        """
        depth, color_profile = frames.get_depth_frame(), frames.get_color_frame().get_profile()
        if same_pixels(depth.get_profile(), color_profile):
            return np.array(np.asanyarray(depth.get_data()))
        samples = np.asanyarray(self._align.process(frames).get_depth_frame().get_data())
        if camera not in self._warps:
            self._warps[camera] = self._warp(camera, color_profile.as_video_stream_profile().get_intrinsics())
        warp = self._warps[camera]
        if warp is None:
            return np.array(samples)
        moved: NDArray[np.uint16] = samples.reshape(-1)[warp.source]
        moved[warp.outside] = 0
        return moved

    def _warp(self, camera: CameraIntrinsics, given: Any) -> _Warp | None:
        """From each real pixel to the undistorted one; None where nothing is to be done."""
        x, y = undistorted_pixels(camera)
        columns, rows = np.arange(camera.width)[None], np.arange(camera.height)[:, None]
        bend_px = np.hypot(np.nan_to_num(x - columns), np.nan_to_num(y - rows))
        if bend_px.max() < _NEGLIGIBLE_PX or not alignment_ignores_lens(self._sdk, camera, given):
            return None
        # Pixels without a ray (NaN) are outside too.
        inside = (x > -0.5) & (x < camera.width - 0.5) & (y > -0.5) & (y < camera.height - 0.5)
        source = np.zeros(inside.shape, np.int32)
        source[inside] = np.rint(y[inside]).astype(np.int32) * camera.width + np.rint(x[inside]).astype(np.int32)
        return _Warp(source, ~inside)


@dataclass(frozen=True, eq=False)
class _Warp:
    source: NDArray[np.int32]  # (H, W) index into the flat image
    outside: NDArray[np.bool_]  # (H, W) nothing is there


def undistorted_pixels(camera: CameraIntrinsics) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Columns and rows (H, W) of the pixel on which a camera without distortion would see what each pixel sees."""
    rays = ray_grid(camera)
    return rays[0] * np.float32(camera.fx) + np.float32(camera.cx), rays[1] * np.float32(camera.fy) + np.float32(
        camera.cy
    )


def alignment_ignores_lens(sdk: Any, camera: CameraIntrinsics, given: Any) -> bool:
    """Whether `rs.align` puts depth on the pixels of a camera without distortion.

    Args:
        sdk: the pyrealsense2 module.
        camera: the colour camera.
        given: the same as librealsense's intrinsics.
    """
    straight, bent = _telling_pixel(camera)
    seen = _aligned_plate(sdk, given, straight)
    return bool(np.linalg.norm(seen - straight) < np.linalg.norm(seen - bent))


@lru_cache(maxsize=16)
def _telling_pixel(camera: CameraIntrinsics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The undistorted pixel, inside the image, that distortion moves most, and where it moves it."""
    margin = 2 * _HALF_PX
    x, y = np.meshgrid(
        np.linspace(margin, camera.width - 1 - margin, 41).round(),
        np.linspace(margin, camera.height - 1 - margin, 31).round(),
    )
    straight = np.stack([x.ravel(), y.ravel()], axis=1)
    rays = np.stack(
        [(straight[:, 0] - camera.cx) / camera.fx, (straight[:, 1] - camera.cy) / camera.fy, np.ones(len(straight))],
        axis=1,
    )
    bent = project(camera, rays)
    inside = ((bent >= margin) & (bent <= np.array([camera.width, camera.height]) - 1 - margin)).all(axis=1)
    moved = np.where(inside, np.linalg.norm(np.nan_to_num(bent) - straight, axis=1), -1.0)
    best = int(moved.argmax())
    return straight[best], bent[best]


def _aligned_plate(sdk: Any, given: Any, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixel on which alignment puts a small plate that an undistorted depth camera in colour's place sees at `at`."""
    plain = sdk.intrinsics()
    for name in ("width", "height", "fx", "fy", "ppx", "ppy"):
        setattr(plain, name, getattr(given, name))
    plain.model, plain.coeffs = sdk.distortion.none, [0.0] * 5
    device = sdk.software_device()
    sensors, profiles = [], []
    for uid, (kind, form, pixel_bytes, lens) in enumerate(
        ((sdk.stream.depth, sdk.format.z16, 2, plain), (sdk.stream.color, sdk.format.rgb8, 3, given))
    ):
        stream = sdk.video_stream()
        stream.type, stream.fmt, stream.bpp, stream.uid, stream.fps = kind, form, pixel_bytes, uid, 30
        stream.width, stream.height, stream.intrinsics = given.width, given.height, lens
        sensors.append(device.add_sensor(str(kind)))
        profiles.append(sensors[-1].add_video_stream(stream, True))
    between = sdk.extrinsics()
    between.rotation, between.translation = list(_NOT_TURNED), [0.0, 0.0, 0.0]
    profiles[0].register_extrinsics_to(profiles[1], between)
    depth = np.zeros((given.height, given.width), np.uint16)
    x, y = (int(n) for n in at)
    depth[y - _HALF_PX : y + _HALF_PX + 1, x - _HALF_PX : x + _HALF_PX + 1] = _PROBE_MM
    pictures = (depth, np.zeros((given.height, given.width, 3), np.uint8))
    device.create_matcher(sdk.matchers.default)
    aligned = _through_alignment(sdk, sensors, profiles, pictures)
    rows, columns = np.nonzero(aligned)
    return np.array([columns.mean(), rows.mean()])


def _through_alignment(sdk: Any, sensors: Any, profiles: Any, pictures: Any) -> NDArray[np.uint16]:
    """Both pictures, as one frameset, through the SDK's alignment."""
    syncer = sdk.syncer(2 * _PROBE_FRAMES)
    for sensor, profile in zip(sensors, profiles, strict=True):
        sensor.open(profile)
        sensor.start(syncer)
    try:
        # The first ones are handed out each alone: nobody knows yet that there is another stream.
        for number in range(1, _PROBE_FRAMES + 1):
            for sensor, profile, picture in zip(sensors, profiles, pictures, strict=True):
                sensor.on_video_frame(_software_frame(sdk, profile, picture, number))
        for _ in range(2 * _PROBE_FRAMES):
            frames = syncer.wait_for_frames(round(_PROBE_S * 1000))
            if len(frames) == len(sensors):
                aligned = sdk.align(sdk.stream.color).process(frames).get_depth_frame()
                return np.array(np.asanyarray(aligned.get_data()))
    finally:
        for sensor in sensors:
            sensor.stop()
            sensor.close()
    raise SourceError("librealsense does not pair the frames of a software device: update pyrealsense2")


def _software_frame(sdk: Any, profile: Any, picture: NDArray[Any], number: int) -> Any:
    frame = sdk.software_video_frame()
    frame.pixels, frame.stride, frame.bpp = picture, picture.strides[0], picture.strides[1]
    frame.profile, frame.depth_units = profile.as_video_stream_profile(), 0.001
    frame.timestamp, frame.frame_number, frame.domain = 33.0 * number, number, sdk.timestamp_domain.system_time
    return frame
