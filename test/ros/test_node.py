"""The node over DDS, with a tracker that goes by colour."""

from __future__ import annotations

import threading

import numpy as np
from fake_tracker import (
    BLUE,
    CAMERA,
    FRAME_ID,
    HEIGHT,
    RED_BOX,
    RED_POINT,
    WIDTH,
    ColorTracker,
    make_frame,
    make_rgb,
    red_mask,
)
from ros_harness import Harness, values_of
from sam_perception.msg import Prompt, TrackedObject
from sensor_msgs.msg import Image, PointCloud2
from visualization_msgs.msg import Marker, MarkerArray

from sam_perception.messages import stamp_ns_of
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt

SECOND = 10**9


def test_every_output_carries_the_colour_images_header_and_what_was_seen(harness: Harness) -> None:
    harness.node()
    kinds = {"mask": Image, "overlay": Image, "object_points": PointCloud2, "markers": MarkerArray}
    inboxes = {name: harness.inbox(f"/sam_perception/{name}", kind) for name, kind in kinds.items()}
    assert harness.add(BoxPrompt(3, RED_BOX, label="mug")).success
    stamp = harness.send(1234567890123456789)
    array = harness.scene_at(stamp)
    mask, overlay, cloud, markers = (inboxes[name].wait() for name in kinds)
    for header in (array.header, mask.header, overlay.header, cloud.header, markers.markers[1].header):
        assert stamp_ns_of(header.stamp) == stamp
        assert header.frame_id == FRAME_ID
    (mug,) = array.objects
    assert (mug.id, mug.label, mug.state, mug.has_position) == (3, "mug", TrackedObject.TRACKED, True)
    assert (mug.roi.x_offset, mug.roi.y_offset, mug.roi.width, mug.roi.height) == (10, 10, 16, 20)
    assert mug.centroid.z == np.float32(0.5)
    ids = np.frombuffer(mask.data, np.uint16).reshape(HEIGHT, WIDTH)
    assert mask.encoding == "mono16"
    np.testing.assert_array_equal(ids, np.where(red_mask(), 3, 0))
    points = np.frombuffer(cloud.data, np.dtype([("xyz", "<f4", 3), ("rgb", "<u4"), ("id", "<u4")]))
    assert len(points) == cloud.width == mug.point_count
    assert set(points["id"]) == {3}
    assert set(points["rgb"]) == {200 << 16 | 30 << 8 | 30}
    # Colours go out as they came in, red first: blue is not drawn over.
    picture = np.frombuffer(overlay.data, np.uint8).reshape(HEIGHT, WIDTH, 3)
    assert overlay.encoding == "rgb8"
    assert tuple(picture[20, 50]) == BLUE
    assert {m.ns for m in markers.markers if m.action == Marker.ADD} >= {"box", "centroid"}


def test_nothing_segmented_still_publishes(harness: Harness) -> None:
    harness.node()
    cloud = harness.inbox("/sam_perception/object_points", PointCloud2)
    mask = harness.inbox("/sam_perception/mask", Image)
    stamp = harness.send(SECOND)
    assert harness.scene_at(stamp).objects == []
    assert (cloud.wait().width, len(cloud.wait().data)) == (0, 0)
    assert not np.frombuffer(mask.wait().data, np.uint16).any()


def test_a_prompt_waits_for_the_first_frame_and_says_so(harness: Harness) -> None:
    harness.node()
    answer = harness.add(PointPrompt(5, [RED_POINT]))
    assert (answer.success, answer.object_id) == (True, 5)
    assert "waits for the first frame" in answer.message
    listed = harness.list_objects()
    assert list(listed.waiting) == [5]
    assert stamp_ns_of(listed.header.stamp) == 0
    harness.objects()
    assert [o.id for o in harness.scene_at(harness.send(SECOND)).objects] == [5]
    listed = harness.list_objects()
    assert list(listed.waiting) == []
    assert stamp_ns_of(listed.header.stamp) == SECOND
    assert [(o.id, len(o.mask.data), o.has_position) for o in listed.objects] == [(5, 0, True)]


def test_ids_are_given_kept_and_used_again(harness: Harness) -> None:
    harness.node()
    harness.objects()
    mask = (make_rgb() == BLUE).all(axis=2)
    red, blue = Prompt(points=[17.0, 20.0]), MaskPrompt(1, mask, label="box")
    assert harness.add(red).object_id == 1
    assert harness.add(red).object_id == 2
    assert harness.add(blue).object_id == 1  # a correction
    scene = harness.scene_at(harness.send(SECOND))
    assert [(o.id, o.label, o.roi.x_offset) for o in scene.objects] == [(1, "box", 40), (2, "", 10)]
    assert harness.remove(1).success
    assert [o.id for o in harness.list_objects().objects] == [2]  # at once, before another frame
    assert harness.add(red).object_id == 1
    assert [o.id for o in harness.scene_at(harness.send(2 * SECOND)).objects] == [1, 2]
    answer = harness.reset()
    assert answer.success
    assert answer.message == "2 objects are forgotten"
    assert harness.list_objects().objects == []
    assert harness.scene_at(harness.send(3 * SECOND)).objects == []


def test_prompts_by_topic_work_too(harness: Harness) -> None:
    harness.node()
    harness.objects()
    publisher = harness.client.create_publisher(Prompt, "/sam_perception/prompt", 10)
    harness.until(publisher.get_subscription_count)
    publisher.publish(Prompt(object_id=7, label="book", box=list(RED_BOX)))
    harness.until(lambda: list(harness.list_objects().waiting) == [7])
    assert [o.label for o in harness.scene_at(harness.send(SECOND)).objects] == ["book"]


