"""What watchers are shown: pictures as JPEG, encoded once for all of them and only while somebody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import ConsoleError
from sam_perception.frame import RgbdFrame
from sam_perception.overlay import draw_overlay
from sam_perception.scene import Scene
from sam_perception.web.backend import Backend, Seen

_LOOK_AGAIN_S = 0.01  # for a newer frame, while somebody waits for one
_NO_RETURN = (24, 24, 28)  # RGB of pixels without depth
_RANGE_PERCENT = (2.0, 98.0)  # of the valid depths; what is nearer or farther is clipped


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame as it is sent."""

    seen: Seen
    scene: Scene  # with positions
    view: str  # one of wire.VIEWS
    jpeg: bytes
    depth_range_m: tuple[float, float] | None = None  # nearest and farthest colour of the depth view


def make_picture(seen: Seen, scene: Scene, view: str, quality: int) -> Picture:
    """Draw and encode one view of a frame.

    Raises:
        ConsoleError: OpenCV cannot encode it.
    """
    depth_range_m = None
    if view == "depth":
        rgb, depth_range_m = _depth_colors(seen.frame)
    else:
        rgb = draw_overlay(seen.frame.rgb, scene.objects) if view == "overlay" else seen.frame.rgb
    return Picture(seen, scene, view, encode(rgb, quality), depth_range_m)


def encode(rgb: NDArray[np.uint8], quality: int) -> bytes:
    """JPEG of (H, W, 3) RGB.

    Raises:
        ConsoleError: OpenCV cannot encode it.
    """
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ConsoleError(f"a picture of shape {rgb.shape} cannot be encoded as JPEG: look at the camera's resolution")
    return data.tobytes()


def _depth_colors(frame: RgbdFrame) -> tuple[NDArray[np.uint8], tuple[float, float] | None]:
    """(H, W, 3) RGB, near is red and far is blue, and the depths of those in metres; None without any depth."""
    valid = np.isfinite(frame.depth_m) & (frame.depth_m > 0)
    rgb = np.full((frame.height, frame.width, 3), _NO_RETURN, np.uint8)
    if not valid.any():
        return rgb, None
    near, far = (float(p) for p in np.percentile(frame.depth_m[valid], _RANGE_PERCENT))
    share = np.clip((far - frame.depth_m[valid]) / max(far - near, 1e-3), 0, 1)
    colors = cv2.applyColorMap((share * 255).astype(np.uint8)[:, None], cv2.COLORMAP_TURBO)
    rgb[valid] = cv2.cvtColor(colors, cv2.COLOR_BGR2RGB)[:, 0]
    return rgb, (near, far)


class Projector:
    """Makes each wanted view of each frame once, in `executor`, for all that wait for it."""

    def __init__(self, backend: Backend, executor: Executor, quality: int) -> None:
        self._backend, self._executor, self._quality = backend, executor, quality
        self._seen: Seen | None = None
        self._made: dict[str, asyncio.Future[Picture]] = {}

    async def next(self, view: Callable[[], str], after: tuple[Seen | None, str]) -> Picture:
        """The newest frame's picture, as soon as there is another frame or another view than `after`."""
        while True:
            newest, wanted = self._backend.newest(), view()
            if newest is not None and (newest is not after[0] or wanted != after[1]):
                return await asyncio.shield(self._picture(newest, wanted))
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _picture(self, seen: Seen, view: str) -> asyncio.Future[Picture]:
        if seen is not self._seen:
            self._seen, self._made = seen, {}
        if view not in self._made:
            loop = asyncio.get_running_loop()
            self._made[view] = loop.run_in_executor(self._executor, self._make, seen, view)
        return self._made[view]

    def _make(self, seen: Seen, view: str) -> Picture:
        return make_picture(seen, self._backend.complete(seen), view, self._quality)
