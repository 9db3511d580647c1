"""Something fails inside the node: it costs a part of one frame, or one frame, and is said."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fake_tracker import RED_BOX, RED_POINT, ColorTracker, make_frame
from ros_harness import Harness, values_of
from sam_perception.msg import GraspTargetArray, ObstacleSegmentArray
from sensor_msgs.msg import Image, PointCloud2

from sam_perception.errors import DeviceMemoryError
from sam_perception.messages import stamp_ns_of
from sam_perception.perception import LOST_WITH, Perception, Wanted
from sam_perception.prompts import BoxPrompt, PointPrompt
from sam_perception.ros import publishers
from sam_perception.stages import Stages

SECOND = 10**9


def boom(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("a defect, put in by a test")


KINDS = {
    "obstacles": ObstacleSegmentArray,
    "scene_points": PointCloud2,
    "object_points": PointCloud2,
    "grasp_targets": GraspTargetArray,
    "mask": Image,
}


class Ear:
    """What came out of one frame, by topic."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._boxes = {name: harness.inbox(f"/sam_perception/{name}", kind) for name, kind in KINDS.items()}
        harness.objects()

    def frame(self, stamp_ns: int) -> Any:
        """The objects of a frame that is sent now."""
        return self._harness.scene_at(self._harness.send(stamp_ns))

    def whole(self, stamp_ns: int) -> None:
        """Wait until all topics have had their message of this frame."""
        for box in self._boxes.values():
            box.wait(lambda m: stamp_ns_of(m.header.stamp) == stamp_ns)

    def heard(self, stamp_ns: int) -> set[str]:
        """Topics with a message of this frame, once the next frame has come through as a whole."""
        self.whole(self._harness.send(stamp_ns + SECOND))
        return {
            n for n, box in self._boxes.items() if any(stamp_ns_of(m.header.stamp) == stamp_ns for m in box.messages)
        }


@pytest.fixture
def ear(harness: Harness) -> Ear:
    harness.node()
    ear = Ear(harness)
    assert harness.add(BoxPrompt(1, RED_BOX, label="mug")).success
    ear.frame(SECOND)
    ear.whole(SECOND)  # else a fault that is put in next would meet the rest of this frame
    return ear


def failed(harness: Harness, text: str) -> DiagnosticStatus:
    return harness.status("frames", lambda s: "StageFailed" in s.message and text in s.message)


