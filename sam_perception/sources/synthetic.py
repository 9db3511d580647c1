"""Rendered frames for the demo, with everything that is true about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import ConfigError
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.sources.source import Rejection
from sam_perception.training.scenes.demo import LABELS, demo_stage
from sam_perception.training.scenes.depth_sensor import DepthSensor, sense
from sam_perception.training.scenes.raycast import FAR
from sam_perception.training.scenes.render import Renderer
from sam_perception.training.scenes.values import pixel_rays

FRAME_ID = "camera_color_optical_frame"
FRAMES_PER_S = 15
_START_NS = 1_700_000_000_000_000_000
_GRAIN = 1.6  # standard deviation of the colour noise, of 255


@dataclass(frozen=True, eq=False)
class Truth:
    """What a frame really shows."""

    ids: NDArray[np.uint8]  # (H, W) visible object per pixel, 0: none of the objects
    object_ids: tuple[int, ...]
    labels: tuple[str, ...]  # in the order of object_ids
    centroids_m: NDArray[np.float64]  # (N, 3) mean of the visible surface, camera frame; NaN where hidden
    depth_m: NDArray[np.float32]  # (H, W) exact; 0: nothing
    world_from_camera: NDArray[np.float64]  # (4, 4)

    def mask(self, object_id: int) -> NDArray[np.bool_]:
        """(H, W) the visible pixels of one object."""
        return np.asarray(self.ids == object_id)


class SyntheticSource:
    """The demo's table: a mug passes behind a box and comes out again, a book is pushed, the camera sways.

    Ids 1 to 4 are mug, box, bottle and book. Frames are rendered when asked for, and the same
    arguments give the same bytes. Everything happens at fixed shares of the clip: with 90 frames the
    mug is hidden for about ten. A `FrameSource`.

    Raises:
        ConfigError: a size below 32 pixels or no frame.
    """

    def __init__(self, seed: int = 8, *, width: int = 640, height: int = 480, frames: int = 90) -> None:
        if min(width, height) < 32 or frames < 1:
            raise ConfigError(f"synthetic source of {width} x {height}, {frames} frames: give at least 32 x 32 and 1")
        self._seed, self._frames = seed, frames
        self._stage = demo_stage(seed, width, height, frames)
        self._renderer = Renderer(self._stage, len(LABELS), amodal=False)
        self._rays = pixel_rays(self._stage.camera).astype(np.float64)
        self._sensor = DepthSensor()

    @property
    def description(self) -> str:
        """One line for people."""
        camera = self._stage.camera
        return f"synthetic table (seed {self._seed}), {self._frames} frames of {camera.width} x {camera.height}"

    @property
    def independent(self) -> bool:
        """False: the frames are one recording."""
        return False

    @property
    def rejected(self) -> Sequence[Rejection]:
        """Empty: every frame is good."""
        return ()

    @property
    def intrinsics(self) -> CameraIntrinsics:
        """Of every frame."""
        return self._stage.camera

    @property
    def labels(self) -> tuple[str, ...]:
        """What objects 1, 2, ... are."""
        return LABELS

    def __len__(self) -> int:
        """How many frames there are."""
        return self._frames

    def __iter__(self) -> Iterator[RgbdFrame]:
        """Each frame at 15 Hz stamps."""
        for frame, _ in self.with_truth():
            yield frame

    def __enter__(self) -> SyntheticSource:
        """The source itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """There is nothing to close."""

    def with_truth(self) -> Iterator[tuple[RgbdFrame, Truth]]:
        """Each frame with what it really shows."""
        for index in range(self._frames):
            yield self.render(index)

    def render(self, index: int) -> tuple[RgbdFrame, Truth]:
        """One frame with its truth; `index` from 0."""
        picture, buffers = self._renderer.frame(index)
        rng = np.random.default_rng([self._seed, 2, index])  # per frame, so that any frame can be rendered alone
        rgb = self._photograph(rng, picture)
        depth = sense(rng, buffers.depth, rgb, self._stage.camera.fx, self._sensor)
        stamp_ns = _START_NS + index * 1_000_000_000 // FRAMES_PER_S
        frame = RgbdFrame(rgb, depth, self._stage.camera, stamp_ns, FRAME_ID)
        exact = np.where(buffers.depth < FAR, buffers.depth, np.float32(0))
        object_ids = tuple(range(1, len(LABELS) + 1))
        centroids = np.stack([self._centroid(buffers.instance == k, exact) for k in object_ids])
        pose = self._stage.world_from_camera[index].copy()
        return frame, Truth(buffers.instance, object_ids, LABELS, centroids, exact, pose)

    def _photograph(self, rng: np.random.Generator, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        soft = cv2.GaussianBlur(picture, (0, 0), 0.6 * max(picture.shape[1] / 640, 0.7))
        grain = rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(_GRAIN)
        return np.asarray(cv2.add(soft, grain, dtype=cv2.CV_8U), np.uint8)

    def _centroid(self, mask: NDArray[np.bool_], depth: NDArray[np.float32]) -> NDArray[np.float64]:
        if not mask.any():
            return np.full(3, np.nan)
        return np.asarray((self._rays[:, mask] * depth[mask]).mean(axis=1))


def demo_clip(seed: int = 8, width: int = 640, height: int = 480, frames: int = 90) -> SyntheticSource:
    """The demo's source, see `SyntheticSource`."""
    return SyntheticSource(seed, width=width, height=height, frames=frames)
