"""The object score's bias after training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sam_perception.frame import CameraIntrinsics
from sam_perception.training import calibration
from sam_perception.training.calibration import HiddenCase, Judged, calibrate, calibration_cases, hidden_cases, judge
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


def test_what_is_said_of_frames_is_counted(small_model: Any, clip: Clip) -> None:
    """Objects 1 and 3 are hidden in three frames and one, by two kinds of prompts."""
    always(small_model, 5.0)
    sure = judge(small_model, [HiddenCase(clip, (1, 3))])
    assert sure == Judged(hidden=8, hidden_said=0, visible=12, visible_denied=0)
    always(small_model, -5.0)
    gone = judge(small_model, [HiddenCase(clip, (1, 3))])
    assert gone == Judged(hidden=8, hidden_said=8, visible=12, visible_denied=12)
    assert (sure.share_said, gone.share_said) == (0.0, 1.0)
    assert (sure.right, gone.right) == (12, 8)


@pytest.mark.parametrize(("learnt", "moved"), [(1.2, -1.5), (0.2, -0.5), (-0.3, 0.0), (-1.2, 1.0), (9.0, -3.0)])
def test_the_score_is_moved_as_far_as_hidden_objects_need_and_no_farther(
    small_model: Any, clip: Clip, learnt: float, moved: float
) -> None:
    bias = always(small_model, learnt)
    assert calibrate(small_model, [HiddenCase(clip, (1,))], wanted=0.9) == moved
    assert float(bias[0].detach()) == pytest.approx(learnt + moved)


@pytest.mark.parametrize(
    ("said", "moved"),
    [
        ({0.0: (87, 10)}, 0.0),  # closer than such a share can be told
        ({0.0: (94, 10)}, 0.0),
        ({0.0: (80, 10), -0.5: (88, 12), -1.0: (93, 16)}, -1.0),
        ({0.0: (99, 30), 0.5: (97, 20), 1.0: (91, 12), 1.5: (89, 8)}, 1.0),
        ({0.0: (60, 10), -0.5: (70, 15), -1.0: (80, 26)}, -0.5),  # ten more of hidden ones, eleven less of visible ones
        ({0.0: (60, 10), -0.5: (61, 13)}, 0.0),
    ],
)
def test_the_score_is_left_alone_where_it_is_close_enough_or_moving_it_costs_more(
    small_model: Any, monkeypatch: pytest.MonkeyPatch, said: dict[float, tuple[int, int]], moved: float
) -> None:
    bias = always(small_model, 2.0)

    def judged(*_: Any) -> Judged:
        hidden, denied = said[float(bias[0].detach()) - 2.0]
        return Judged(100, hidden, 400, denied)

    monkeypatch.setattr(calibration, "judge", judged)
    assert calibrate(small_model, [], wanted=0.9) == moved
    assert float(bias[0].detach()) == 2.0 + moved
