"""Whatever comes in: a clear diagnostic, no crash, and the next good frame works. One node serves all cases."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fake_tracker import FRAME_ID, HEIGHT, RED, RED_BOX, WIDTH, ColorTracker, make_depth_m, make_frame, make_rgb
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_harness import Harness, values_of
from sam_perception.msg import Prompt, TrackedObjectArray
from sensor_msgs.msg import Image, PointCloud2

from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.messages import stamp_ns_of
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt
from sam_perception.ros.convert import frame_to_msgs

SECOND = 10**9
_CLOCK = itertools.count(100)

Edit = Callable[[Any, Any, Any], None]


def next_stamp() -> int:
    return next(_CLOCK) * SECOND


@pytest.fixture(scope="module")
def running(shared_harness: Harness) -> Harness:
    """A node that has seen a good frame with a red mug in it; the same after every test."""
    shared_harness.node(ColorTracker(), max_objects=3)
    shared_harness.objects()
    assert shared_harness.add(BoxPrompt(1, RED_BOX, label="mug")).success
    assert_good_frame_works(shared_harness)
    return shared_harness


def assert_good_frame_works(harness: Harness) -> Any:
    """A good frame goes through, and the mug is where it is."""
    (mug,) = harness.scene_at(harness.send(next_stamp())).objects
    assert (mug.id, mug.roi.x_offset, mug.roi.y_offset, mug.roi.width, mug.roi.height) == (1, 10, 10, 16, 20)
    assert mug.centroid.z == np.float32(0.5)
    return mug


def assert_refused(harness: Harness, kind: str, *texts: str) -> None:
    """The refusal is the newest error in the diagnostics, and its message says what it should."""

    def says_so(status: DiagnosticStatus) -> bool:
        error = values_of(status).get("last error", "")
        return error.startswith(f"{kind}: ") and all(text in error for text in texts)

    status = harness.status("frames", says_so)
    assert status.level in (status.WARN, status.ERROR)
    assert all(text in status.message for text in texts)
    assert int(values_of(status)[f"dropped: {kind}"]) >= 1


def set_fields(which: int, **fields: Any) -> Edit:
    def edit(*messages: Any) -> None:
        for path, value in fields.items():
            *parents, last = path.split("__")
            target = messages[which]
            for parent in parents:
                target = getattr(target, parent)
            setattr(target, last, value)

    return edit


def set_k(index: int, value: float) -> Edit:
    def edit(_: Any, __: Any, info: Any) -> None:
        info.k[index] = value

    return edit


def cut_data(which: int) -> Edit:
    def edit(*messages: Any) -> None:
        messages[which].data = messages[which].data[: len(messages[which].data) // 2]

    return edit


def other_size_depth(_: Any, depth: Any, __: Any) -> None:
    depth.width, depth.height, depth.step = WIDTH // 2, HEIGHT // 2, WIDTH
    depth.data = array("B", bytes(WIDTH * HEIGHT // 2))


COLOR, DEPTH, INFO = 0, 1, 2
BAD_FRAMES: dict[str, tuple[Edit, str, tuple[str, ...]]] = {
    "depth of another size": (other_size_depth, "DepthNotAligned", ("(24, 32)", "align_depth.enable:=true")),
    "depth in another frame": (
        set_fields(DEPTH, header__frame_id="camera_depth_optical_frame"),
        "FrameIdMismatch",
        ("camera_depth_optical_frame", FRAME_ID, "align_depth.enable:=true"),
    ),
    "camera_info of another frame": (
        set_fields(INFO, header__frame_id="left"),
        "FrameIdMismatch",
        ("camera_info is in frame 'left'",),
    ),
    "colour of unknown encoding": (set_fields(COLOR, encoding="bayer_rggb8"), "UnsupportedEncoding", ("bayer_rggb8",)),
    "depth of unknown encoding": (set_fields(DEPTH, encoding="64FC1"), "UnsupportedEncoding", ("64FC1", "32FC1")),
    "colour cut off": (cut_data(COLOR), "MalformedImage", ("cut off",)),
    "depth cut off": (cut_data(DEPTH), "MalformedImage", ("cut off",)),
    "a step too short": (set_fields(COLOR, step=WIDTH), "MalformedImage", ("step 64", "a row needs 192 bytes")),
    "zero intrinsics": (set_k(0, 0.0), "InvalidIntrinsics", ("fx=0.0", "uncalibrated")),
    "NaN intrinsics": (set_k(2, float("nan")), "InvalidIntrinsics", ("cx=nan",)),
    "intrinsics of another size": (set_fields(INFO, width=1280, height=720), "InvalidIntrinsics", ("1280 x 720",)),
    "an unknown lens model": (
        set_fields(INFO, distortion_model="kaleidoscope", d=[0.1]),
        "InvalidIntrinsics",
        ("kaleidoscope",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_a_bad_frame_is_refused_and_the_next_one_works(running: Harness, case: str) -> None:
    edit, kind, texts = BAD_FRAMES[case]
    stamp = running.send(next_stamp(), edit=edit)
    assert_refused(running, kind, *texts)
    assert_good_frame_works(running)
    assert stamp not in {stamp_ns_of(m.header.stamp) for m in running.objects().messages}


def test_an_empty_frame_id_is_refused(running: Harness) -> None:
    def nameless(*messages: Any) -> None:
        for message in messages:
            message.header.frame_id = ""

    running.send(next_stamp(), edit=nameless)
    assert_refused(running, "FrameError", "frame_id is empty")
    assert_good_frame_works(running)


@pytest.mark.parametrize("nothing", [0.0, float("nan")])
def test_depth_without_a_return_is_said_and_tracking_goes_on(running: Harness, nothing: float) -> None:
    depth_m = np.full((HEIGHT, WIDTH), nothing, np.float32)

    def as_floats(_: Any, depth: Any, __: Any) -> None:
        depth.encoding, depth.step = "32FC1", WIDTH * 4
        depth.data = array("B", depth_m.tobytes())

    (mug,) = running.scene_at(running.send(next_stamp(), edit=as_floats)).objects
    assert (mug.state, mug.has_position, mug.valid_depth_share) == (mug.TRACKED, False, 0.0)
    assert np.isnan(mug.centroid.x)
    status = running.status("frames", lambda s: "depth has not one valid pixel" in s.message)
    assert status.level == status.WARN
    assert_good_frame_works(running)
    running.status("frames", lambda s: "depth has not one valid pixel" not in s.message)


def test_an_image_of_one_pixel_is_refused(running: Harness) -> None:
    camera = CameraIntrinsics(1, 1, 60.0, 60.0, 0.0, 0.0)
    dot = RgbdFrame(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1), np.float32), camera, next_stamp(), FRAME_ID)
    running.send(dot)
    assert_refused(running, "MalformedImage", "image is 1 x 1 pixels", "at least 16 x 16")
    assert_good_frame_works(running)


def test_a_duplicated_frame_is_refused(running: Harness) -> None:
    stamp = running.send(next_stamp())
    running.scene_at(stamp)
    running.objects().clear()
    running.send(stamp)
    assert_refused(running, "StampError", "is repeated", "only one driver or bag publishes")
    assert_good_frame_works(running)
    assert stamp not in {stamp_ns_of(m.header.stamp) for m in running.objects().messages}


def test_a_frame_out_of_order_is_refused(running: Harness) -> None:
    stamp = running.send(next_stamp())
    running.scene_at(stamp)
    running.send(stamp - SECOND // 20)
    assert_refused(running, "StampError", "50.0 ms older")
    assert_good_frame_works(running)


def test_a_bag_that_starts_again_keeps_its_objects(running: Harness) -> None:
    for stamp in (10 * SECOND, 10 * SECOND + SECOND // 30):
        (mug,) = running.scene_at(running.send(stamp)).objects
        assert (mug.id, mug.has_position) == (1, True)
    status = running.status("frames", lambda s: any("time went back to 10.000 s" in v.value for v in s.values))
    assert status is not None
    assert_good_frame_works(running)


# ---------------------------------------------------------------------- what is unusual and good


def padded(image: Any, extra: int) -> None:
    rows = np.frombuffer(image.data, np.uint8).reshape(image.height, image.step)
    wide = np.full((image.height, image.step + extra), 0xEE, np.uint8)
    wide[:, : image.step] = rows
    image.step += extra
    image.data = array("B", wide.tobytes())


def row_padding(color: Any, depth: Any, _: Any) -> None:
    padded(color, 13)
    padded(depth, 7)


def big_endian(_: Any, depth: Any, __: Any) -> None:
    depth.is_bigendian = 1
    depth.data = array("B", np.frombuffer(depth.data, "<u2").astype(">u2").tobytes())


def float_metres(_: Any, depth: Any, __: Any) -> None:
    depth.encoding, depth.step = "32FC1", WIDTH * 4
    depth.data = array("B", make_depth_m().tobytes())


@pytest.mark.parametrize("edit", [row_padding, big_endian, float_metres])
def test_layouts_of_images_are_understood(running: Harness, edit: Edit) -> None:
    expected = assert_good_frame_works(running)
    (mug,) = running.scene_at(running.send(next_stamp(), edit=edit)).objects
    assert (mug.roi, mug.centroid, mug.box_size) == (expected.roi, expected.centroid, expected.box_size)


def yuv422(rgb: np.ndarray, order: str) -> np.ndarray:
    """BT.601 limited range by the formula, (H, W, 2); the picture has no colour edge between the two of a pair."""
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    chroma = np.where(np.arange(rgb.shape[1]) % 2 == 0, u, v)
    pair = (chroma, y) if order == "uyvy" else (y, chroma)
    return np.stack(pair, axis=-1).round().astype(np.uint8)


ENCODINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rgb8": lambda rgb: rgb,
    "bgr8": lambda rgb: rgb[..., ::-1],
    "rgba8": lambda rgb: np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)]),
    "bgra8": lambda rgb: np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 7, np.uint8)]),
    "yuv422": lambda rgb: yuv422(rgb, "uyvy"),
    "yuv422_yuy2": lambda rgb: yuv422(rgb, "yuyv"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_becomes_the_same_red(running: Harness, encoding: str) -> None:
    pixels = np.ascontiguousarray(ENCODINGS[encoding](make_rgb()))

    def encode(color: Any, _: Any, __: Any) -> None:
        color.encoding, color.step = encoding, pixels.shape[1] * pixels.shape[2]
        color.data = array("B", pixels.tobytes())

    cloud = running.inbox("/sam_perception/object_points", PointCloud2)
    stamp = running.send(next_stamp(), edit=encode)
    points = cloud.wait(lambda m: stamp_ns_of(m.header.stamp) == stamp)
    packed = np.frombuffer(points.data, np.uint32).reshape(-1, 5)[:, 3]
    assert len(packed) > 100
    colors = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1).astype(int)
    tolerance = 6 if encoding.startswith("yuv") else 0  # limited range has 219 steps
    assert np.abs(colors - RED).max() <= tolerance


def test_grey_images_are_taken(running: Harness) -> None:
    grey = cv2.cvtColor(make_rgb(), cv2.COLOR_RGB2GRAY)

    def encode(color: Any, _: Any, __: Any) -> None:
        color.encoding, color.step, color.data = "mono8", WIDTH, array("B", grey.tobytes())

    (mug,) = running.scene_at(running.send(next_stamp(), edit=encode)).objects
    assert mug.state == mug.OCCLUDED  # red is not to be seen in it
    assert_good_frame_works(running)


# ---------------------------------------------------------------------- prompts


BAD_PROMPTS: dict[str, tuple[Prompt | Any, str]] = {
    "a click outside": (PointPrompt(2, [[64.0, 3.0]]), "PromptOutsideImage: points [[64.0, 3.0]] lie outside"),
    "a box outside": (BoxPrompt(2, (10.0, 10.0, 70.0, 20.0)), "PromptOutsideImage: box (10.0, 10.0, 70.0, 20.0)"),
    "a mask of another size": (MaskPrompt(2, np.ones((10, 10), bool)), "PromptOutsideImage: mask is 10 x 10"),
    "nothing": (Prompt(object_id=2), "EmptyPrompt: a point prompt has no points"),
    "an empty box": (Prompt(object_id=2, box=[5.0, 5.0, 5.0, 9.0]), "EmptyPrompt: box (5.0, 5.0, 5.0, 9.0) is empty"),
    "half a box": (Prompt(object_id=2, box=[5.0, 5.0]), "PromptError: box has 2 numbers"),
    "half a point": (Prompt(object_id=2, points=[5.0, 5.0, 6.0]), "PromptError: points has 3 numbers"),
    "a NaN": (Prompt(object_id=2, points=[5.0, float("nan")]), "PromptError: points are not finite"),
    "a strange label": (Prompt(object_id=2, points=[5.0, 5.0], point_labels=[4]), "PromptError: point labels are [4]"),
    "labels too many": (Prompt(object_id=2, points=[5.0, 5.0], point_labels=[1, 1]), "1 points have 2 labels"),
}


def mask_prompt(pixels: np.ndarray, **fields: Any) -> Prompt:
    prompt = Prompt(object_id=2, **fields)
    prompt.mask.height, prompt.mask.width, prompt.mask.step = pixels.shape[0], pixels.shape[1], pixels.strides[0]
    prompt.mask.encoding, prompt.mask.data = "mono8", array("B", pixels.tobytes())
    return prompt


BAD_PROMPTS |= {
    "an empty mask": (mask_prompt(np.zeros((HEIGHT, WIDTH), np.uint8)), "EmptyPrompt: the 64 x 48 mask has no pixel"),
    "a mask and a box": (
        mask_prompt(np.ones((HEIGHT, WIDTH), np.uint8), box=[1.0, 1.0, 5.0, 5.0]),
        "PromptError: prompt has a mask and also points or a box",
    ),
}


@pytest.mark.parametrize("case", BAD_PROMPTS)
def test_a_bad_prompt_is_answered_and_changes_nothing(running: Harness, case: str) -> None:
    prompt, text = BAD_PROMPTS[case]
    answer = running.add(prompt)
    assert (answer.success, answer.object_id) == (False, 0)
    assert text in answer.message
    assert_good_frame_works(running)


def test_a_mask_of_another_encoding_is_answered(running: Harness) -> None:
    prompt = mask_prompt(np.ones((HEIGHT, WIDTH), np.uint8))
    prompt.mask.encoding = "32FC1"
    assert "PromptError: mask has encoding '32FC1'" in running.add(prompt).message
    prompt = mask_prompt(np.ones((HEIGHT, WIDTH), np.uint8))
    prompt.mask.step = 3
    assert "PromptError: mask of the prompt: " in running.add(prompt).message


def test_a_prompt_for_another_camera_is_answered(running: Harness) -> None:
    prompt = Prompt(object_id=2, points=[5.0, 5.0])
    prompt.header.frame_id = "rear_camera"
    assert "FrameIdMismatch: prompt is for images in 'rear_camera'" in running.add(prompt).message
    assert_good_frame_works(running)


def test_a_bad_prompt_by_topic_shows_in_diagnostics(running: Harness) -> None:
    publisher = running.client.create_publisher(Prompt, "/sam_perception/prompt", 10)
    running.until(publisher.get_subscription_count)
    publisher.publish(Prompt(object_id=2, box=[1.0, 2.0, 3.0]))
    assert_refused(running, "PromptError", "box has 3 numbers")
    assert_good_frame_works(running)


def test_an_unknown_id_is_answered(running: Harness) -> None:
    answer = running.remove(42)
    assert not answer.success
    assert "UnknownObject: no object 42 to remove: known are [1]" in answer.message


def test_more_objects_than_slots_are_answered(running: Harness) -> None:
    for object_id in (2, 3):
        assert running.add(PointPrompt(object_id, [[1.0, 1.0]])).success
    answer = running.add(PointPrompt(4, [[1.0, 1.0]]))
    assert not answer.success
    assert "NoFreeSlot: object 4 has no place: 3 objects [1, 2, 3] are tracked or asked for" in answer.message
    for object_id in (2, 3):
        assert running.remove(object_id).success
    assert_good_frame_works(running)


def test_a_prompt_refused_only_by_the_tracker_frees_its_id(harness: Harness) -> None:
    harness.node()
    harness.objects()
    assert harness.add(PointPrompt(1, [[500.0, 500.0]])).success  # no frame yet, so nobody can tell
    assert harness.scene_at(harness.send(SECOND)).objects == []
    assert_refused(harness, "PromptError", "prompt for object 1: ", "lie outside the 64 x 48 image")
    assert list(harness.list_objects().waiting) == []
    assert harness.add(Prompt(points=[17.0, 20.0])).object_id == 1


# ---------------------------------------------------------------------- inputs that do not come


def test_a_missing_camera_info_is_said(harness: Harness) -> None:
    harness.node()
    harness.objects()
    color, depth, _ = harness.camera()
    for second in (1, 2, 3):
        frame = make_frame(second * SECOND)
        images = frame_to_msgs(frame)
        color.publish(images[0])
        depth.publish(images[1])
    assert_refused(harness, "InvalidIntrinsics", "no camera_info has come on /color/camera_info", "remap")
    inputs = harness.status("inputs", lambda s: "no camera_info on /color/camera_info" in s.message)
    assert inputs.level == inputs.ERROR
    assert harness.scene_at(harness.send(4 * SECOND)).objects == []


def test_depth_alone_is_said(harness: Harness) -> None:
    harness.node()
    _, depth, _ = harness.camera()

    def send_depth(second: int) -> None:
        depth.publish(frame_to_msgs(make_frame(second * SECOND))[1])

    seconds = itertools.count(1)
    found = harness.until(lambda: send_depth(next(seconds)) or depth_alone(harness))
    assert "no color on /color/image_raw" in found.message


def depth_alone(harness: Harness) -> Any:
    status = harness.status("inputs")
    return status if "depth arrives, color does not" in status.message else None


def test_a_subscriber_that_asks_for_more_than_is_offered_is_told_of(harness: Harness) -> None:
    harness.node()
    late = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE)
    harness.client.create_subscription(TrackedObjectArray, "/sam_perception/objects", lambda _: None, late)
    status = harness.status("outputs", lambda s: bool(s.message) and "DURABILITY" in s.message)
    assert status.level == DiagnosticStatus.WARN
    assert "~/objects" in status.message
    assert "ask for volatile" in status.message


def test_incompatible_reliability_is_said(harness: Harness) -> None:
    harness.node(input__color_reliability="reliable")
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    harness.client.create_publisher(Image, "/color/image_raw", best_effort)
    status = harness.status("inputs", lambda s: "another RELIABILITY than is asked for" in s.message)
    assert "set input.color_reliability to best_effort" in status.message


def test_a_publisher_that_has_gone_is_in_nobodys_way(harness: Harness) -> None:
    harness.node(input__color_reliability="reliable")
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = harness.client.create_publisher(Image, "/color/image_raw", best_effort)
    harness.status("inputs", lambda s: "another RELIABILITY than is asked for" in s.message)
    harness.client.destroy_publisher(publisher)
    later = itertools.count(1)

    def status() -> Any:
        harness.send(next(later) * SECOND)  # a camera that does fit
        return harness.status("inputs", lambda s: values_of(s)["color publishers"] == "1")

    harness.until(lambda: status().level == DiagnosticStatus.OK)


def test_the_cure_of_an_override_is_the_override(harness: Harness) -> None:
    parameter = "qos_overrides./color/image_raw.subscription.reliability"
    harness.node(input__color_reliability="best_effort", **{parameter: "reliable"})
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    harness.client.create_publisher(Image, "/color/image_raw", best_effort)
    status = harness.status("inputs", lambda s: "another RELIABILITY than is asked for" in s.message)
    assert f"set {parameter} to best_effort" in status.message
    assert "input.color_reliability" not in status.message


def test_a_subscriber_that_has_gone_is_told_of_no_more(harness: Harness) -> None:
    harness.node()
    late = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE)
    subscription = harness.client.create_subscription(
        TrackedObjectArray, "/sam_perception/objects", lambda _: None, late
    )
    harness.status("outputs", lambda s: "DURABILITY" in s.message)
    harness.client.destroy_subscription(subscription)
    status = harness.status("outputs", lambda s: s.level == DiagnosticStatus.OK)
    assert status.message == "every subscriber can be served"


def test_a_subscriber_in_the_target_frame_that_asks_for_too_much_is_told_of(harness: Harness) -> None:
    harness.node(target_frame="map")
    late = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE)
    topic = "/sam_perception/target_frame/objects"
    harness.client.create_subscription(TrackedObjectArray, topic, lambda _: None, late)
    status = harness.status("outputs", lambda s: "DURABILITY" in s.message)
    assert status.level == DiagnosticStatus.WARN
    assert "a subscriber of ~/target_frame/objects asks for more DURABILITY" in status.message
