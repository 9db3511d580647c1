"""What is asked of the scene generator, and what it returns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import ConfigError
from sam_perception.frame import CameraIntrinsics

_RANGES = {
    "width": (16, 4096),
    "height": (16, 4096),
    "frames": (1, 10_000),
    "stride": (1, 64),
    "difficulty": (0.0, 1.0),
    "max_objects": (1, 32),
}


@dataclass(frozen=True)
class SceneOptions:
    """How large, long and hard a clip is.

    Raises:
        ConfigError: a value outside its range.
    """

    width: int = 256  # pixels
    height: int = 256  # pixels
    frames: int = 8
    stride: int = 1  # ticks of motion between two frames; larger is faster
    difficulty: float = 1.0  # 0: few large objects, flat backgrounds, slow; 1: everything
    depth: bool = False  # also return sensor depth and exact depth
    amodal: bool = False  # also return each object's mask as if nothing hid it
    max_objects: int = 8

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"scene option {name} is {value}: it must lie between {low} and {high}")


def pixel_rays(camera: CameraIntrinsics) -> NDArray[np.float32]:
    """(3, H, W) viewing rays in the camera's optical frame, scaled to z = 1.

    A ray times the depth along the optical axis is the surface point. Lenses are not modelled.
    """
    x = (np.arange(camera.width) - camera.cx) / camera.fx
    y = (np.arange(camera.height) - camera.cy) / camera.fy
    rays = np.ones((3, camera.height, camera.width), np.float32)
    rays[0], rays[1] = x[None, :], y[:, None]
    return rays


@dataclass(frozen=True, eq=False)
class Clip:
    """A rendered clip of T frames with N objects and everything that is true about it."""

    rgb: NDArray[np.uint8]  # (T, H, W, 3)
    ids: NDArray[np.uint8]  # (T, H, W) visible object per pixel; 0: background or unlabelled clutter
    object_ids: tuple[int, ...]  # ascending; each is visible in at least one frame
    intrinsics: CameraIntrinsics
    world_from_camera: NDArray[np.float64]  # (T, 4, 4), camera in its optical frame, world z up, metres
    world_from_object: NDArray[np.float64]  # (T, N, 4, 4) motion of each object; may hold a slight stretch
    amodal: NDArray[np.bool_] | None = None  # (T, N, H, W) masks as if nothing were in front
    depth_m: NDArray[np.float32] | None = None  # (T, H, W) as a stereo sensor gives it; 0: no return
    true_depth_m: NDArray[np.float32] | None = None  # (T, H, W) exact, along the optical axis

    def centroids_m(self) -> NDArray[np.float64]:
        """(T, N, 3) mean of each object's visible surface points in the camera's frame; NaN where hidden.

        Raises:
            ConfigError: the clip was made without depth.
        """
        if self.true_depth_m is None:
            raise ConfigError("this clip has no depth: make it with SceneOptions(depth=True)")
        rays = pixel_rays(self.intrinsics).astype(np.float64)
        out = np.full((len(self.ids), len(self.object_ids), 3), np.nan)
        for t, (ids, depth) in enumerate(zip(self.ids, self.true_depth_m, strict=True)):
            for n, object_id in enumerate(self.object_ids):
                mask = ids == object_id
                if mask.any():
                    out[t, n] = (rays[:, mask] * depth[mask]).mean(axis=1)
        return out

    def frame_slice(self, frames: slice) -> Clip:
        """The same clip, only these frames; objects keep their ids."""
        arrays: dict[str, Any] = {
            f.name: value[frames]
            for f in dataclasses.fields(self)
            if isinstance(value := getattr(self, f.name), np.ndarray)
        }
        return dataclasses.replace(self, **arrays)
