"""librealsense's framesets as `RgbdFrame`s: filters, alignment, units, lens models, stamps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import FrameError, InvalidIntrinsics, UnsupportedEncoding
from sam_perception.frame import CameraIntrinsics, DistortionModel, RgbdFrame
from sam_perception.images import depth_from_millimetres, rgb_from_image
from sam_perception.sources.realsense_align import Aligner
from sam_perception.sources.realsense_config import FilterConfig, RealSenseConfig
from sam_perception.sources.realsense_stamps import StampClock
from sam_perception.stamps import StampOrder

# librealsense's names of lens models. Its projection is one formula for the modified and the inverse
# Brown-Conrady model, and what the pixels of an image follow is the projection (see geometry.distortion).
# ftheta has no counterpart here.
_LENSES = {
    "none": DistortionModel.NONE,
    "brown_conrady": DistortionModel.PLUMB_BOB,
    "modified_brown_conrady": DistortionModel.INVERSE_BROWN_CONRADY,
    "inverse_brown_conrady": DistortionModel.INVERSE_BROWN_CONRADY,
    "kannala_brandt4": DistortionModel.EQUIDISTANT,
}
_ENCODINGS = {
    "rgb8": "rgb8",
    "bgr8": "bgr8",
    "rgba8": "rgba8",
    "bgra8": "bgra8",
    "yuyv": "yuyv",
    "uyvy": "uyvy",
    "y8": "mono8",
}
# What is worth knowing of a frame; the unit is librealsense's.
_METADATA = (
    "frame_counter",
    "sensor_timestamp",  # us, middle of the exposure, camera's clock
    "time_of_arrival",  # ms, host's clock
    "actual_exposure",  # us
    "gain_level",
    "auto_exposure",
    "white_balance",
    "temperature",
    "frame_laser_power",
    "actual_fps",  # 1/1000 Hz
)
NO_METADATA: Mapping[str, int] = MappingProxyType({})


def intrinsics_of(profile: Any) -> CameraIntrinsics:
    """The camera of a librealsense video stream profile; a polynomial without coefficients is no distortion.

    Raises:
        InvalidIntrinsics: a lens model without a counterpart (ftheta), or an uncalibrated camera.
    """
    given = profile.as_video_stream_profile().get_intrinsics()
    name, coefficients = given.model.name, tuple(float(c) for c in given.coeffs)
    if name not in _LENSES:
        raise InvalidIntrinsics(
            f"the camera's lens model is {name} with coefficients {coefficients}: known are {', '.join(_LENSES)}; "
            "calibrate the camera with one of them"
        )
    model = _LENSES[name]
    if model is not DistortionModel.EQUIDISTANT and not any(coefficients):
        model = DistortionModel.NONE
    return CameraIntrinsics(
        given.width, given.height, given.fx, given.fy, given.ppx, given.ppy, model,
        () if model is DistortionModel.NONE else coefficients[: 4 if model is DistortionModel.EQUIDISTANT else 5],
    )  # fmt: skip


def depth_in_metres(units: NDArray[np.uint16], unit_m: float) -> NDArray[np.float32]:
    """Metres of a depth frame's samples; 0 stays 0 (no return).

    Units are decimal fractions of a metre (1 mm, 0.1 mm, 0.25 mm) that the SDK gives as float32;
    dividing by their whole inverse rounds once, as for millimetres.

    Raises:
        FrameError: the camera gave no unit.
    """
    if not 0 < unit_m < 1:
        raise FrameError(f"the depth unit is {unit_m} m: set the camera's depth_units option, usually 0.001")
    per_metre = round(1 / unit_m)
    if per_metre == 1000:
        return depth_from_millimetres(units)
    metres: NDArray[np.float32]
    if abs(per_metre * unit_m - 1) > 1e-5:
        metres = np.multiply(units, np.float64(unit_m)).astype(np.float32)
    else:
        metres = np.divide(units, np.float32(per_metre), dtype=np.float32)
    return metres


def filters(sdk: Any, config: FilterConfig) -> Iterator[Any]:
    """The chosen blocks of the SDK in its recommended order; spatial and temporal smoothing work on disparity."""
    if config.decimation > 1:
        yield sdk.decimation_filter(float(config.decimation))
    if config.threshold:
        yield sdk.threshold_filter(config.threshold_min_m, config.threshold_max_m)
    if config.spatial or config.temporal:
        yield sdk.disparity_transform(True)
    if config.spatial:
        yield sdk.spatial_filter(config.spatial_alpha, config.spatial_delta, config.spatial_magnitude, 0)
    if config.temporal:
        yield sdk.temporal_filter(config.temporal_alpha, config.temporal_delta, config.temporal_persistence)
    if config.spatial or config.temporal:
        yield sdk.disparity_transform(False)
    if config.hole_filling:
        yield sdk.hole_filling_filter(config.hole_filling_mode)


class FrameMaker:
    """Framesets of one camera, one after the other.

    The SDK's pipeline completes a frameset with the newest frame that it has of each stream, however
    old: when colour stops and depth goes on, the same picture comes again and again. Such framesets
    are found by frame numbers and stamps.

    Args:
        sdk: the pyrealsense2 module.
        config: filters, frame, allowed skew.
    """

    def __init__(self, sdk: Any, config: RealSenseConfig) -> None:
        self._sdk, self._config = sdk, config
        self._align = Aligner(sdk)
        self._clock, self._order = StampClock(), StampOrder()
        self.metadata: Mapping[str, int] = NO_METADATA  # of the newest colour frame
        self.restart()

    def restart(self) -> None:
        """The camera was opened again."""
        self._filters = tuple(filters(self._sdk, self._config.filters))  # temporal ones remember
        self._clock.restart()
        self._last: tuple[int, float] | None = None

    def rewind(self) -> None:
        """A recording begins again: its stamps go back."""
        self.restart()
        self._order.reset()

    def is_new(self, frames: Any) -> bool:
        """Whether the frameset shows another picture than the last one asked about."""
        color = frames.get_color_frame()
        if not color:
            return True  # to be refused with a reason
        this = (int(color.get_frame_number()), float(color.get_timestamp()))
        new, self._last = this != self._last, this
        return new

    def make(self, frames: Any, arrival_ns: int | None = None) -> RgbdFrame:
        """The frame that a frameset shows, under its colour image's stamp.

        Args:
            frames: a frameset.
            arrival_ns: host's time at which it came; where the camera gives that itself, its value wins.

        Raises:
            FrameError: colour or depth is missing, they were not taken together, or the SDK cannot process them.
            StampError: not newer than the last frame.
            InvalidIntrinsics: an unknown lens model.
            UnsupportedEncoding: an unknown colour format.
        """
        color, depth = frames.get_color_frame(), frames.get_depth_frame()
        if not color or not depth:
            raise FrameError(f"the camera sent no {'depth' if color else 'colour'} with this frame: check its USB port")
        self.metadata = _metadata(self._sdk, color)
        self._check_skew(color, depth)
        domain = color.get_frame_timestamp_domain().name
        arrived_ms = self.metadata.get("time_of_arrival")
        stamp_ns = self._clock.stamp_ns(color.get_timestamp(), domain, arrived_ms * 10**6 if arrived_ms else arrival_ns)
        self._order.check(stamp_ns)
        camera = intrinsics_of(color.get_profile())
        try:
            for block in self._filters:
                frames = block.process(frames).as_frameset()
            aligned = self._align(frames, camera)
        except RuntimeError as error:  # whatever is wrong, the SDK says it so
            raise FrameError(f"librealsense could not process a frame ({error}): switch its filters off") from error
        frame = RgbdFrame(
            rgb=_rgb(color),
            depth_m=depth_in_metres(aligned, depth.get_units()),
            intrinsics=camera,
            stamp_ns=stamp_ns,
            frame_id=self._config.frame_id,
        )
        self._order.accept(stamp_ns)
        return frame

    def _check_skew(self, color: Any, depth: Any) -> None:
        if color.get_frame_timestamp_domain() != depth.get_frame_timestamp_domain():
            return  # not comparable
        skew_s = abs(color.get_timestamp() - depth.get_timestamp()) * 1e-3
        if skew_s > self._config.max_skew_s:
            raise FrameError(
                f"colour and depth are {skew_s:.3f} s apart, {self._config.max_skew_s} s are allowed (max_skew_s): the "
                "camera loses frames; use a USB 3 port, a lower frame rate or smaller images"
            )


def _rgb(color: Any) -> NDArray[np.uint8]:
    name = color.get_profile().format().name
    encoding = _ENCODINGS.get(name)
    if encoding is None:
        raise UnsupportedEncoding(f"colour comes as {name}: record or ask for {', '.join(_ENCODINGS)}")
    # A copy: the SDK has few buffers, and takes this one back.
    samples = np.array(np.asanyarray(color.get_data())).reshape(-1).view(np.uint8)
    return rgb_from_image(encoding, color.get_height(), color.get_width(), color.get_stride_in_bytes(), 0, samples)


def _metadata(sdk: Any, frame: Any) -> Mapping[str, int]:
    names = sdk.frame_metadata_value
    known = ((name, getattr(names, name, None)) for name in _METADATA)
    return MappingProxyType(
        {
            name: int(frame.get_frame_metadata(what))
            for name, what in known
            if what is not None and frame.supports_frame_metadata(what)
        }
    )
