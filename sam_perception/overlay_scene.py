"""What arm and base get, as a picture: the best grasps as grippers, obstacles in their colours, the ground outlined."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GraspConfig
from sam_perception.frame import CameraIntrinsics
from sam_perception.geometry import project
from sam_perception.manipulation import Gripper, GripperBox, gripper_boxes, gripper_of
from sam_perception.overlay import color_of
from sam_perception.scene import GraspTarget, ObstacleKind, ObstacleSegment, OrientedBox, Plane, Scene

Color = tuple[int, int, int]  # RGB

_FONT = cv2.FONT_HERSHEY_SIMPLEX
GROUND_RGB: Color = (70, 200, 110)
_WALL: Color = (150, 150, 160)
_TABLE: Color = (200, 160, 90)
_UNKNOWN: Color = (255, 60, 200)
_SLATE: Color = (125, 140, 165)
_PALE = 0.65  # of an obstacle's colour is slate, the rest is its own
GRASP_RGB: Color = (30, 240, 60)
LOWER_BOUND_RGB: Color = (255, 190, 20)
_PLATE: Color = (25, 25, 30)
_DOT_PX = 2
_EDGES = ((0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7))


def draw_scene(
    rgb: NDArray[np.uint8], scene: Scene, camera: CameraIntrinsics, grasps: GraspConfig | None = None
) -> NDArray[np.uint8]:
    """A copy of `rgb` (H, W, 3) with planes, obstacles and the best grasp of each object drawn.

    Obstacles have pale colours and an o before their numbers, objects' grasps a #; walls are grey, table tops
    brown, what is UNKNOWN pink, with a cross where a hole in depth would have its foot. Grasps are green, amber
    where their width is a lower bound.
    """
    picture = np.array(rgb, np.uint8)
    scale = max(1.0, rgb.shape[0] / 480)
    if scene.ground is not None:
        _outline_plane(picture, scene.ground, camera)
    for obstacle in sorted(scene.obstacles, key=lambda o: -o.distance_m):
        _draw_obstacle(picture, obstacle, camera, scale)
    gripper = gripper_of(grasps or GraspConfig())
    for target in _best(scene.grasp_targets):
        _draw_gripper(picture, target, gripper, camera, scale)
    return picture


def obstacle_color(obstacle: ObstacleSegment) -> Color:
    """RGB in which an obstacle is shown: pale, so that none looks like an object."""
    own = {ObstacleKind.WALL: _WALL, ObstacleKind.TABLE: _TABLE, ObstacleKind.UNKNOWN: _UNKNOWN}
    red, green, blue = (round(_PALE * p + (1 - _PALE) * c) for p, c in zip(_SLATE, color_of(obstacle.id), strict=True))
    return own.get(obstacle.kind, (red, green, blue))


def obstacle_caption(obstacle: ObstacleSegment) -> str:
    """Id and distance; the o tells it from an object, whose ids are numbers of their own."""
    return f"o{obstacle.id}: {obstacle.distance_m:.2f} m"


def _best(targets: Sequence[GraspTarget]) -> list[GraspTarget]:
    best: dict[int, GraspTarget] = {}
    for target in targets:
        if target.object_id not in best or target.score > best[target.object_id].score:
            best[target.object_id] = target
    return list(best.values())


def _outline_plane(picture: NDArray[np.uint8], plane: Plane, camera: CameraIntrinsics) -> None:
    corners = project(camera, plane.outline_m)
    corners = corners[np.isfinite(corners).all(axis=1)]
    if len(corners) >= 3:
        cv2.polylines(picture, [np.rint(corners).astype(np.int32)], True, GROUND_RGB, 1, cv2.LINE_AA)


def _draw_obstacle(
    picture: NDArray[np.uint8], obstacle: ObstacleSegment, camera: CameraIntrinsics, scale: float
) -> None:
    color = obstacle_color(obstacle)
    dot = round(_DOT_PX * scale)
    for x, y in _pixels(obstacle.points, camera, picture.shape):
        region = picture[y : y + dot, x : x + dot]
        region[:] = (0.45 * region + 0.55 * np.array(color)).astype(np.uint8)
    for x, y in _pixels(obstacle.nearest_point_m[None], camera, picture.shape):
        cv2.drawMarker(picture, (x, y), (255, 255, 255), cv2.MARKER_CROSS, round(9 * scale), round(2 * scale))
    if obstacle.box is not None and obstacle.kind is ObstacleKind.OBSTACLE:
        _draw_edges(picture, _corners(obstacle.box), camera, color, 1)
        _write(picture, obstacle_caption(obstacle), obstacle.box.center_m, camera, scale, color)


def _pixels(points: NDArray[np.floating], camera: CameraIntrinsics, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Pixels (N, 2) of those points that are in the picture."""
    pixels = project(camera, points)
    pixels = np.rint(pixels[np.isfinite(pixels).all(axis=1)]).astype(np.intp)
    inside = (pixels >= 0).all(axis=1) & (pixels < [shape[1], shape[0]]).all(axis=1)
    return np.asarray(pixels[inside])


