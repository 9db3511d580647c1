"""A scene as RViz draws it: objects, grasps as grippers, the ground, obstacles; see `messages`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GraspConfig
from sam_perception.manipulation import Gripper, gripper_of
from sam_perception.messages import Message, MessageTypes, header, point, pose, vector
from sam_perception.overlay import caption_of, color_of
from sam_perception.overlay_scene import GRASP_RGB, GROUND_RGB, LOWER_BOUND_RGB, obstacle_caption, obstacle_color
from sam_perception.scene import GraspTarget, ObstacleKind, ObstacleSegment, OrientedBox, Plane, Scene, Track

# visualization_msgs/Marker types and actions.
_CUBE, _SPHERE, _LINE_STRIP, _LINE_LIST, _TEXT, _ADD, _DELETE_ALL = 1, 2, 4, 5, 9, 0, 3
# An ellipsoid of this many standard deviations holds 97 % of a normal distribution in three dimensions.
_COVARIANCE_SIGMAS = 3.0
_TEXT_HEIGHT_M = 0.03
_LINE_M = 0.003
_HOLE_M = 0.05  # diameter of the ball where a hole in depth would have its foot

Draw = Callable[..., Message]
Color = tuple[int, int, int]  # RGB


def markers(types: MessageTypes, scene: Scene, grasps: GraspConfig | None = None) -> Message:
    """`MarkerArray` of the scene: boxes, centroids, 3 sigma ellipsoids, captions, grippers, ground, obstacles.

    Starts by deleting what earlier frames drew, so that nothing stays of an object that is gone,
    whichever messages were lost in between. `grasps` says whose gripper is drawn.
    """
    scene_header = header(types, scene.stamp_ns, scene.frame_id)
    draw = _drawing(types, scene_header)
    up = -scene.frame_from_camera[:3, 1]  # the picture's
    drawn = [types("visualization_msgs/Marker", header=scene_header, action=_DELETE_ALL)]
    for track in scene.objects:
        if track.box is not None and track.centroid is not None and track.covariance is not None:
            drawn += _object(draw, types, track, track.box, track.centroid, track.covariance, up)
    gripper, shown = gripper_of(grasps or GraspConfig()), set[int]()
    for index, target in enumerate(scene.grasp_targets):
        drawn.append(_gripper(draw, types, index, target, gripper, best=target.object_id not in shown))
        shown.add(target.object_id)
    if scene.ground is not None and len(scene.ground.outline_m):  # it may be out of sight
        drawn.append(_ground(draw, types, scene.ground))
    for obstacle in scene.obstacles:
        drawn += _obstacle(draw, types, obstacle, up)
    return types("visualization_msgs/MarkerArray", markers=drawn)


def _drawing(types: MessageTypes, scene_header: Message) -> Draw:
    """What makes one marker under this header."""

    def draw(
        ns: str,
        marker_id: int,
        kind: int,
        place: Message,
        scale: NDArray[Any] | Sequence[float],
        color: Color,
        alpha: float,
        **fields: Any,
    ) -> Message:
        red, green, blue = (channel / 255 for channel in color)
        return types(
            "visualization_msgs/Marker",
            header=scene_header,
            ns=ns,
            id=marker_id,
            type=kind,
            action=_ADD,
            pose=place,
            scale=vector(types, np.asarray(scale)),
            color=types("std_msgs/ColorRGBA", r=red, g=green, b=blue, a=alpha),
            **fields,
        )

    return draw


def _object(
    draw: Draw,
    types: MessageTypes,
    track: Track,
    box: OrientedBox,
    centroid: NDArray[np.float64],
    covariance: NDArray[np.float64],
    up: NDArray[np.float64],
) -> list[Message]:
    variances, axes = np.linalg.eigh(covariance)
    axes[:, 2] *= np.sign(np.linalg.det(axes))  # eigenvectors may form a left-handed frame
    spread = np.maximum(2 * _COVARIANCE_SIGMAS * np.sqrt(np.clip(variances, 0, None)), 1e-4)
    around = pose(types, box.center_m, box.camera_from_box)
    color, at = color_of(track.id), pose(types, centroid)
    return [
        draw("box", track.id, _CUBE, around, np.maximum(box.size_m, 1e-3), color, 0.35),
        draw("centroid", track.id, _SPHERE, at, [0.01] * 3, color, 1.0),
        draw("covariance", track.id, _SPHERE, pose(types, centroid, axes), spread, color, 0.5),
        _caption(draw, types, ("caption", track.id), box, color, caption_of(track), up),
    ]


def _caption(
    draw: Draw,
    types: MessageTypes,
    name: tuple[str, int],
    box: OrientedBox,
    color: Color,
    text: str,
    up: NDArray[np.float64],
) -> Message:
    half = 0.5 * float(np.abs(up @ box.camera_from_box) @ box.size_m)
    above = box.center_m + (half + _TEXT_HEIGHT_M) * up
    return draw(*name, _TEXT, pose(types, above), [0.0, 0.0, _TEXT_HEIGHT_M], color, 1.0, text=text)


def _gripper(
    draw: Draw, types: MessageTypes, index: int, target: GraspTarget, gripper: Gripper, *, best: bool
) -> Message:
    """Two fingers, the palm's front and where it comes from; the best of each object stands out."""
    back, half = -gripper.finger_depth_m, target.width_m / 2
    behind = back - gripper.palm_depth_m
    ends = [(0, half), (back, half), (0, -half), (back, -half), (back, half), (back, -half), (back, 0), (behind, 0)]
    return draw(
        "grasp",
        index,
        _LINE_LIST,
        pose(types, target.position_m, target.camera_from_gripper[:3, :3]),
        [_LINE_M if best else _LINE_M / 2, 0.0, 0.0],
        LOWER_BOUND_RGB if target.width_is_lower_bound else GRASP_RGB,
        1.0 if best else 0.4,
        points=[point(types, np.array([x, y, 0.0])) for x, y in ends],
    )


def _ground(draw: Draw, types: MessageTypes, ground: Plane) -> Message:
    corners = [point(types, corner) for corner in (*ground.outline_m, *ground.outline_m[:1])]
    return draw(
        "ground", 0, _LINE_STRIP, pose(types, np.zeros(3)), [2 * _LINE_M, 0.0, 0.0], GROUND_RGB, 1.0, points=corners
    )


def _obstacle(draw: Draw, types: MessageTypes, obstacle: ObstacleSegment, up: NDArray[np.float64]) -> list[Message]:
    color, box = obstacle_color(obstacle), obstacle.box
    if box is None:
        return [draw("hole", obstacle.id, _SPHERE, pose(types, obstacle.nearest_point_m), [_HOLE_M] * 3, color, 0.6)]
    around = pose(types, box.center_m, box.camera_from_box)
    drawn = [draw("obstacle", obstacle.id, _CUBE, around, np.maximum(box.size_m, 1e-3), color, 0.3)]
    if obstacle.kind is ObstacleKind.OBSTACLE:
        text = obstacle_caption(obstacle)
        drawn.append(_caption(draw, types, ("distance", obstacle.id), box, color, text, up))
    return drawn
