"""Simulated time: bags that start again, clocks that jump. With a real node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from fake_tracker import FRAME_ID, RED_BOX, ColorTracker
from ros_harness import Harness, values_of
from rosgraph_msgs.msg import Clock
from sam_perception.msg import TrackedObjectArray
from tf_messages import Broadcaster, matrix

from sam_perception.errors import TransformError
from sam_perception.messages import stamp_ns_of
from sam_perception.prompts import BoxPrompt

SECOND = 10**9


class SimTime:
    """Publishes `/clock`."""

    def __init__(self, harness: Harness, node: Any) -> None:
        self._harness, self._node = harness, node
        self._publisher = harness.client.create_publisher(Clock, "/clock", 10)
        harness.until(self._publisher.get_subscription_count)

    def set(self, now_ns: int) -> None:
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(now_ns, SECOND)
        self._publisher.publish(message)
        self._harness.until(lambda: self._node.get_clock().now().nanoseconds == now_ns)


def notes(harness: Harness) -> list[str]:
    status = harness.status("frames")
    return [value for key, value in values_of(status).items() if key.startswith("note") and "time went back" in value]


def problems(harness: Harness) -> list[str]:
    return [key for key in values_of(harness.status("frames")) if key.startswith(("dropped", "last error"))]


@pytest.mark.parametrize("clock_first", [True, False])
def test_a_bag_that_starts_again_keeps_the_objects_flushes_the_memory_and_says_so_once(
    harness: Harness, clock_first: bool
) -> None:
    tracker = ColorTracker()
    node = harness.node(tracker, use_sim_time=True, target_frame="map", transforms__timeout_s=0.0)
    moved = harness.inbox("/sam_perception/target_frame/objects", TrackedObjectArray)
    harness.objects()
    time, tf = SimTime(harness, node), Broadcaster(harness, node)
    harness.add(BoxPrompt(3, RED_BOX))
    for lap in range(3):
        # Each lap the robot is elsewhere, so that a transform of the lap before would show.
        place = matrix((float(lap), 0, 0))
        if clock_first:
            time.set(10 * SECOND)
        for i in range(6):
            stamp = 10 * SECOND + i * SECOND // 3
            for offset in (-SECOND // 20, SECOND // 20):
                tf.send("map", FRAME_ID, place, stamp + offset)
            harness.until(lambda place=place, stamp=stamp: _there(node, place, stamp))
            harness.send(stamp)
            moved.wait(lambda m, stamp=stamp, lap=lap: _is(m, stamp, lap))
            if i == 0 or clock_first:
                time.set(stamp + SECOND // 20)
            (track,) = harness.scene_at(stamp).objects
            assert (track.id, track.state) == (3, track.TRACKED)
        assert tracker.forgotten == lap
        harness.status("frames", lambda s, lap=lap: values_of(s)["processed"] == str(6 * lap + 6))
        assert len(notes(harness)) == lap
        moved.clear()
        harness.objects().clear()
    assert problems(harness) == []
    assert tracker.steps == 18


def _there(node: Any, place: Any, stamp_ns: int) -> bool:
    try:
        return bool(np.allclose(node._whereabouts.lookup("map", FRAME_ID, stamp_ns), place))
    except TransformError:
        return False


def _is(message: Any, stamp_ns: int, lap: int) -> bool:
    assert abs(message.objects[0].centroid.x - lap) < 0.5, "a transform of another lap"
    return stamp_ns_of(message.header.stamp) == stamp_ns


def test_ages_and_diagnostics_are_in_simulated_time(harness: Harness) -> None:
    node = harness.node(use_sim_time=True)
    harness.objects()
    SimTime(harness, node).set(50 * SECOND)
    harness.scene_at(harness.send(50 * SECOND - SECOND // 4))
    status = harness.status("latency", lambda s: "stamp to publish p50 ms" in values_of(s))
    assert float(values_of(status)["stamp to publish p50 ms"]) == pytest.approx(250.0)
    newest = harness.inbox("/diagnostics", DiagnosticArray)
    newest.clear()
    assert stamp_ns_of(newest.wait().header.stamp) == 50 * SECOND


def test_without_a_clock_images_are_processed_and_diagnostics_come(harness: Harness) -> None:
    harness.node(use_sim_time=True)
    harness.objects()
    harness.scene_at(harness.send(50 * SECOND))
    harness.status("frames", lambda s: values_of(s)["processed"] == "1")
    assert len(said(harness, "use_sim_time is set, and no /clock has come")) == 1


def test_a_clock_that_jumps_leaves_images_that_do_not_alone(harness: Harness) -> None:
    tracker = ColorTracker()
    node = harness.node(tracker, use_sim_time=True)
    harness.objects()
    time = SimTime(harness, node)
    for i, now in enumerate((100, 20, 100_000, 3)):
        time.set(now * SECOND)
        harness.scene_at(harness.send(SECOND + i * SECOND // 10))
    assert tracker.forgotten == 0
    assert notes(harness) == []
    assert problems(harness) == []


def said(harness: Harness, text: str) -> list[str]:
    values = values_of(harness.status("frames"))
    return [value for key, value in values.items() if key.startswith("note") and text in value]


def test_stamps_of_another_clock_than_the_nodes_are_told_of_once_with_the_cure(harness: Harness) -> None:
    """A bag that plays while nobody has set use_sim_time."""
    harness.node()
    harness.objects()
    for i in range(4):
        harness.scene_at(harness.send(50 * SECOND + i * SECOND // 3))
    (note,) = said(harness, "before the node's clock, which is this machine's")
    assert "set use_sim_time to true and play it with --clock" in note
    assert "stamp to publish p50 ms" not in values_of(harness.status("latency"))
    assert problems(harness) == []


def test_a_camera_while_sim_time_is_set_is_told_of_once_with_the_cure(harness: Harness) -> None:
    node = harness.node(use_sim_time=True)
    harness.objects()
    SimTime(harness, node).set(50 * SECOND)
    for i in range(3):
        harness.scene_at(harness.send(1_760_000_000 * SECOND + i * SECOND // 3))
    (note,) = said(harness, "after the node's clock, which is /clock")
    assert "for a camera set use_sim_time to false" in note


def test_a_large_leap_ahead_is_told_of_once_and_objects_are_kept(harness: Harness) -> None:
    tracker = ColorTracker()
    node = harness.node(tracker, use_sim_time=True)
    harness.objects()
    harness.add(BoxPrompt(3, RED_BOX))
    time = SimTime(harness, node)
    for now in (1000, 1001, 8000, 8001):
        time.set(now * SECOND)
        (track,) = harness.scene_at(harness.send(now * SECOND)).objects
        assert (track.id, track.state) == (3, track.TRACKED)
    (note,) = said(harness, "leapt ahead")
    assert "leapt ahead by 6999.0 s to 8000.000 s" in note
    assert said(harness, "the node's clock") == []
    assert tracker.forgotten == 0
    assert problems(harness) == []


def test_an_images_stamp_far_ahead_is_no_reason_to_forget(harness: Harness) -> None:
    """A pause of a bag, or a clock that is set: the objects are the same ones."""
    tracker = ColorTracker()
    harness.node(tracker)
    harness.objects()
    harness.add(BoxPrompt(3, RED_BOX))
    for stamp in (SECOND, 2 * SECOND, 7_000 * SECOND):
        (track,) = harness.scene_at(harness.send(stamp)).objects
        assert track.state == track.TRACKED
    assert tracker.forgotten == 0
