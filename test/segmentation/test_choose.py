"""Another of the model's answers to a click, from the prompt to the track."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_models import clip, random_model, small_config

from sam_perception.errors import PromptError
from sam_perception.prompts import BoxPrompt, PointPrompt
from sam_perception.segmentation import ImagePredictor, StreamingTracker

CLICK = [[50.0, 60.0]]
PICTURES = clip(3, 128)

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(small_config(), seed=1, presence_bias=10.0)  # everything is in the picture


@pytest.fixture(scope="module")
def answers(model: Any) -> Any:
    predictor = ImagePredictor(model)
    predictor.set_image(PICTURES[0])
    return predictor.predict(CLICK)


def test_each_choice_is_the_image_predictors_answer(model: Any, answers: Any) -> None:
    for choose in (1, 2, 3):
        tracker = StreamingTracker(model)
        tracker.prompt(PointPrompt(1, CLICK, choose=choose))
        tracks = tracker.step(PICTURES[0])
        # The tracker resizes in floats, the predictor rounds to bytes as the image processor does.
        np.testing.assert_allclose(tracks.logits[0].numpy(), answers.logits[choose - 1], atol=1e-3)
        assert tracks.mask_scores[0] == pytest.approx(answers.scores[choose - 1], abs=1e-4)


def test_without_a_choice_it_is_the_surest(model: Any, answers: Any) -> None:
    tracker = StreamingTracker(model)
    tracker.prompt(PointPrompt(1, CLICK))
    tracks = tracker.step(PICTURES[0])
    assert tracks.mask_scores[0] == pytest.approx(answers.scores.max(), abs=1e-4)


def test_objects_choose_for_themselves_in_one_pass(model: Any, answers: Any) -> None:
    tracker = StreamingTracker(model)
    for object_id, choose in ((1, 3), (2, 0), (3, 1)):
        tracker.prompt(PointPrompt(object_id, CLICK, choose=choose))
    scores = tracker.step(PICTURES[0]).mask_scores
    np.testing.assert_allclose(scores, [answers.scores[2], answers.scores.max(), answers.scores[0]], atol=1e-4)


def test_choosing_again_replaces_what_was_said_of_that_picture(model: Any) -> None:
    plain = StreamingTracker(model)
    plain.prompt(PointPrompt(1, CLICK, choose=2, stamp_ns=1))
    wanted = [plain.step(picture, stamp).logits[0] for stamp, picture in enumerate(PICTURES, start=1)]
    changed = StreamingTracker(model)
    changed.prompt(PointPrompt(1, [[20.0, 30.0]], stamp_ns=1))
    changed.step(PICTURES[0], 1)
    changed.prompt(PointPrompt(1, CLICK, choose=2, stamp_ns=1))  # of the picture before
    changed.step(PICTURES[1], 2)
    last = changed.step(PICTURES[2], 3).logits[0]
    assert torch.allclose(last, wanted[2], atol=1e-3)


def test_a_choice_needs_a_single_click_on_the_object() -> None:
    for points, labels, choose in (
        ([[1, 2], [3, 4]], None, 1), ([[1, 2]], [0], 2), ([[1, 2]], None, 4), ([[1, 2]], None, -1),
        ([[1, 2]], None, True),
    ):  # fmt: skip
        with pytest.raises(PromptError, match="choose"):
            PointPrompt(1, points, labels, choose=choose)  # type: ignore[arg-type]
    assert PointPrompt(1, [[1, 2]], choose=np.int64(3)).choose == 3  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        BoxPrompt(1, (0, 0, 2, 2), choose=1)  # type: ignore[call-arg]
