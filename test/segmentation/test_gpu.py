"""What can only be seen on a GPU; skipped elsewhere."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from small_models import clip, random_model, small_config

from sam_perception.prompts import BoxPrompt, PointPrompt
from sam_perception.segmentation import StreamingTracker

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def test_a_step_waits_for_the_device_once() -> None:
    model = random_model(small_config(128), presence_bias=3.0).cuda()
    tracker = StreamingTracker(model, max_objects=4)
    pictures = clip(8, 128)
    for k in range(3):
        tracker.prompt(BoxPrompt(k + 1, (20 + 10 * k, 20, 60 + 10 * k, 70)))
    for t in range(4):
        tracker.step(pictures[t])
    torch.cuda.set_sync_debug_mode("warn")
    try:
        for t in range(4, 8):
            with pytest.warns(UserWarning, match="synchroniz") as warnings:
                tracker.step(pictures[t])
            assert len([w for w in warnings if "synchroniz" in str(w.message)]) == 1
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_gpu_sees_what_the_cpu_sees() -> None:
    model = random_model(small_config(128), presence_bias=3.0)
    trackers = [StreamingTracker(copy.deepcopy(model).to(d), max_objects=4) for d in ("cpu", "cuda")]
    for t, picture in enumerate(clip(10, 128)):
        answers = []
        for tracker in trackers:
            if t in (0, 4):
                tracker.prompt(PointPrompt(1 + t, [(40 + t, 50)]))
            answers.append(tracker.step(picture))
        assert np.mean(answers[0].masks == answers[1].masks) > 0.99
