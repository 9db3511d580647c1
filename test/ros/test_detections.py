"""Detections of vision_msgs, whose messages are not on every machine: a stand-in with their fields is used here."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fake_tracker import FRAME_ID, RED_BOX

from sam_perception.detections import Detection
from sam_perception.errors import FrameIdMismatch, PerceptionError
from sam_perception.ros import detections
from sam_perception.ros.detections import DetectionInput, check_frame, detection_array_class, detections_from_msg


def jazzy(box: tuple[float, float, float, float], *named: tuple[str, float], theta: float = 0.0) -> Any:
    """As vision_msgs 4 has it, in Humble and later; centre and size."""
    x, y, wide, high = box
    centre = SimpleNamespace(position=SimpleNamespace(x=x, y=y), theta=theta)
    results = [SimpleNamespace(hypothesis=SimpleNamespace(class_id=name, score=score)) for name, score in named]
    return SimpleNamespace(bbox=SimpleNamespace(center=centre, size_x=wide, size_y=high), results=results)


def foxy(box: tuple[float, float, float, float], *named: tuple[str, float]) -> Any:
    """As vision_msgs 3 had it."""
    x, y, wide, high = box
    results = [SimpleNamespace(id=name, score=score) for name, score in named]
    centre = SimpleNamespace(x=x, y=y, theta=0.0)
    return SimpleNamespace(bbox=SimpleNamespace(center=centre, size_x=wide, size_y=high), results=results)


def array(*ones: Any, frame_id: str = FRAME_ID, sec: int = 3, nanosec: int = 5) -> Any:
    stamp = SimpleNamespace(sec=sec, nanosec=nanosec)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp, frame_id=frame_id), detections=list(ones))


@pytest.mark.parametrize("layout", [jazzy, foxy])
def test_both_layouts_are_read_by_their_surest_hypothesis(layout: Any) -> None:
    found, errors = detections_from_msg(array(layout((50, 40, 20, 10), ("bowl", 0.3), ("cup", 0.6))))
    assert not errors
    assert [(d.label, d.score, d.box) for d in found] == [("cup", 0.6, (40, 35, 60, 45))]


def test_a_box_without_a_name_is_meant_all_the_same() -> None:
    found, _ = detections_from_msg(array(jazzy((50, 40, 20, 10))))
    assert [(d.label, d.score) for d in found] == [("", 1.0)]


def test_a_turned_box_is_enclosed() -> None:
    found, _ = detections_from_msg(array(jazzy((50, 40, 20, 10), ("cup", 0.9), theta=3.14159265 / 2)))
    assert found[0].box == pytest.approx((45, 30, 55, 50))


def test_what_is_wrong_with_one_leaves_the_others() -> None:
    nan = float("nan")
    found, errors = detections_from_msg(
        array(
            jazzy((50, 40, 0, 10), ("cup", 0.9)),
            jazzy((nan, 40, 9, 9), ("cup", 0.9)),
            jazzy((9, 9, 4, 4), ("cup", 0.9)),
        )
    )
    assert len(found) == 1
    assert [str(error).partition(":")[0] for error in errors] == ["detection 0 of 3", "detection 1 of 3"]


class FakeNode:
    def __init__(self) -> None:
        self.callback: Any = None
        self.topic = ""

    def create_subscription(self, kind: Any, topic: str, callback: Any, _: int) -> str:
        assert kind == "Detection2DArray"
        self.topic, self.callback = topic, callback
        return "subscription"

    def destroy_subscription(self, subscription: str) -> None:
        assert subscription == "subscription"
        self.callback = None


def test_it_listens_where_vision_msgs_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vision_msgs.msg")
    module.Detection2DArray = "Detection2DArray"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vision_msgs", ModuleType("vision_msgs"))
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", module)
    taken: list[tuple[list[Detection], int, str]] = []
    refused: list[PerceptionError] = []

    def take(found: Any, stamp_ns: int, frame_id: str) -> None:
        check_frame(frame_id, FRAME_ID)
        taken.append((found, stamp_ns, frame_id))

    node = FakeNode()
    listening = DetectionInput(node, take, refused.append)
    assert listening.listening
    assert node.topic == "~/detections"
    node.callback(array(jazzy((17.5, 19.5, 15, 19), ("cup", 0.6)), jazzy((5, 5, 0, 0), ("cup", 0.6))))
    ((found, stamp_ns, frame_id),) = taken
    assert (found[0].box, stamp_ns, frame_id) == (RED_BOX, 3_000_000_005, FRAME_ID)
    assert len(refused) == 1
    node.callback(array(frame_id="another_camera"))
    assert isinstance(refused[1], FrameIdMismatch)
    assert "send the image's own header" in str(refused[1])
    listening.close()
    assert node.callback is None


def test_it_does_nothing_where_vision_msgs_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vision_msgs", None)
    assert detection_array_class() is None
    node = FakeNode()
    listening = DetectionInput(node, lambda *_: None, lambda _: None)
    assert not listening.listening
    assert node.topic == ""
    listening.close()
    assert detections.TOPIC == "~/detections"
