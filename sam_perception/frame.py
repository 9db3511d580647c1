"""The input vocabulary: one synchronised colour and depth pair with its camera."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import (
    DepthNotAligned,
    FrameError,
    InvalidIntrinsics,
    MalformedImage,
    StampError,
    TransformError,
)


class DistortionModel(Enum):
    """Lens models by their names in `sensor_msgs/CameraInfo` and librealsense."""

    NONE = "none"
    PLUMB_BOB = "plumb_bob"  # Brown-Conrady: k1 k2 p1 p2 k3
    INVERSE_BROWN_CONRADY = "inverse_brown_conrady"  # librealsense's own: k1 k2 p1 p2 k3, see geometry.distortion
    RATIONAL_POLYNOMIAL = "rational_polynomial"  # OpenCV: k1 k2 p1 p2 k3 k4 k5 k6
    EQUIDISTANT = "equidistant"  # Kannala-Brandt fisheye: k1 k2 k3 k4


# How many coefficients each model reads; fewer are padded with zeros, more must be zero.
COEFFICIENTS = {
    DistortionModel.NONE: 0,
    DistortionModel.PLUMB_BOB: 5,
    DistortionModel.INVERSE_BROWN_CONRADY: 5,
    DistortionModel.RATIONAL_POLYNOMIAL: 8,
    DistortionModel.EQUIDISTANT: 4,
}


@dataclass(frozen=True)
class CameraIntrinsics:
    """A camera's pinhole and lens parameters for images of `width` x `height` pixels.

    Pixel centres have integer coordinates (the centre of the top-left pixel is (0, 0)),
    as in OpenCV, ROS and librealsense. `distortion` is padded with zeros to the model's length.

    Raises:
        InvalidIntrinsics: size not positive, focal lengths not positive, any value not finite,
            or more coefficients than the model has.
    """

    width: int
    height: int
    fx: float  # pixels
    fy: float  # pixels
    cx: float  # pixels
    cy: float  # pixels
    distortion_model: DistortionModel = DistortionModel.NONE
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InvalidIntrinsics(
                f"camera image size is {self.width} x {self.height}: both must be at least 1; "
                "check the driver's camera_info"
            )
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not all(math.isfinite(n) for n in numbers):
            raise InvalidIntrinsics(
                f"intrinsics are not finite (fx={self.fx}, fy={self.fy}, cx={self.cx}, cy={self.cy}, "
                f"distortion={self.distortion}): calibrate the camera or check the driver's camera_info"
            )
        if self.fx <= 0 or self.fy <= 0:
            raise InvalidIntrinsics(
                f"focal lengths are fx={self.fx}, fy={self.fy}: both must be positive; "
                "an uncalibrated driver publishes zeros"
            )
        object.__setattr__(self, "distortion", self._padded_distortion())

    def _padded_distortion(self) -> tuple[float, ...]:
        length = COEFFICIENTS[self.distortion_model]
        given = tuple(float(c) for c in self.distortion)
        if any(given[length:]):
            raise InvalidIntrinsics(
                f"distortion model {self.distortion_model.value} has {length} coefficients, got {given}: "
                "name the model that these coefficients belong to"
            )
        return (given + (0.0,) * length)[:length]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The 3 x 3 camera matrix K."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


Scalar = TypeVar("Scalar", bound=np.generic)


def _read_only(array: NDArray[Scalar]) -> NDArray[Scalar]:
    view: NDArray[Scalar] = array.view()
    view.flags.writeable = False
    return view


class DepthSource(Enum):
    """Where the depth of objects comes from; values are those of the messages' `depth_source`."""

    SENSOR = 0
    FILLED = 1  # the sensor's, with a model's guess where it has none
    ESTIMATED = 2  # a model's guess alone


@dataclass(frozen=True, eq=False)
class DepthGuess:
    """What a model that sees colour alone takes for depth, in metres; see `geometry.depth_fit`.

    A guess errs by whole surfaces, not by pixels: the standard deviations are those of an object's depth,
    and do not average out over its pixels.
    """

    depth_m: NDArray[np.float32]  # (H, W) along the optical axis; 0: no guess
    source: DepthSource  # FILLED: used where the sensor has no return; ESTIMATED: used everywhere
    disparity_sigma: float  # 1/m, standard deviation of inverse depth: of the fit to the sensor's depth
    relative_sigma: float = 0.0  # share of depth that is added to it, where nothing was fitted

    def sigma_m(self, depth_m: float) -> float:
        """Standard deviation of a guess of `depth_m` metres."""
        return math.hypot(self.disparity_sigma * depth_m**2, self.relative_sigma * depth_m)


