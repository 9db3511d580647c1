"""The node with the real tracker: a small network with random weights, which is exact where a mask is given."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from fake_tracker import HEIGHT, RED_POINT, WIDTH, make_frame, make_rgb, red_mask
from ros_harness import Harness
from sensor_msgs.msg import Image

pytest.importorskip("torch", reason="torch is not installed")
sys.path.append(str(Path(__file__).parents[1] / "segmentation"))

from sam_perception.config import PerceptionConfig
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.messages import stamp_ns_of
from sam_perception.perception import Perception
from sam_perception.prompts import MaskPrompt, PointPrompt
from sam_perception.segmentation import StreamingTracker

SECOND = 10**9
SCALE = 4  # a picture that is larger than the network's memory of it


def big_mask() -> np.ndarray:
    return np.kron(red_mask(), np.ones((SCALE, SCALE), bool))


def big_frame(stamp_ns: int) -> RgbdFrame:
    ones = np.ones((SCALE, SCALE), np.float32)
    camera = CameraIntrinsics(WIDTH * SCALE, HEIGHT * SCALE, 240.0, 240.0, 127.5, 95.5)
    rgb = np.kron(make_rgb(), ones[..., None]).astype(np.uint8)
    return RgbdFrame(rgb, np.kron(make_frame().depth_m, ones).astype(np.float32), camera, stamp_ns, "optical")


@pytest.fixture(scope="module")
def model() -> object:
    import torch
    from small_models import random_model, small_config

    torch.set_num_threads(1)
    return random_model(small_config(), presence_bias=20.0)  # everything is there


def test_masks_prompts_for_past_frames_corrections_and_removal_go_through_the_node(
    harness: Harness, model: object
) -> None:
    def make(config: PerceptionConfig) -> Perception:
        return Perception(config, StreamingTracker(model, config.max_objects, config.tracker))

    harness.node(make=make)
    harness.objects()
    masks = harness.inbox("/sam_perception/mask", Image)
    assert harness.add(MaskPrompt(4, big_mask(), label="mug")).success
    (mug,) = harness.scene_at(harness.send(big_frame(SECOND))).objects
    assert (mug.id, mug.label, mug.state, mug.has_position) == (4, "mug", mug.TRACKED, True)
    message = masks.wait(lambda m: stamp_ns_of(m.header.stamp) == SECOND)
    seen = np.frombuffer(message.data, np.uint16).reshape(HEIGHT * SCALE, WIDTH * SCALE) == 4
    iou = (seen & big_mask()).sum() / (seen | big_mask()).sum()
    assert iou > 0.85
    assert mug.centroid.z == pytest.approx(0.5, abs=0.02)
    # A click on the frame before the newest, and one on the next frame for another object.
    harness.scene_at(harness.send(big_frame(2 * SECOND)))
    click = [[c * SCALE for c in RED_POINT]]
    assert harness.add(PointPrompt(4, click, stamp_ns=SECOND)).success
    assert harness.add(PointPrompt(9, click)).success
    scene = harness.scene_at(harness.send(big_frame(3 * SECOND)))
    assert [o.id for o in scene.objects] == [4, 9]
    assert harness.remove(4).success
    assert [o.id for o in harness.scene_at(harness.send(big_frame(4 * SECOND))).objects] == [9]
    # The picture may change its size and time may go back.
    assert [o.id for o in harness.scene_at(harness.send(5 * SECOND)).objects] == [9]
    harness.objects().clear()
    assert [o.id for o in harness.scene_at(harness.send(big_frame(SECOND))).objects] == [9]
    assert [o.id for o in harness.scene_at(harness.send(big_frame(2 * SECOND))).objects] == [9]
