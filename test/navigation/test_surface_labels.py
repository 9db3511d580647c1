"""Labels of floor and walls decide where depth alone cannot."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tabletop import frame_at
from worlds import Shape, Wall, World, look

from sam_perception.config import NavigationConfig, PerceptionConfig, SemanticConfig
from sam_perception.discovery import Models
from sam_perception.frame import RgbdFrame
from sam_perception.geometry.planes import Found
from sam_perception.navigation import ObstacleMap
from sam_perception.navigation.surface_votes import votes
from sam_perception.perception import Perception, Wanted
from sam_perception.scene import ObstacleKind, PlaneKind, SurfaceLabel
from sam_perception.settings import with_settings
from sam_perception.surface_labels import SurfaceReader

FLOOR, WALL = SurfaceLabel.FLOOR.value, SurfaceLabel.WALL.value

# A floor with a platform on it that fills most of the view: by depth alone the lower of the two is the ground.
PLATFORM = World((Shape("box", (0.0, 0.3, 0.0), (3.0, 0.9, 0.4)),), look((0.0, -1.2, 1.3), (0.0, 0.2, 0.2)))
# A panel too small to be taken for a wall by its size.
PANEL = World((Shape("box", (0.0, 0.3, 0.0), (0.5, 0.02, 0.5)),), look((0.0, -0.8, 0.7), (0.0, 0.2, 0.15)))


def kinds(world: World, labels: NDArray[np.uint8] | None) -> tuple[RgbdFrame, set[ObstacleKind], float]:
    frame, _ = world.frame(0)
    around = ObstacleMap(NavigationConfig(min_plane_share=0.05)).update(frame, surface_labels=labels)
    assert around.ground is not None
    return frame, {o.kind for o in around.obstacles if len(o.points)}, around.ground.offset_m


def test_labels_say_which_level_is_the_floor() -> None:
    ids = PLATFORM.frame(0)[1]
    _, _, height = kinds(PLATFORM, None)
    assert height == pytest.approx(1.3, abs=0.03)  # depth alone: the lowest
    labels = np.where(ids == 1, FLOOR, 0).astype(np.uint8)  # a stage, say, on which the robot stands
    _, _, height = kinds(PLATFORM, labels)
    assert height == pytest.approx(0.9, abs=0.03)
    _, _, height = kinds(PLATFORM, np.where(ids == 1, 0, FLOOR).astype(np.uint8))
    assert height == pytest.approx(1.3, abs=0.03)


def test_labels_make_a_small_panel_a_wall_and_a_wall_none() -> None:
    ids = PANEL.frame(0)[1]
    assert ObstacleKind.WALL not in kinds(PANEL, None)[1]
    assert ObstacleKind.WALL in kinds(PANEL, np.where(ids == 1, WALL, FLOOR).astype(np.uint8))[1]
    room = World((), look((0.0, -1.0, 1.0), (0.0, 0.6, 0.3)), walls=(Wall((0, 1.0, 0), (0, -1, 0)),))
    assert ObstacleKind.WALL in kinds(room, None)[1]
    assert ObstacleKind.WALL in kinds(room, np.zeros((480, 640), np.uint8))[1]  # nobody says that it is none


def test_a_few_labelled_pixels_have_no_majority() -> None:
    inliers = np.zeros(100, bool)
    inliers[:50] = True
    plane = Found(np.array([0.0, 0.0, -1.0]), 1.0, inliers)
    labels = np.zeros(100, np.uint8)
    labels[:24] = FLOOR
    labels[50:] = WALL  # of other points
    assert votes(labels, [plane], 0.5) == (SurfaceLabel.UNKNOWN,)
    labels[:25] = FLOOR
    assert votes(labels, [plane], 0.5) == (SurfaceLabel.FLOOR,)
    assert votes(None, [plane, plane], 0.5) == (SurfaceLabel.UNKNOWN,) * 2


class Painter:
    """A `SurfaceSegmenter` that calls the left half floor."""

    def __init__(self) -> None:
        self.asked = 0

    def surfaces(self, rgb: NDArray[np.uint8], floor: str, wall: str) -> NDArray[np.uint8]:
        self.asked += 1
        assert (floor, wall) == (SemanticConfig().floor, SemanticConfig().wall)
        labels = np.zeros(rgb.shape[:2], np.uint8)
        labels[:, : rgb.shape[1] // 2] = FLOOR
        return labels


def test_the_model_is_asked_as_often_as_the_settings_say() -> None:
    painter, reader = Painter(), None
    reader = SurfaceReader(painter)
    settings = SemanticConfig(rate_hz=2.0)
    stamps = [1.0, 1.1, 1.4, 1.6, 2.0, 0.5]  # the last one: the stream starts again
    asked = []
    for stamp in stamps:
        labels = reader.labels(frame_at(round(stamp * 1e9)), settings)
        assert labels.sum() == labels.size / 2 * FLOOR
        asked.append(painter.asked)
    assert asked == [1, 1, 1, 2, 2, 3]


def test_the_recipe_asks_only_where_obstacles_are_wanted() -> None:
    from fake_tracker import ColorTracker

    painter = Painter()
    config = with_settings(PerceptionConfig(), {"grasps.enabled": False})
    perception = Perception(config, ColorTracker(), models=Models(semantic=painter))
    perception.step(frame_at(10**9), wanted=Wanted.POSITIONS)
    assert painter.asked == 0
    scene = perception.step(frame_at(2 * 10**9))
    assert painter.asked == 1
    assert "semantic model" in scene.timings_ms
    assert any(plane.kind is PlaneKind.GROUND for plane in scene.planes)
