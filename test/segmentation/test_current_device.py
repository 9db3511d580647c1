"""The current GPU while the tracker works."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from scarce import PROMPTS
from small_models import clip, random_model, small_config

from sam_perception.segmentation import tracker as tracker_module
from sam_perception.segmentation.current_device import on_device
from sam_perception.segmentation.tracker import StreamingTracker


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(small_config(64), seed=0, presence_bias=3.0)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return clip(12, 64)


def test_a_gpu_is_made_the_current_one_while_it_works_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(torch.cuda, "device", lambda index: made.append(index) or nullcontext())
    for name in ("cpu", "cuda", "meta"):
        with on_device(torch.device(name)):
            pass
    assert made == []
    with on_device(torch.device("cuda:1")):
        assert made == [1]


def test_steps_and_what_else_runs_the_network_are_on_its_device(
    model: Any, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[torch.device] = []
    monkeypatch.setattr(tracker_module, "on_device", lambda device: entered.append(device) or nullcontext())
    tracker = StreamingTracker(model, 4)
    tracker.prompt(PROMPTS[0])
    masks = tracker.step(pictures[0], 1).masks
    tracker.judge({})
    tracker.appearance(masks)
    assert entered == [torch.device("cpu")] * 3
