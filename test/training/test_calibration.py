"""The object score's bias after training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sam_perception.frame import CameraIntrinsics
from sam_perception.training import calibration
from sam_perception.training.calibration import HiddenCase, calibrate, calibration_cases, hidden_cases, hidden_said
from sam_perception.training.scenes import Clip


def clip_of(ids: NDArray[np.uint8]) -> Clip:
    """Bright objects on a dark ground."""
    frames, height, width = ids.shape
    rgb = np.where(ids[..., None] > 0, np.uint8(200), np.uint8(20)).repeat(3, axis=-1)
    objects = tuple(int(k) for k in np.unique(ids[ids > 0]))
    camera = CameraIntrinsics(width, height, 50.0, 50.0, width / 2, height / 2)
    still = np.tile(np.eye(4), (frames, 1, 1))
    return Clip(rgb, ids, objects, camera, still, still[:, None].repeat(len(objects), axis=1))


@pytest.fixture
def clip() -> Clip:
    """Object 1 is hidden in the last three of five frames, 3 in the last one, 2 never; 4 comes later."""
    ids = np.zeros((5, 64, 64), np.uint8)
    ids[:2, 4:28, 4:28] = 1
    ids[:, 36:60, 36:60] = 2
    ids[:4, 36:60, 4:28] = 3
    ids[1:2, 4:28, 36:60] = 4
    return clip_of(ids)


def always(model: Any, score: float) -> torch.Tensor:
    """Let the object score be the same whatever is seen; its bias."""
    last = model.mask_decoder.pred_obj_score_head.proj_out
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(score)
    bias: torch.Tensor = last.bias
    return bias


def test_only_what_shows_first_and_is_hidden_for_long_enough_is_followed(clip: Clip) -> None:
    assert [case.objects for case in hidden_cases([clip])] == [(1,)]
    assert list(hidden_cases([clip_of(clip.ids[:2])])) == []


def test_rendered_clips_with_something_hidden_are_found() -> None:
    (case,) = calibration_cases(1)
    for k in case.objects:
        shows = (case.clip.ids == k).any((1, 2))
        assert shows[0]
        assert (~shows).sum() >= 2


def test_what_is_said_of_hidden_frames_is_counted(small_model: Any, clip: Clip) -> None:
    always(small_model, 5.0)
    assert hidden_said(small_model, [HiddenCase(clip, (1, 3))]) == 0.0
    always(small_model, -5.0)
    assert hidden_said(small_model, [HiddenCase(clip, (1, 3))]) == 1.0


@pytest.mark.parametrize(("learnt", "moved"), [(1.2, -1.5), (0.2, -0.5), (-0.3, 0.0), (-1.2, 1.0), (9.0, -3.0)])
def test_the_score_is_moved_as_far_as_hidden_objects_need_and_no_farther(
    small_model: Any, clip: Clip, learnt: float, moved: float
) -> None:
    bias = always(small_model, learnt)
    assert calibrate(small_model, [HiddenCase(clip, (1,))], wanted=0.9) == moved
    assert float(bias[0].detach()) == pytest.approx(learnt + moved)


@pytest.mark.parametrize(
    ("shares", "moved"),
    [
        ({0.0: 0.87}, 0.0),  # closer than such a share can be told
        ({0.0: 0.94}, 0.0),
        ({0.0: 0.80, -0.5: 0.88, -1.0: 0.93}, -1.0),
        ({0.0: 0.99, 0.5: 0.97, 1.0: 0.91, 1.5: 0.89}, 1.0),
    ],
)
def test_a_share_that_is_close_enough_is_left_alone(
    small_model: Any, monkeypatch: pytest.MonkeyPatch, shares: dict[float, float], moved: float
) -> None:
    bias = always(small_model, 2.0)
    monkeypatch.setattr(calibration, "hidden_said", lambda *_: shares[float(bias[0].detach()) - 2.0])
    assert calibrate(small_model, [], wanted=0.9) == moved
    assert float(bias[0].detach()) == 2.0 + moved
