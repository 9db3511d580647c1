"""Recorded messages give back the scene that was published."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_messages import HEIGHT, WIDTH, make_scene

from sam_perception.messages import tracked_object_array
from sam_perception.recorded import matrix_from_quaternion, scene_from_objects
from sam_perception.sinks.bag_types import BagTypes, full_name, typestore

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


def test_a_scene_without_masks_has_empty_ones() -> None:
    types = BagTypes()
    back = scene_from_objects(tracked_object_array(types, make_scene(), with_masks=False), WIDTH, HEIGHT)
    assert not any(track.mask.any() for track in back.objects)


@pytest.mark.parametrize("seed", range(5))
def test_rotation_agrees_with_scipy(seed: int) -> None:
    rotation = Rotation.random(random_state=seed)
    np.testing.assert_allclose(matrix_from_quaternion(*rotation.as_quat()), rotation.as_matrix(), atol=1e-12)
