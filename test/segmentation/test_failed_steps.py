"""Steps that fail: they leave no trace, cost no more than their frame, and can be done again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scarce import OUT_OF_MEMORY, PROMPTS, SIZE, Scarce, guarded
from small_models import clip, random_model, small_config

from sam_perception.config import TrackerConfig
from sam_perception.errors import DeviceMemoryError, MalformedImage
from sam_perception.prompts import BoxPrompt, PointPrompt
from sam_perception.segmentation import memory_ladder, observing
from sam_perception.segmentation.network import Network
from sam_perception.segmentation.tracker import StreamingTracker

CALLS = ("encode_image", "prepare", "fresh", "recall", "decode", "take_mask", "project", "memorise")
LAST, BAD = 11, 8
LATE = {
    BAD: [
        PointPrompt(7, [(30, 30)], stamp_ns=5), BoxPrompt(11, (3, 3, 30, 30), stamp_ns=6), PointPrompt(3, [(35, 41)]),
        BoxPrompt(3, (25, 25, 45, 50), stamp_ns=3),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(small_config(SIZE), seed=0, presence_bias=3.0)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return clip(12, SIZE)


class Breaking:
    """A network whose calls are numbered, one of which fails once."""

    is_backend = True

    def __init__(self, model: Any) -> None:
        self.network, self.left = Network(model), -1  # calls before the one that fails; -1: none does

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.network, name)
        return self._counted(found) if name in CALLS else found

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == -1:
                raise DeviceMemoryError(OUT_OF_MEMORY)  # no step of the ladder helps within the call
            return call(*args, **kwargs)

        return counted


def _followed(tracker: Any, network: Breaking, pictures: list[np.ndarray], fails: int) -> tuple[Any, bool]:
    """The last answer, with call number `fails` of the step `BAD` failing; whether there was such a call."""
    broke = False
    for t in range(LAST + 1):
        for prompt in LATE.get(t, ()):
            tracker.prompt(prompt)
        network.left = fails if t == BAD else -1
        tracks = tracker.step(pictures[t], t)
        broke = broke or (t == BAD and network.left < 0 <= fails)
        assert tracks.rejected == ()
    return tracks, broke


def test_a_step_that_is_done_again_gives_what_it_would_have_given(
    model: Any, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever call of a step with late prompts fails: no click counts twice, no frame is lost, none is kept twice."""
    monkeypatch.setattr(memory_ladder, "release_cached_memory", lambda: None)  # collects garbage, for half a second

    def tracker() -> tuple[Any, Breaking]:
        network = Breaking(model)
        return guarded(lambda _: network, feature_cache_frames=8, catch_up_frames=4), network

    expected, _ = _followed(*tracker(), pictures, -1)
    number, broke = 0, True
    while broke:
        again, network = tracker()
        have, broke = _followed(again, network, pictures, number)
        assert not again.waiting
        assert have.ids.tolist() == expected.ids.tolist() == [3, 7, 9, 11]
        torch.testing.assert_close(have.logits, expected.logits, atol=2e-3, rtol=1e-3)
        assert [f.index for f in again._inner._cache] == list(range(LAST - 7, LAST + 1))
        number += 1
    assert number > 20  # calls of that step, and one run in which none failed


def test_a_step_that_fails_at_its_end_leaves_no_trace(
    model: Any, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The masks are done and remembered when it fails; with a prompt for a tracked object, and for a new one."""
    tracker = StreamingTracker(model, 4, TrackerConfig(feature_cache_frames=8))
    for prompt in PROMPTS:
        tracker.prompt(prompt)
    for t in range(10):
        tracker.step(pictures[t], t)
    before = tracker._bank.ledger._frames.copy()
    asked = [PointPrompt(7, [(30, 30)]), BoxPrompt(11, (3, 3, 20, 20)), BoxPrompt(12, (3, 3, 20, 20), stamp_ns=99)]
    tracker.remove(9)
    for prompt in asked:
        tracker.prompt(prompt)
    with monkeypatch.context() as broken:
        broken.setattr(observing, "masks_and_numbers", _raises)
        with pytest.raises(MemoryError):
            tracker.step(pictures[10], 10)
    assert tracker.object_ids == (3, 7)
    assert tracker.waiting == (12,)
    assert [p.object_id for p in tracker.unanswered] == [7, 11]
    assert [f.index for f in tracker._cache] == [3, 4, 5, 6, 7, 8, 9]  # the oldest one made place
    assert not (tracker._bank.ledger._frames == 10).any()
    assert set(tracker._bank.ledger._frames[0].tolist()) <= {*before[0].tolist(), -1}
    for prompt in tracker.unanswered:
        tracker.prompt(prompt)
    tracks = tracker.step(pictures[10], 10)
    assert tracks.ids.tolist() == [3, 7, 11]
    assert [f.index for f in tracker._cache] == [3, 4, 5, 6, 7, 8, 9, 10]
    assert tracker.unanswered == ()


def _raises(*_: Any) -> Any:
    raise MemoryError


def test_a_network_that_fails_costs_the_frame_and_its_new_objects_only(model: Any, pictures: list[np.ndarray]) -> None:
    scarce = Scarce(model)
    tracker = guarded(lambda _: scarce)
    tracker.step(pictures[0], 1)
    tracker.prompt(BoxPrompt(11, (3, 3, 20, 20)))
    scarce.broken = ValueError("a defect")
    with pytest.raises(ValueError, match="a defect"):
        tracker.step(pictures[1], 2)
    scarce.broken = None
    tracks = tracker.step(pictures[2], 3)
    assert tracks.ids.tolist() == [3, 7, 9]
    assert tracks.rejected == ((11, "the frame that it was for failed (a defect): point at the object again"),)
    assert np.isfinite(tracks.scores).all()
    tracker.prompt(BoxPrompt(11, (3, 3, 20, 20)))
    assert tracker.step(pictures[3], 4).ids.tolist() == [3, 7, 9, 11]


def test_a_late_prompt_that_the_network_fails_on_is_tried_once(model: Any, pictures: list[np.ndarray]) -> None:
    """Else every later step would fail on it."""
    scarce = Scarce(model)
    tracker = guarded(lambda _: scarce)
    for t in range(3):
        tracker.step(pictures[t], t + 1)
    tracker.prompt(PointPrompt(7, [(30, 30)], stamp_ns=2))
    scarce.broken = ValueError("a defect")
    with pytest.raises(ValueError, match="a defect"):
        tracker.step(pictures[3], 4)
    assert tracker.waiting == ()
    scarce.broken = None
    tracks = tracker.step(pictures[4], 5)
    assert tracks.ids.tolist() == [3, 7, 9]
    assert [i for i, _ in tracks.rejected] == [7]


def test_what_is_no_picture_changes_nothing(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = guarded(lambda _: model)
    with pytest.raises(MalformedImage):
        tracker.step(pictures[0][..., 0], 1)
    assert tracker.step(pictures[0], 1).ids.tolist() == [3, 7, 9]
