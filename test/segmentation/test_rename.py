"""Names of objects in the real tracker: of those that are tracked, and of those that wait for their frame."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import clip, random_model, small_config

from sam_perception.config import PerceptionConfig
from sam_perception.errors import PromptError, UnknownObject
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.perception import Perception
from sam_perception.prompts import BoxPrompt, PointPrompt
from sam_perception.segmentation import StreamingTracker

SIZE = 128
CAMERA = CameraIntrinsics(SIZE, SIZE, 100.0, 100.0, 63.5, 63.5)


def test_names_change_and_nothing_else_does() -> None:
    tracker = StreamingTracker(random_model(small_config(SIZE), seed=0, presence_bias=3.0), max_objects=2)
    perception = Perception(PerceptionConfig(), tracker)
    other = Perception(
        PerceptionConfig(), StreamingTracker(random_model(small_config(SIZE), seed=0, presence_bias=3.0))
    )
    frames = [
        RgbdFrame(rgb, np.ones((SIZE, SIZE), np.float32), CAMERA, 1 + t, "camera")
        for t, rgb in enumerate(clip(4, SIZE))
    ]
    box = BoxPrompt(7, (30, 30, 70, 80), label="mug")
    with pytest.raises(UnknownObject, match="no object 7 to rename"):
        perception.rename(7, "cup")
    for one in (perception, other):
        one.prompt(box)
    perception.rename(7, "cup")  # while its prompt waits
    scenes = [perception.step(frames[0])]
    perception.rename(7, "  red cup ")
    scenes.append(perception.step(frames[1]))
    perception.prompt(PointPrompt(7, [(50, 50)], label=""))  # a prompt without a name keeps the one it has
    scenes.append(perception.step(frames[2]))
    perception.rename(7, "")
    scenes.append(perception.step(frames[3]))
    assert [scene.object(7).label for scene in scenes] == ["cup", "red cup", "red cup", ""]
    for scene, frame in zip(scenes[:2], frames[:2], strict=True):
        expected = other.step(frame).object(7)
        np.testing.assert_array_equal(scene.object(7).mask, expected.mask)
        assert scene.object(7).state is expected.state
    with pytest.raises(PromptError, match="at most 128"):
        perception.rename(7, "x" * 129)
    with pytest.raises(UnknownObject):
        perception.rename(8, "cup")
