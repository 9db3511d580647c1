"""Guessed depth through the whole recipe: what uses it, what must not, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
from fake_tracker import RED_BOX, ColorTracker
from numpy.typing import NDArray
from tabletop import TARGET_ID, WORLD, frame_at, target_prompt

from sam_perception.config import PerceptionConfig
from sam_perception.discovery import Models
from sam_perception.frame import DepthSource, RgbdFrame
from sam_perception.perception import Perception, Wanted
from sam_perception.prompts import BoxPrompt
from sam_perception.scene import DepthEvidence, ObstacleKind
from sam_perception.settings import with_settings

SECOND = 10**9


class Oracle:
    """A `DepthModel` that knows the world, up to a scale and a shift that it does not tell."""

    def __init__(self, scale: float = 40.0, shift: float = -3.0, *, metric: bool = False) -> None:
        depth, _ = WORLD.render()
        inverse = np.where(np.isfinite(depth), 1.0 / depth, 0.02)
        self.metric, self.asked = metric, 0
        self.told = np.asarray(inverse if metric else scale * inverse + shift, np.float32)

    def disparity(self, _: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.asked += 1
        return self.told


def hidden_target(stamp_ns: int, *, blind: bool = False) -> RgbdFrame:
    """The table with a target of glass: the sensor has no depth on it, or nowhere at all."""
    frame = frame_at(stamp_ns)
    depth = frame.depth_m.copy()
    depth[:] = 0 if blind else depth
    depth[target_prompt().mask] = 0
    return RgbdFrame(frame.rgb, depth, frame.intrinsics, stamp_ns, frame.frame_id)


def perception_with(model: Oracle, **settings: object) -> Perception:
    values = {"depth.model": "oracle", "depth.mode": "fill", "grasps.enabled": False}
    values |= {name.replace("__", "."): value for name, value in settings.items()}
    perception = Perception(with_settings(PerceptionConfig(), values), ColorTracker(), models=Models(depth=model))
    perception.prompt(target_prompt())
    return perception


def exact_centroid() -> NDArray[np.float64]:
    perception = Perception(PerceptionConfig(), ColorTracker())
    perception.prompt(target_prompt())
    centroid = perception.step(frame_at(SECOND), wanted=Wanted.POSITIONS).object(TARGET_ID).centroid
    assert centroid is not None
    return centroid


def test_what_the_sensor_does_not_see_is_filled_and_says_so() -> None:
    plain = perception_with(Oracle(), depth__mode="sensor").step(hidden_target(SECOND))
    assert plain.object(TARGET_ID).centroid is None
    assert plain.depth_source is DepthSource.SENSOR
    scene = perception_with(Oracle()).step(hidden_target(SECOND))
    track = scene.object(TARGET_ID)
    assert track.centroid is not None
    np.testing.assert_allclose(track.centroid, exact_centroid(), atol=0.01)
    assert scene.depth_source is DepthSource.FILLED
    assert "depth model" in scene.timings_ms


def test_the_ground_and_what_is_free_come_from_the_sensor_unless_the_user_says_otherwise() -> None:
    def holes(**settings: object) -> tuple[int, DepthSource]:
        scene = Perception(
            with_settings(
                PerceptionConfig(), {"depth.model": "x", "depth.mode": "fill", "grasps.enabled": False, **settings}
            ),
            ColorTracker(),
            models=Models(depth=Oracle()),
        ).step(hidden_target(SECOND))
        unknown = [o for o in scene.obstacles if o.kind is ObstacleKind.UNKNOWN and not len(o.points)]
        return len(unknown), scene.around_source

    assert holes() == (1, DepthSource.SENSOR)
    assert holes(**{"depth.navigate": True}) == (0, DepthSource.FILLED)


def test_evidence_for_what_is_out_of_sight_is_the_sensors() -> None:
    tracker = ColorTracker()
    config = with_settings(PerceptionConfig(), {"depth.model": "x", "depth.mode": "fill"})
    perception = Perception(config, tracker, models=Models(depth=Oracle()))
    perception.prompt(target_prompt())
    perception.step(frame_at(SECOND), wanted=Wanted.POSITIONS)
    perception.step(hidden_target(2 * SECOND), wanted=Wanted.POSITIONS)
    # The guess knows a surface there; the sensor sees none, and so nothing is known.
    assert tracker.evidence[TARGET_ID] is DepthEvidence.UNKNOWN


def test_without_any_sensor_only_metres_can_be_used() -> None:
    model = Oracle(metric=True)
    perception = perception_with(model, depth__mode="estimate", navigation__enabled=False)
    scene = perception.step(hidden_target(SECOND, blind=True))
    assert scene.depth_source is DepthSource.ESTIMATED
    track = scene.object(TARGET_ID)
    assert track.centroid is not None
    assert track.covariance is not None
    np.testing.assert_allclose(track.centroid, exact_centroid(), atol=0.01)
    assert np.sqrt(track.covariance[2, 2]) == pytest.approx(0.25 * track.centroid[2], rel=0.1)
    relative = perception_with(Oracle(), depth__mode="estimate", navigation__enabled=False)
    scene = relative.step(hidden_target(SECOND, blind=True))
    assert scene.depth_source is DepthSource.SENSOR
    assert scene.object(TARGET_ID).centroid is None
    assert any("depth is not guessed: the sensor has depth in 0.0% of the picture" in note for note in scene.notes)


def test_a_refusal_is_told_once_and_so_is_its_end() -> None:
    perception = perception_with(Oracle(), navigation__enabled=False)
    blind = [perception.step(hidden_target(s * SECOND, blind=True)).notes for s in (1, 2)]
    seeing = [perception.step(hidden_target(s * SECOND)).notes for s in (3, 4)]
    assert [len(told) for told in (*blind, *seeing)] == [1, 0, 1, 0]
    assert seeing[0] == ("depth is guessed again",)


def test_the_model_is_not_asked_where_nobody_needs_depth() -> None:
    model = Oracle()
    perception = perception_with(model)
    perception.step(hidden_target(SECOND), wanted=Wanted.MASKS)
    assert model.asked == 0
    perception.prompt(BoxPrompt(2, RED_BOX))
    perception.step(hidden_target(2 * SECOND), wanted=Wanted.POSITIONS)
    assert model.asked == 1