@dataclass(frozen=True, eq=False)  # arrays break ==
class RgbdFrame:
    """A synchronised pair in `frame_id` (optical: x right, y down, z forward; REP-103).

    The arrays are kept as read-only views of what was passed, without a copy.

    Raises:
        MalformedImage: colour is not (H, W, 3) uint8 or depth is not (H, W) float32.
        DepthNotAligned: depth and colour differ in size.
        InvalidIntrinsics: the intrinsics are for another image size.
        StampError: the stamp is negative.
        FrameError: `frame_id` is empty.
    """

    rgb: NDArray[np.uint8]  # (H, W, 3), red first
    depth_m: NDArray[np.float32]  # (H, W), along the optical axis; 0 or NaN: no return (REP-118)
    intrinsics: CameraIntrinsics  # of the colour camera
    stamp_ns: int  # of the colour image, nanoseconds
    frame_id: str
    guess: DepthGuess | None = None  # kept apart, so that only who asks for it takes it for depth
    up: NDArray[np.float64] | None = None  # (3,) gravity's opposite, where the camera measures it

    def __post_init__(self) -> None:
        rgb, depth = np.asarray(self.rgb), np.asarray(self.depth_m)
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise MalformedImage(f"colour is {rgb.dtype} of shape {rgb.shape}: pass (H, W, 3) uint8 with red first")
        if depth.ndim != 2 or depth.dtype != np.float32:
            raise MalformedImage(f"depth is {depth.dtype} of shape {depth.shape}: pass (H, W) float32 in metres")
        if depth.shape != rgb.shape[:2]:
            raise DepthNotAligned(
                f"depth is {depth.shape}, colour {rgb.shape[:2]} (H, W): depth must be registered to colour; "
                "start realsense2_camera with align_depth.enable:=true and use aligned_depth_to_color"
            )
        if (self.intrinsics.height, self.intrinsics.width) != rgb.shape[:2]:
            raise InvalidIntrinsics(
                f"intrinsics are for {self.intrinsics.width} x {self.intrinsics.height}, "
                f"the colour image is {rgb.shape[1]} x {rgb.shape[0]} (W x H): use the colour camera's camera_info"
            )
        if self.stamp_ns < 0:
            raise StampError(f"stamp is {self.stamp_ns} ns: stamps must not be negative; check the driver's clock")
        if not self.frame_id:
            raise FrameError("frame_id is empty: set the optical frame's name in the image headers")
        if self.guess is not None and self.guess.depth_m.shape != rgb.shape[:2]:
            raise MalformedImage(
                f"guessed depth is {self.guess.depth_m.shape}, colour {rgb.shape[:2]} (H, W): make it for this picture"
            )
        if self.up is not None:
            object.__setattr__(self, "up", CameraPose(up=self.up).up)
        object.__setattr__(self, "rgb", _read_only(rgb))
        object.__setattr__(self, "depth_m", _read_only(depth))

    @property
    def depth_source(self) -> DepthSource:
        """Where the depth of objects in this frame comes from."""
        return DepthSource.SENSOR if self.guess is None else self.guess.source

    @property
    def height(self) -> int:
        """Rows of the images."""
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        """Columns of the images."""
        return int(self.rgb.shape[1])


@dataclass(frozen=True, eq=False)
class CameraPose:
    """How the camera stood when a frame was taken, known from elsewhere: an IMU, tf, a robot's odometry.

    Raises:
        TransformError: a direction without length, or a matrix that is no rotation with a translation.
    """

    up: NDArray[np.float64] | None = None  # (3,) gravity's opposite in the camera's optical frame
    fixed_from_camera: NDArray[np.float64] | None = None  # (4, 4) into a frame that does not move

    def __post_init__(self) -> None:
        if self.up is not None:
            length = float(np.linalg.norm(self.up)) if np.shape(self.up) == (3,) else float("nan")
            if not (np.isfinite(length) and length > 1e-6):
                raise TransformError(f"up is {self.up}: give a direction in the camera's optical frame")
            object.__setattr__(self, "up", np.asarray(self.up, np.float64) / length)
        if self.fixed_from_camera is not None:
            object.__setattr__(self, "fixed_from_camera", check_transform(self.fixed_from_camera))


def check_transform(matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """The matrix (4, 4) itself, float64, known to turn and move points without changing distances.

    Raises:
        TransformError: it is of another shape, not finite, scales, shears or mirrors.
    """
    m = np.asarray(matrix, np.float64)
    if m.shape != (4, 4) or not np.isfinite(m).all():
        raise TransformError(f"transform is {np.array2string(m, precision=3)}: pass a finite (4, 4) matrix")
    turn = m[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > 1e-4 or np.linalg.det(turn) < 0 or (m[3] != [0, 0, 0, 1]).any():
        raise TransformError(
            f"transform is {np.array2string(m, precision=3)}: its rotation must have orthonormal columns and "
            "determinant 1, its last row must be 0 0 0 1"
        )
    return m