def test_without_subscribers_objects_are_tracked_and_nothing_is_lifted_or_published(harness: Harness) -> None:
    tracker = ColorTracker()
    node = harness.node(tracker)
    harness.add(BoxPrompt(1, RED_BOX))
    harness.send(SECOND)
    newest = harness.until(lambda: node._pipeline.newest())
    assert newest.lifted is False
    assert len(newest.scene.object(1).points) == 0
    # Whoever asks by service gets positions all the same.
    (listed,) = harness.list_objects().objects
    assert listed.has_position
    assert tracker.steps == 1


def test_a_late_subscriber_gets_the_next_frame(harness: Harness) -> None:
    harness.node()
    harness.add(BoxPrompt(1, RED_BOX))
    harness.send(SECOND)
    harness.until(lambda: harness.list_objects().objects)
    harness.objects()
    assert len(harness.scene_at(harness.send(2 * SECOND)).objects) == 1


def test_slow_inference_takes_the_newest_pair_and_counts_the_others(harness: Harness) -> None:
    tracker = ColorTracker()
    harness.node(tracker, input__queue_depth=50)
    harness.objects()
    tracker.gate.clear()
    stamps = [SECOND + i * SECOND // 30 for i in range(30)]
    for stamp in stamps:
        harness.send(stamp)
    harness.status("inputs", lambda s: values_of(s)["color messages"] == "30")
    # The executor is not held up while inference hangs.
    assert harness.add(BoxPrompt(1, RED_BOX)).success
    tracker.gate.set()
    scene = harness.scene_at(stamps[-1])
    assert [o.id for o in scene.objects] == [1]
    frames = harness.status("frames", lambda s: values_of(s)["processed"] == "2")
    assert values_of(frames)["dropped: superseded by a newer pair"] == "28"
    assert len(tracker.stamps) == 2
    assert tracker.stamps[1] == stamps[-1]
    assert frames.level == frames.OK  # being slow is no fault


def test_latency_stays_bounded_when_the_camera_is_faster(harness: Harness) -> None:
    tracker = ColorTracker()
    tracker.delay_s = 0.1
    harness.node(tracker)
    harness.objects()
    pace = threading.Event()
    for i in range(45):
        harness.send(SECOND + i * SECOND // 30)
        pace.wait(1 / 30)  # the camera's own
    latency = values_of(harness.status("latency", lambda s: "receive to publish p95 ms" in values_of(s)))
    # One step in work and one to wait for: two steps, with as much again for a busy machine.
    assert float(latency["receive to publish p95 ms"]) < 4 * 100
    assert float(latency["segmentation p50 ms"]) >= 100


def test_unsynchronised_images_find_their_partners(harness: Harness) -> None:
    harness.node(sync__slop_s=0.02)
    harness.objects()

    def later(color: Image, depth: Image, _: object) -> None:
        depth.header.stamp.nanosec += 4_000_000

    for i in range(4):
        harness.send(SECOND + i * 33_000_000, edit=later)
    harness.scene_at(SECOND + 3 * 33_000_000)  # the colour image's stamp


def test_two_nodes_in_two_namespaces_do_not_meet(harness: Harness) -> None:
    left = harness.node(namespace="left")
    right = harness.node(namespace="right")
    assert left.get_fully_qualified_name() == "/left/sam_perception"
    for side in ("left", "right"):
        harness.objects(side)
        harness.camera(side)
    assert harness.add(BoxPrompt(1, RED_BOX), "/left/sam_perception").success
    assert harness.add(MaskPrompt(2, (make_rgb() == BLUE).all(axis=2)), "/right/sam_perception").success
    for stamp in (SECOND, 2 * SECOND):
        for side in ("left", "right"):
            harness.send(stamp + (side == "right"), namespace=side)
    assert [o.id for o in harness.scene_at(2 * SECOND, "left").objects] == [1]
    assert [o.id for o in harness.scene_at(2 * SECOND + 1, "right").objects] == [2]
    for side, object_id in (("left", 1), ("right", 2)):
        status = harness.status("objects", lambda s: len(s.values) > 0, node=f"/{side}/sam_perception")
        assert [v.key for v in status.values] == [f"object {object_id}"]
    assert {stamp_ns_of(m.header.stamp) % 2 for m in harness.objects("left").messages} == {0}
    assert right.get_fully_qualified_name() == "/right/sam_perception"


def test_a_camera_that_goes_and_comes_again_costs_only_the_frames_between(harness: Harness) -> None:
    harness.node()
    harness.objects()
    harness.add(BoxPrompt(1, RED_BOX, label="mug"))
    harness.scene_at(harness.send(SECOND))
    for publisher in harness._cameras.pop(""):
        harness.client.destroy_publisher(publisher)
    silent = harness.status("inputs", lambda s: s.level == s.ERROR)
    assert "no color on /color/image_raw for" in silent.message
    assert "(0 publishers): start the camera, or remap color/image_raw" in silent.message
    (again,) = harness.scene_at(harness.send(9 * SECOND)).objects
    assert (again.id, again.label, again.state) == (1, "mug", TrackedObject.TRACKED)
    assert harness.status("inputs", lambda s: s.level == s.OK)


def test_the_intrinsics_used_are_those_of_the_frame(harness: Harness) -> None:
    harness.node()
    harness.objects()
    harness.add(BoxPrompt(1, RED_BOX))

    def zoomed(_: Image, __: Image, info: object) -> None:
        info.k[0] = 2 * CAMERA.fx  # type: ignore[attr-defined]

    wide = harness.scene_at(harness.send(SECOND)).objects[0]
    near = harness.scene_at(harness.send(make_frame(2 * SECOND), edit=zoomed)).objects[0]
    assert near.centroid.x == np.float64(wide.centroid.x) / 2
    frames = harness.status("frames", lambda s: any("changed in flight" in v.value for v in s.values))
    assert frames.level == frames.OK
