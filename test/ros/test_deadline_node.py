"""The node under a deadline that it cannot keep, over DDS."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus
from fake_tracker import RED_BOX, ColorTracker
from ros_harness import Harness, values_of

from sam_perception.messages import stamp_ns_of
from sam_perception.prompts import BoxPrompt

SECOND = 10**9
BLUE_BOX = (40.0, 10.0, 55.0, 29.0)


def test_objects_take_turns_with_their_own_stamps_and_diagnostics_say_so(harness: Harness) -> None:
    tracker = ColorTracker()
    tracker.delay_s = 0.005  # a thousand frames per second leave 1 ms
    harness.node(tracker, target_rate_hz=1000.0)
    inbox = harness.objects()
    assert harness.add(BoxPrompt(1, RED_BOX)).success
    assert harness.add(BoxPrompt(2, BLUE_BOX)).success
    # Frame by frame, so that every one counts: nobody listens to secondary outputs, so turns come after six frames.
    stamps: list[int] = []
    for n in range(1, 14):
        stamps.append(harness.send(n * SECOND // 10))
        harness.scene_at(stamps[-1])
    first, *_, before, last = (harness.scene_at(stamp) for stamp in stamps)
    assert [stamp_ns_of(one.last_seen) for one in first.objects] == [stamps[0]] * 2
    for array, current, other in ((before, stamps[-2], stamps[-3]), (last, stamps[-1], stamps[-2])):
        assert sorted(stamp_ns_of(one.last_seen) for one in array.objects) == [other, current]
        assert all(one.has_position for one in array.objects)
    resting = [one.id for array in (before, last) for one in array.objects
               if stamp_ns_of(one.last_seen) != stamp_ns_of(array.header.stamp)]  # fmt: skip
    assert sorted(resting) == [1, 2]
    status = harness.status("deadline", lambda s: s.level == DiagnosticStatus.WARN)
    assert values_of(status)["target rate Hz"] == "1000"
    assert "objects in two turns" in values_of(status)["what is done"]
    assert len(inbox.messages) == len(stamps)
    frames = harness.status("frames", lambda s: "note 0" in values_of(s))
    assert any("objects in two turns" in text for text in values_of(frames).values())
