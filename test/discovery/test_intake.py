"""Detections become objects: one each, never two, under the detector's names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_models import ScriptedDetector
from fake_tracker import RED_BOX, ColorTracker, make_frame, red_mask
from test_words import BLUE_BOX, SECOND, LookingTracker

from sam_perception.config import PerceptionConfig
from sam_perception.detections import Detection
from sam_perception.discovery import Models
from sam_perception.perception import Perception, Wanted
from sam_perception.prompts import BoxPrompt
from sam_perception.scene import ObjectState, Scene
from sam_perception.settings import with_settings

CUP, BOOK = Detection("cup", 0.8, RED_BOX), Detection("book", 0.7, BLUE_BOX)
CONFIG = with_settings(PerceptionConfig(), {"navigation.enabled": False, "grasps.enabled": False})


def perception_with(
    model: ScriptedDetector | None = None, tracker: ColorTracker | None = None, **settings: object
) -> Perception:
    config = with_settings(CONFIG, {name.replace("__", "."): value for name, value in settings.items()})
    return Perception(config, tracker or LookingTracker(), models=Models(detector=model))


def step(perception: Perception, second: float, *, red: bool = True) -> Scene:
    return perception.step(make_frame(round(second * SECOND), red=red), wanted=Wanted.MASKS)


def named(scene: Scene) -> list[tuple[int, str]]:
    return [(track.id, track.label) for track in scene.objects]


def test_each_detection_becomes_one_object_and_stays_one() -> None:
    model = ScriptedDetector([CUP, BOOK])
    perception = perception_with(model, detector__rate_hz=2.0)
    assert named(step(perception, 1)) == [(1001, "cup"), (1002, "book")]  # of the first frame already
    for second in np.arange(1.1, 4, 0.1):
        scene = step(perception, float(second))
        assert named(scene) == [(1001, "cup"), (1002, "book")]
    assert 5 <= model.looked <= 7  # twice a second
    assert [t.label_score for t in scene.objects] == pytest.approx([0.8, 0.7])


def test_a_new_thing_becomes_a_new_object() -> None:
    perception = perception_with(ScriptedDetector([BOOK], [CUP, BOOK]), detector__rate_hz=1.0)
    assert named(step(perception, 1)) == [(1001, "book")]
    step(perception, 2.1)  # in whose picture both are detected
    assert named(step(perception, 2.2)) == [(1001, "book"), (1002, "cup")]


def test_classes_and_thresholds_choose() -> None:
    model = ScriptedDetector([CUP, BOOK, Detection("lamp", 0.2, (0.0, 32.0, 20.0, 47.0))])
    assert named(step(perception_with(model, detector__classes="Book, lamp"), 1)) == [(1001, "book")]
    assert named(step(perception_with(model, detector__threshold=0.75), 1)) == [(1001, "cup")]


def test_detections_from_elsewhere_meet_their_frame() -> None:
    perception = perception_with()
    step(perception, 1)
    perception.detections([CUP], 2 * SECOND)  # ahead of the frame that it is for
    assert not step(perception, 1.5).objects
    step(perception, 2)
    assert named(step(perception, 3)) == [(1001, "cup")]
    perception.detections([CUP, BOOK], round(2 * SECOND))  # late
    step(perception, 4)
    assert named(step(perception, 5)) == [(1001, "cup"), (1002, "book")]


def test_two_messages_before_the_next_frame_make_no_twins() -> None:
    perception = perception_with()
    step(perception, 1)
    perception.detections([CUP], SECOND)
    perception.detections([Detection("mug", 0.9, (11.0, 10.0, 26.0, 29.0))])
    step(perception, 2)
    assert len(step(perception, 3).objects) == 1


def test_detections_that_are_too_old_are_refused_with_their_age() -> None:
    perception = perception_with()
    perception.detections([])  # the first detections wake it up
    for number in range(40):
        step(perception, 10 + number * 0.1)
    perception.detections([CUP], 9 * SECOND)
    scene = step(perception, 20)
    assert any("1 detections are 11.00 s old, older than what is remembered" in note for note in scene.notes)
    assert not step(perception, 21).objects


def test_what_a_person_named_keeps_its_name() -> None:
    perception = perception_with()
    perception.prompt(BoxPrompt(1, RED_BOX, label="my cup"))
    perception.prompt(BoxPrompt(2, BLUE_BOX))
    step(perception, 1)
    perception.detections([CUP, BOOK])
    step(perception, 2)
    scene = step(perception, 3)
    assert named(scene) == [(1, "my cup"), (2, "book")]  # what had no name gets one
    assert [t.label_score for t in scene.objects] == pytest.approx([0.0, 0.7])
    perception.detections([Detection("bowl", 0.6, BLUE_BOX)])
    step(perception, 4)
    assert named(step(perception, 5))[1] == (2, "book")  # it was surer of that
    perception.detections([Detection("bowl", 0.95, BLUE_BOX)])
    step(perception, 6)
    scene = step(perception, 7)
    assert named(scene)[1] == (2, "bowl")
    assert scene.object(2).label_score == pytest.approx(0.95)
    perception.rename(2, "dish")
    assert step(perception, 8).object(2).label_score == 0.0


def test_a_detection_of_what_was_lost_is_that_object() -> None:
    perception = perception_with()
    step(perception, 1)
    perception.detections([CUP])
    step(perception, 2)
    assert named(step(perception, 3)) == [(1001, "cup")]
    assert isinstance(perception._tracker, ColorTracker)
    perception._tracker.objects[1001] = np.array([1, 2, 3], np.int16)
    assert step(perception, 4, red=False).object(1001).state is ObjectState.LOST
    perception.detections([CUP, BOOK])
    step(perception, 5)
    scene = step(perception, 6)
    assert named(scene) == [(1001, "cup"), (1002, "book")]
    assert scene.object(1001).state is ObjectState.TRACKED


def test_another_thing_of_its_class_is_not_what_was_lost() -> None:
    perception = perception_with()
    step(perception, 1)
    perception.detections([CUP])
    step(perception, 2)
    step(perception, 3)
    assert step(perception, 4, red=False).object(1001).state is ObjectState.LOST
    perception.detections([Detection("cup", 0.9, BLUE_BOX)])  # of another colour
    step(perception, 5, red=False)
    scene = step(perception, 6, red=False)
    assert named(scene) == [(1001, "cup"), (1002, "cup")]
    assert scene.object(1001).state is ObjectState.LOST


def test_a_full_tracker_is_told_of_once() -> None:
    perception = perception_with(tracker=ColorTracker(max_objects=1))
    step(perception, 1)
    notes: list[str] = []
    for second in range(2, 7):
        perception.detections([CUP, BOOK])
        notes += step(perception, second).notes
    assert sum("'book' was found and is not tracked" in note for note in notes) == 1
    perception.remove(1001)
    perception.detections([BOOK])
    step(perception, 8)
    assert [track.label for track in step(perception, 9).objects] == ["book"]


def test_masks_of_detections_are_taken_as_they_are() -> None:
    perception = perception_with()
    step(perception, 1)
    perception.detections([replace(CUP, mask=red_mask())])
    step(perception, 2)
    assert (step(perception, 3).object(1001).mask == red_mask()).all()


def test_detections_off_the_picture_are_left_out() -> None:
    perception = perception_with()
    step(perception, 1)
    perception.detections([Detection("cup", 0.9, (70.0, 0.0, 90.0, 20.0)), replace(CUP, box=(-40.0, 10.0, 25.0, 29.0))])
    step(perception, 2)
    assert len(step(perception, 3).objects) == 1
