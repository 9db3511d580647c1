"""Clicks of people: RViz's "Publish Point", and the mouse on the overlay picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import Point, PointStamped
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode

from sam_perception.config import GeometryConfig
from sam_perception.errors import PromptError, PromptOutsideImage
from sam_perception.frame import RgbdFrame
from sam_perception.geometry import depth_sigma_m, depth_valid, project
from sam_perception.messages import stamp_ns_of
from sam_perception.prompts import BACKGROUND, FOREGROUND, PointPrompt
from sam_perception.ros.pipeline import Pipeline, Processed
from sam_perception.ros.settings import ClickConfig
from sam_perception.scene import Scene

Lookup = Callable[[str, str, int], NDArray[np.float64]]

POINT = "~/clicked_point"
LEFT, RIGHT = "~/overlay_mouse_left", "~/overlay_mouse_right"  # as rqt_image_view names them after ~/overlay
_QUEUE = 10
_AROUND_PX = 2  # readings this near to the pixel tell what the camera sees there
_NOISE_SIGMAS = 4.0


class Clicks:
    """`~/clicked_point`, `~/overlay_mouse_left` and `~/overlay_mouse_right`.

    A point in space is projected into the image of its own stamp, or else the newest, with the transform at
    the stamp of that image: a person clicks on what was there then. A click on the overlay is one on
    the newest picture that was published.

    Args:
        node: to subscribe with.
        pipeline: what serves requests now, or None while the node is not configured.
        lookup: target_from_source (4, 4) of target, source and stamp; raises TransformError.
        config: what a click does, as it is set now.
        on_error: called with what is wrong with a click.
    """

    def __init__(
        self,
        node: LifecycleNode,
        pipeline: Callable[[], Pipeline | None],
        lookup: Lookup,
        config: Callable[[], ClickConfig],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._pipeline, self._lookup, self._config, self._on_error = pipeline, lookup, config, on_error
        node.create_subscription(PointStamped, POINT, self._guarded(self._on_point), _QUEUE)
        left = self._guarded(lambda msg: self._on_pixel(msg, FOREGROUND))
        right = self._guarded(lambda msg: self._on_pixel(msg, BACKGROUND))
        node.create_subscription(Point, LEFT, left, _QUEUE)
        node.create_subscription(Point, RIGHT, right, _QUEUE)

    def _guarded(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        def safe(msg: Any) -> None:
            try:
                take(msg)
            except Exception as error:  # rclpy would end the executor
                self._on_error(error)

        return safe

    def _on_point(self, msg: Any) -> None:
        pipeline, shown = self._shown(stamp_ns_of(msg.header.stamp))
        frame, source = shown.frame, msg.header.frame_id
        if not source:
            raise PromptError("clicked point has no frame_id: say in which frame its coordinates are")
        matrix = self._lookup(frame.frame_id, source, frame.stamp_ns)
        point = matrix[:3, :3] @ np.array([msg.point.x, msg.point.y, msg.point.z]) + matrix[:3, 3]
        x, y = pixel_of(frame, point, pipeline.config.geometry, self._config().occlusion_m)
        self._prompt(pipeline, shown, x, y, FOREGROUND)

    def _on_pixel(self, msg: Any, label: int) -> None:
        pipeline, shown = self._shown(0)
        self._prompt(pipeline, shown, float(msg.x), float(msg.y), label)

    def _shown(self, stamp_ns: int) -> tuple[Pipeline, Processed]:
        pipeline = self._pipeline()
        recent = () if pipeline is None else pipeline.recent()
        if pipeline is None or not recent:
            raise PromptError("click came before the first image was processed: there is nothing to click on yet")
        return pipeline, next((p for p in recent if p.frame.stamp_ns == stamp_ns), recent[-1])

    def _prompt(self, pipeline: Pipeline, shown: Processed, x: float, y: float, label: int) -> None:
        settings, known = self._config(), pipeline.desk.ids
        object_id = 0
        if label == BACKGROUND or settings.action == "correct":
            object_id = object_at(shown.scene, known, x, y, settings.reach_px)
        if label == BACKGROUND and object_id == 0:
            raise PromptError(
                f"no object within {settings.reach_px} px of ({x:.0f}, {y:.0f}): a background click takes something "
                "away from an object; click nearer to one, or set clicks.reach_px higher"
            )

        def make(new_id: int) -> PointPrompt:
            prompt = PointPrompt(new_id, [(x, y)], [label], stamp_ns=shown.frame.stamp_ns)  # type: ignore[arg-type]
            prompt.check_inside(shown.frame.width, shown.frame.height)
            return prompt

        pipeline.desk.prompt(object_id, make)


def pixel_of(
    frame: RgbdFrame, point: NDArray[np.float64], geometry: GeometryConfig, occlusion_m: float
) -> tuple[float, float]:
    """The pixel on which a point (3,) of the camera's frame is seen.

    Raises:
        PromptOutsideImage: it is behind the camera, or not in the picture.
        PromptError: something nearer hides it, or it is not finite.
    """
    if not np.isfinite(point).all():
        raise PromptError(f"clicked point is {point.tolist()} in the camera's frame: it must be finite")
    place = ", ".join(f"{value:.3f}" for value in point)
    if point[2] <= 0:
        raise PromptOutsideImage(f"clicked point is behind the camera, at ({place}) m: click on what the camera sees")
    x, y = (float(value) for value in project(frame.intrinsics, point[None])[0])
    if not (-0.5 <= x <= frame.width - 0.5 and -0.5 <= y <= frame.height - 0.5):
        raise PromptOutsideImage(
            f"clicked point at ({place}) m of the camera falls on pixel ({x:.0f}, {y:.0f}), outside the "
            f"{frame.width} x {frame.height} image: click on what the camera sees"
        )
    row, column = round(y), round(x)
    rows = slice(max(row - _AROUND_PX, 0), row + _AROUND_PX + 1)
    readings = frame.depth_m[rows, max(column - _AROUND_PX, 0) : column + _AROUND_PX + 1]
    readings = readings[depth_valid(readings, geometry)]
    if readings.size:
        seen_m = float(np.median(readings))
        allowed_m = max(occlusion_m, _NOISE_SIGMAS * float(depth_sigma_m(float(point[2]), geometry)))
        if point[2] > seen_m + allowed_m:
            raise PromptError(
                f"clicked point is hidden: it is {point[2]:.3f} m deep, and the camera sees something "
                f"{seen_m:.3f} m deep there; click on what the camera sees, or set clicks.occlusion_m higher"
            )
    return min(max(x, 0.0), frame.width - 1.0), min(max(y, 0.0), frame.height - 1.0)


def object_at(scene: Scene, known: tuple[int, ...], x: float, y: float, reach_px: float) -> int:
    """Id of the object under a pixel (the surest mask first), or of the nearest within reach; 0 where there is none."""
    best, nearest = 0, float(reach_px)
    row, column = round(y), round(x)
    for track in sorted(scene.objects, key=lambda t: -t.mask_score):
        if track.id not in known or not track.mask.any():
            continue
        inside = 0 <= row < scene.height and 0 <= column < scene.width
        if inside and track.mask[row, column]:
            return track.id
        rows, columns = np.nonzero(_border(track.mask))
        away = float(np.hypot(columns - x, rows - y).min())
        if away <= nearest:
            best, nearest = track.id, away
    return best


def _border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inner = cv2.erode(np.ascontiguousarray(mask).view(np.uint8), np.ones((3, 3), np.uint8), borderValue=0)
    return np.asarray(mask & ~np.asarray(inner).view(np.bool_))