def _corners(box: OrientedBox) -> NDArray[np.float64]:
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    return np.asarray(box.center_m + (signs * box.size_m) @ box.camera_from_box.T)


def _draw_gripper(
    picture: NDArray[np.uint8], target: GraspTarget, gripper: Gripper, camera: CameraIntrinsics, scale: float
) -> None:
    color = LOWER_BOUND_RGB if target.width_is_lower_bound else GRASP_RGB
    pose = target.camera_from_gripper
    for part in gripper_boxes(gripper, target.width_m)[:2]:
        _draw_edges(picture, _box_corners(part) @ pose[:3, :3].T + pose[:3, 3], camera, color, round(2 * scale))
    back, half = -gripper.finger_depth_m, target.width_m / 2 + gripper.finger_thickness_m
    lines = np.array([[back, -half, 0], [back, half, 0], [back, 0, 0], [back - gripper.palm_depth_m, 0, 0]], float)
    pixels = project(camera, lines @ pose[:3, :3].T + pose[:3, 3])
    if np.isfinite(pixels).all():
        ends = [(round(x), round(y)) for x, y in pixels]
        cv2.line(picture, ends[0], ends[1], color, round(3 * scale), cv2.LINE_AA)
        cv2.line(picture, ends[2], ends[3], color, round(3 * scale), cv2.LINE_AA)
    _write(picture, f"#{target.object_id} grasp {target.score:.2f}", target.position_m, camera, scale, color)


def _box_corners(box: GripperBox) -> NDArray[np.float64]:
    return np.stack(np.meshgrid(*zip(box.low_m, box.high_m, strict=True), indexing="ij"), axis=-1).reshape(-1, 3)


def _draw_edges(
    picture: NDArray[np.uint8], corners: NDArray[np.float64], camera: CameraIntrinsics, color: Color, width: int
) -> None:
    """Edges of a box with corners (8, 3), x slowest."""
    pixels = project(camera, corners)
    for a, b in _EDGES:
        if np.isfinite(pixels[[a, b]]).all() and np.abs(pixels[[a, b]]).max() < 1e5:
            start, end = ((round(x), round(y)) for x, y in pixels[[a, b]])
            cv2.line(picture, start, end, color, width, cv2.LINE_AA)


def _write(
    picture: NDArray[np.uint8],
    text: str,
    place: NDArray[np.float64],
    camera: CameraIntrinsics,
    scale: float,
    color: Color,
) -> None:
    """Text in its thing's colour on a dark plate, middle at the place and inside the picture."""
    for x, y in _pixels(place[None], camera, picture.shape):
        (width, height), below = cv2.getTextSize(text, _FONT, 0.45 * scale, 1)
        left = max(0, min(x - width // 2, picture.shape[1] - width - 1))
        base = max(height + 1, min(y, picture.shape[0] - below - 1))
        cv2.rectangle(picture, (left - 2, base - height - 2), (left + width + 2, base + below), _PLATE, cv2.FILLED)
        cv2.putText(picture, text, (left, base), _FONT, 0.45 * scale, color, 1, cv2.LINE_AA)
