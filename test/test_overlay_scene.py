from __future__ import annotations

import numpy as np
from worlds import Shape, World, look

from sam_perception.config import PerceptionConfig
from sam_perception.geometry import lift, project
from sam_perception.manipulation import scene_grasps
from sam_perception.navigation import ObstacleMap
from sam_perception.overlay_scene import draw_scene, obstacle_color
from sam_perception.scene import ObjectState, ObstacleKind, Scene, Track

CONFIG = PerceptionConfig()


def test_obstacles_grasps_and_ground_are_where_they_are_seen() -> None:
    shapes = (Shape("box", (-0.1, 0, 0), (0.05, 0.1, 0.06), 0.3), Shape("cylinder", (0.15, 0.05, 0), (0.08, 0.08, 0.1)))
    frame, ids = World(shapes, look((0, -0.5, 0.5), (0, 0, 0.03))).frame(0)
    mask = ids == 1
    around = ObstacleMap().update(frame, [mask])
    track = Track(1, "", ObjectState.TRACKED, 1.0, 1.0, mask, 0, lift(frame, mask, CONFIG.geometry))
    targets, _ = scene_grasps([track], around.grid, frame.intrinsics, around.planes, CONFIG)
    scene = Scene(
        0, "camera", frame.width, frame.height, grasp_targets=targets, ground=around.ground, obstacles=around.obstacles
    )
    before = frame.rgb.copy()
    picture = draw_scene(frame.rgb, scene, frame.intrinsics)
    np.testing.assert_array_equal(frame.rgb, before)
    thing = next(o for o in around.obstacles if o.kind is ObstacleKind.OBSTACLE)
    painted = picture[ids == 2].astype(float).mean(axis=0) - frame.rgb[ids == 2].mean(axis=0)
    toward = np.array(obstacle_color(thing)) - frame.rgb[ids == 2].mean(axis=0)
    assert painted @ toward > 0
    x, y = np.rint(project(frame.intrinsics, targets[0].position_m[None])[0]).astype(int)
    around_tips = (picture != frame.rgb).any(axis=2)[y - 40 : y + 40, x - 40 : x + 40]
    assert around_tips.mean() > 0.05


def test_an_empty_scene_is_the_picture_itself() -> None:
    frame, _ = World((), look((0, -0.5, 0.5), (0, 0, 0.03))).frame(0)
    scene = Scene(0, "camera", frame.width, frame.height)
    np.testing.assert_array_equal(draw_scene(frame.rgb, scene, frame.intrinsics), frame.rgb)
