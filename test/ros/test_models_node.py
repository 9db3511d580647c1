"""The node with detectors and guessed depth: by service and topic, with models that say what they are told to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_models import ScriptedDetector, ScriptedWords
from fake_tracker import RED_BOX, ColorTracker, make_frame, red_mask
from numpy.typing import NDArray
from ros_harness import Harness, reliable
from sam_perception.msg import Prompt as PromptMsg
from sam_perception.msg import TrackedObject, TrackedObjectArray
from sensor_msgs.msg import CameraInfo, Image

from sam_perception.config import PerceptionConfig
from sam_perception.detections import Detection
from sam_perception.discovery import Models
from sam_perception.perception import Perception
from sam_perception.prompts import TextPrompt
from sam_perception.ros.convert import frame_to_msgs, prompt_from_msg, prompt_to_msg
from sam_perception.ros.parameters import changes_any_time

SECOND = 10**9


def maker(models: Models) -> Any:
    def make(config: PerceptionConfig) -> Perception:
        return Perception(config, ColorTracker(config.max_objects), models=models)

    return make


def test_words_in_messages_are_prompts_again() -> None:
    prompt = TextPrompt(7, "a red mug", 2, "mug", stamp_ns=5)
    assert prompt_from_msg(prompt_to_msg(prompt, "camera"), 7) == prompt
    assert prompt_from_msg(PromptMsg(text="mug"), 3) == TextPrompt(3, "mug")
    for other in ({"box": [1.0, 2.0, 3.0, 4.0]}, {"points": [1.0, 2.0]}):
        with pytest.raises(Exception, match="the words 'mug' and also points, a box or a mask"):
            prompt_from_msg(PromptMsg(text="mug", **other), 3)


def test_models_are_chosen_at_configuring_and_thresholds_at_any_time() -> None:
    fixed = ("words.model", "detector.model", "semantic.model", "depth.model", "depth.mode", "input.depth")
    assert not any(changes_any_time(name) for name in fixed)
    free = ("words.box_threshold", "detector.classes", "semantic.floor", "depth.navigate", "words.min_likeness")
    assert all(changes_any_time(name) for name in free)


def test_words_by_service_become_objects(harness: Harness) -> None:
    words = ScriptedWords(lambda _, text: [Detection(text, 0.75, RED_BOX)])
    node = harness.node(make=maker(Models(words=words)), words__model="scripted", words__search_period_s=0.0)
    inbox = harness.objects()
    response = harness.add(PromptMsg(text="a red mug", object_id=0))
    assert (response.success, response.object_id) == (True, 1)
    assert list(harness.list_objects().waiting) == [1]
    # The detector works beside the stream: its answer comes with one of the next frames.
    stamp_ns = SECOND

    def found() -> bool:
        nonlocal stamp_ns
        stamp_ns = harness.send(stamp_ns + SECOND // 10)
        return bool(harness.scene_at(stamp_ns).objects)

    harness.until(found)
    message = inbox.wait(lambda m: bool(m.objects))
    assert [(o.id, o.label, o.state) for o in message.objects] == [(1, "a red mug", TrackedObject.TRACKED)]
    assert message.objects[0].label_score == pytest.approx(0.75)
    assert message.depth_source == TrackedObjectArray.DEPTH_SENSOR
    assert node.state_label == "active"


def test_words_without_a_model_are_refused_at_once(harness: Harness) -> None:
    harness.node()
    response = harness.add(PromptMsg(text="a red mug"))
    assert not response.success
    assert "ConfigError: words.model is empty" in response.message
    assert "hf download IDEA-Research/grounding-dino-tiny" in response.message
    assert not harness.list_objects().waiting


def test_detections_of_the_nodes_own_detector_and_from_elsewhere(harness: Harness) -> None:
    model = ScriptedDetector([], [Detection("cup", 0.8, RED_BOX)])
    node = harness.node(make=maker(Models(detector=model)), detector__rate_hz=100.0)
    harness.objects()
    stamp_ns = SECOND

    def found() -> bool:
        nonlocal stamp_ns
        stamp_ns = harness.send(stamp_ns + SECOND // 10)
        return bool(harness.scene_at(stamp_ns).objects)

    harness.until(found)
    assert node._pipeline is not None
    node._pipeline.detections([Detection("book", 0.7, (40.0, 10.0, 56.0, 30.0))], stamp_ns, "")

    def both() -> bool:
        return found() and {o.label for o in harness.scene_at(stamp_ns).objects} == {"cup", "book"}

    harness.until(both)
    assert len(harness.scene_at(stamp_ns).objects) == 2


class Metres:
    """A `DepthModel` that knows the fake camera's depth."""

    metric = True

    def disparity(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert rgb.shape == (48, 64, 3)
        return np.asarray(1.0 / make_frame().depth_m, np.float32)


def test_without_a_depth_camera_positions_are_estimated_and_say_so(harness: Harness) -> None:
    harness.node(
        make=maker(Models(depth=Metres())), input__depth="none", depth__mode="estimate", depth__model="metres",
        depth__unscaled_error=0.2,
    )  # fmt: skip
    inbox = harness.objects()
    publishers = {
        kind: harness.client.create_publisher(kind, topic, reliable())
        for kind, topic in ((CameraInfo, "/color/camera_info"), (Image, "/color/image_raw"))
    }
    harness.until(lambda: all(p.get_subscription_count() for p in publishers.values()))
    assert harness.add(PromptMsg(object_id=4, box=list(RED_BOX))).success
    color, _, info = frame_to_msgs(make_frame(SECOND))
    publishers[CameraInfo].publish(info)
    publishers[Image].publish(color)
    message = inbox.wait(lambda m: bool(m.objects))
    (mug,) = message.objects
    assert message.depth_source == TrackedObjectArray.DEPTH_ESTIMATED
    assert mug.has_position
    assert mug.centroid.z == pytest.approx(0.5, abs=0.01)
    # A fifth of half a metre, along the ray.
    assert mug.covariance[8] == pytest.approx((0.2 * 0.5) ** 2, rel=0.1)
    status = harness.status("inputs", lambda s: "no depth wanted" in s.message)
    assert status.level == b"\x00"
    assert red_mask().sum() == mug.mask.height * mug.mask.width
