"""Recorded messages give back the scene that was published."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tabletop import frame_at, scene_with_all
from test_messages import HEIGHT, WIDTH, make_scene

from sam_perception.errors import MalformedMessage
from sam_perception.frame import DepthSource
from sam_perception.messages import tracked_object_array
from sam_perception.messages_scene import grasp_target_array, obstacle_array
from sam_perception.overlay_scene import draw_scene
from sam_perception.recorded import matrix_from_quaternion, scene_from_objects, with_grasps, with_obstacles
from sam_perception.scene import ObjectState, Scene
from sam_perception.sinks.bag import BagSink
from sam_perception.sinks.bag_types import BagTypes, full_name, typestore
from sam_perception.sources.results import read_scenes

NAME = "sam_perception/TrackedObjectArray"


def test_a_scene_survives_the_message() -> None:
    types, scene = BagTypes(), make_scene()
    raw = types.serialize(tracked_object_array(types, scene), NAME)
    back = scene_from_objects(typestore().deserialize_cdr(raw, full_name(NAME)), WIDTH, HEIGHT)
    assert (back.stamp_ns, back.frame_id) == (scene.stamp_ns, scene.frame_id)
    for got, want in zip(back.objects, scene.objects, strict=True):
        assert (got.id, got.label, got.state, got.last_seen_ns) == (want.id, want.label, want.state, want.last_seen_ns)
        assert got.score == pytest.approx(want.score)
        np.testing.assert_array_equal(got.mask, want.mask)
    cup, plate = back.objects[0], back.objects[1]
    assert plate.centroid is None
    assert plate.box is None
    assert cup.box is not None
    np.testing.assert_array_equal(cup.centroid, scene.objects[0].centroid)
    np.testing.assert_array_equal(cup.covariance, scene.objects[0].covariance)
    np.testing.assert_allclose(cup.box.camera_from_box, scene.objects[0].box.camera_from_box, atol=1e-12)
    np.testing.assert_array_equal(cup.box.size_m, scene.objects[0].box.size_m)


def test_grasps_and_obstacles_survive_a_bag(tmp_path: Path) -> None:
    scene = replace(scene_with_all(), grasp_reasons={9: "too wide"})
    none = {"points": scene.scene_points[:0], "colors": scene.scene_colors[:0], "box": None}
    hole = replace(scene.obstacles[0], id=77, height_m=float("nan"), **none)
    scene = replace(scene, obstacles=(*scene.obstacles, hole))
    with BagSink(tmp_path / "bag") as sink:
        sink.write(frame_at(scene.stamp_ns), scene)
        sink.write(frame_at(scene.stamp_ns + 1), Scene(scene.stamp_ns + 1, "camera", scene.width, scene.height))
    back, nothing = read_scenes(tmp_path / "bag", scene.width, scene.height)
    assert (nothing.ground, nothing.obstacles, nothing.grasp_targets) == (None, (), ())
    assert back.grasp_reasons == {9: "too wide"}
    for got, want in zip(back.grasp_targets, scene.grasp_targets, strict=True):
        np.testing.assert_allclose(got.camera_from_gripper, want.camera_from_gripper, atol=1e-9)
        assert (got.object_id, got.kind, got.width_is_lower_bound) == (
            want.object_id,
            want.kind,
            want.width_is_lower_bound,
        )
        assert got.parts == pytest.approx(want.parts)
    assert back.ground is not None
    assert scene.ground is not None
    np.testing.assert_array_equal(back.ground.normal, scene.ground.normal)
    for one, other in zip(back.obstacles, scene.obstacles, strict=True):
        assert (one.id, one.kind, one.box is None) == (other.id, other.kind, other.box is None)
        assert one.distance_m == pytest.approx(other.distance_m)
        np.testing.assert_array_equal(one.nearest_point_m, other.nearest_point_m)
    frame = frame_at(scene.stamp_ns)
    assert (draw_scene(frame.rgb, back, frame.intrinsics) != frame.rgb).any()  # without clouds, too


def test_names_from_detectors_and_where_depth_comes_from_survive() -> None:
    types, scene = BagTypes(), make_scene()
    named = tuple(replace(track, label_score=0.25 * n) for n, track in enumerate(scene.objects))
    scene = replace(scene, objects=named, depth_source=DepthSource.FILLED, around_source=DepthSource.ESTIMATED)
    message = tracked_object_array(types, scene)
    assert message.depth_source == 1
    raw = types.serialize(message, NAME)
    back = scene_from_objects(typestore().deserialize_cdr(raw, full_name(NAME)), WIDTH, HEIGHT)
    assert [t.label_score for t in back.objects] == [t.label_score for t in scene.objects]
    assert back.depth_source is DepthSource.FILLED
    around = with_obstacles(back, obstacle_array(types, scene))
    assert around.around_source is DepthSource.ESTIMATED
    assert grasp_target_array(types, scene).depth_source == 1


def test_a_message_that_says_what_cannot_be_is_refused_with_what_was_seen() -> None:
    types, scene = BagTypes(), make_scene()
    message = tracked_object_array(types, scene)
    message.objects[0].state = 200
    known = ", ".join(f"{state.value} ({state.name})" for state in ObjectState)
    seen = f"state of object {scene.objects[0].id} is 200, known are {known}; check that its sender is of this version"
    with pytest.raises(MalformedMessage, match=re.escape(seen)):
        scene_from_objects(message, WIDTH, HEIGHT)
    message = tracked_object_array(types, scene)
    message.depth_source = 77
    with pytest.raises(MalformedMessage, match="depth_source is 77"):
        scene_from_objects(message, WIDTH, HEIGHT)
    message = tracked_object_array(types, scene)
    with pytest.raises(MalformedMessage, match="a message of objects cannot be read"):
        scene_from_objects(message, 3, 3)  # masks do not fit
    grasps = grasp_target_array(types, replace(scene_with_all(), grasp_reasons={9: "too wide"}))
    grasps.reasons = []
    with pytest.raises(MalformedMessage, match="a message of grasp targets cannot be read"):
        with_grasps(scene, grasps)
    around = obstacle_array(types, scene_with_all())
    around.segments[0].kind = 99
    with pytest.raises(MalformedMessage, match=r"kind of obstacle .* is 99"):
        with_obstacles(scene, around)


def test_a_scene_without_masks_has_empty_ones() -> None:
    types = BagTypes()
    back = scene_from_objects(tracked_object_array(types, make_scene(), with_masks=False), WIDTH, HEIGHT)
    assert not any(track.mask.any() for track in back.objects)


@pytest.mark.parametrize("seed", range(5))
def test_rotation_agrees_with_scipy(seed: int) -> None:
    rotation = Rotation.random(random_state=seed)
    np.testing.assert_allclose(matrix_from_quaternion(*rotation.as_quat()), rotation.as_matrix(), atol=1e-12)