STAGES = {
    "geometry": ("sam_perception.perception.lift_scene", {"obstacles", "scene_points", "mask"}),
    "navigation": ("sam_perception.navigation.ObstacleMap.update", {"object_points", "mask"}),
    "grasps": ("sam_perception.perception.scene_grasps", {"obstacles", "scene_points", "object_points", "mask"}),
    "evidence": ("sam_perception.geometry.Sightings.evidence", set(KINDS)),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_fails_takes_its_own_topics_away_for_one_frame(
    harness: Harness, ear: Ear, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    target, left = STAGES[stage]
    monkeypatch.setattr(target, boom)
    (mug,) = ear.frame(5 * SECOND).objects
    assert (mug.id, mug.state, mug.roi.width) == (1, mug.TRACKED, 16)
    assert mug.has_position == (stage != "geometry")
    status = failed(harness, f"{stage} failed on one frame (ZeroDivisionError: a defect, put in by a test)")
    assert status.level == status.WARN
    assert int(values_of(status)["dropped: StageFailed"]) >= 1
    monkeypatch.undo()
    assert ear.heard(5 * SECOND) == left
    (mug,) = ear.frame(20 * SECOND).objects
    assert mug.has_position


@pytest.mark.parametrize("topic", ["~/objects", "~/mask", "~/overlay", "~/object_points", "~/obstacles", "~/markers"])
def test_a_publisher_that_fails_silences_its_topic_only(
    harness: Harness, ear: Ear, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    outputs = dict(publishers.OUTPUTS)
    monkeypatch.setitem(publishers.OUTPUTS, topic, replace(outputs[topic], make=boom))
    kinds = {"~/overlay": Image, "~/markers": publishers.message_class("visualization_msgs/MarkerArray")}
    if topic in kinds:  # published only where somebody listens
        harness.inbox(topic.replace("~", "/sam_perception"), kinds[topic])
    stamp = harness.send(5 * SECOND)
    failed(harness, f"{topic} failed on one frame")
    monkeypatch.undo()
    assert ear.heard(stamp) == set(KINDS) - {topic[2:]}
    assert ear.frame(20 * SECOND).objects[0].has_position


class Failing(ColorTracker):
    """A tracker that raises as often as it is told to."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)
        self.degraded = ""

    def step(self, *args: Any) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return super().step(*args)


def test_a_tracker_that_fails_costs_one_frame(harness: Harness) -> None:
    tracker = Failing()
    harness.node(tracker)
    harness.objects()
    harness.add(BoxPrompt(1, RED_BOX))
    harness.scene_at(harness.send(SECOND))
    tracker.errors = [RuntimeError("CUDA error: an illegal memory access was encountered")]
    harness.send(2 * SECOND)
    status = harness.status("frames", lambda s: "illegal memory access" in s.message)
    assert values_of(status)["dropped: RuntimeError"] == "1"
    assert [o.id for o in harness.scene_at(harness.send(3 * SECOND)).objects] == [1]
    assert {stamp_ns_of(m.header.stamp) for m in harness.objects().messages} == {SECOND, 3 * SECOND}


def test_device_memory_that_runs_out_is_a_diagnostic_and_so_is_what_is_done_about_it(harness: Harness) -> None:
    tracker = Failing()
    harness.node(tracker)
    harness.objects()
    harness.scene_at(harness.send(SECOND))
    tracker.errors = [DeviceMemoryError("CUDA out of memory: end what else uses this device")]
    harness.send(2 * SECOND)
    harness.status("frames", lambda s: "DeviceMemoryError: CUDA out of memory" in s.message)
    tracker.degraded = "device memory is short: objects go in turns of 2 (step 3 of 6)"
    harness.scene_at(harness.send(3 * SECOND))
    status = harness.status("node", lambda s: "objects go in turns of 2 (step 3 of 6)" in s.message)
    assert (status.level, status.message.startswith("active; ")) == (status.WARN, True)
    tracker.degraded = ""
    harness.status("node", lambda s: s.message == "active" and s.level == s.OK)


def test_a_service_that_fails_by_a_defect_answers(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    node = harness.node()
    harness.objects()
    monkeypatch.setattr("sam_perception.ros.desk.ObjectDesk.prompt", boom)
    answer = harness.add(PointPrompt(1, [RED_POINT]))
    assert not answer.success
    assert "the node failed to do this (ZeroDivisionError: a defect" in answer.message
    monkeypatch.undo()
    assert harness.add(PointPrompt(1, [RED_POINT])).success
    assert node.state_label == "active"


def test_a_request_that_fails_does_not_take_those_behind_it_along(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = ColorTracker()
    harness.node(tracker)
    harness.objects()
    harness.scene_at(harness.send(SECOND))
    prompt = tracker.prompt
    monkeypatch.setattr(tracker, "prompt", lambda p: boom() if p.object_id == 1 else prompt(p))
    for object_id in (1, 2):
        assert harness.add(PointPrompt(object_id, [RED_POINT])).success
    assert [o.id for o in harness.scene_at(harness.send(2 * SECOND)).objects] == [2]
    harness.status("frames", lambda s: "ZeroDivisionError" in values_of(s).get("last error", ""))
    monkeypatch.undo()
    assert harness.add(PointPrompt(1, [RED_POINT])).success  # its id is free again
    assert [o.id for o in harness.scene_at(harness.send(3 * SECOND)).objects] == [1, 2]


def test_what_cannot_be_kept_for_a_restart_still_goes_out(
    harness: Harness, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam_perception.ros.resume.ObjectStore.keep", boom)
    assert ear.frame(5 * SECOND).objects[0].has_position
    failed(harness, "keeping objects for a restart failed")


# ---------------------------------------------------------------------- the same without a node


def test_without_a_handler_a_stage_that_fails_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    perception = Perception(tracker=ColorTracker())
    monkeypatch.setattr("sam_perception.perception.lift_scene", boom)
    with pytest.raises(ZeroDivisionError):
        perception.step(make_frame(SECOND))
    assert perception.stage == ""


def test_grasps_are_lost_with_what_they_are_made_from() -> None:
    assert Wanted.GRASPS in LOST_WITH["geometry"]
    assert Wanted.GRASPS in LOST_WITH["navigation"]
    assert Wanted.OBSTACLES not in LOST_WITH["geometry"] | LOST_WITH["grasps"]


def test_a_stage_that_is_at_work_can_be_seen_from_another_thread() -> None:
    stages, seen, entered, leave = Stages(), [], threading.Event(), threading.Event()

    def work() -> None:
        with stages.required("segmentation"):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(10)
    seen.append(stages.current)
    leave.set()
    thread.join(10)
    assert [*seen, stages.current] == ["segmentation", ""]
    assert stages.timings_ms["segmentation"] > 0
