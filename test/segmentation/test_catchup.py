"""Late prompts are worked off in the background of the stream, and end where a prompt in time would have."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from reference import Reference, Script
from small_models import clip, random_model, small_config

from sam_perception.config import TrackerConfig
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from sam_perception.segmentation import StreamingTracker, Tracks
from sam_perception.segmentation.frames import FrameCache, feature_bytes

SIZE, FRAMES = 128, 26
NOISE = 1e-3
FIRST = BoxPrompt(1, (30, 30, 70, 80))
LATE = BoxPrompt(2, (60, 60, 110, 120))
CLICK = PointPrompt(1, [(64, 40)])


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(small_config(SIZE), seed=0, presence_bias=3.0)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return clip(FRAMES, SIZE)


def _stamped(prompt: Prompt, frame: int) -> Prompt:
    return dataclasses.replace(prompt, stamp_ns=frame)


def _tracker(model: Any, portion: int = 2, cache: int = 16, **settings: Any) -> StreamingTracker:
    config = TrackerConfig(catch_up_frames=portion, feature_cache_frames=cache, **settings)
    return StreamingTracker(model, 4, config)


def _run(tracker: StreamingTracker, pictures: Sequence[np.ndarray], script: dict[int, list[Prompt]]) -> list[Tracks]:
    """Prompts of a frame are given before it is shown."""
    answers = []
    for t, picture in enumerate(pictures):
        for prompt in script.get(t, []):
            tracker.prompt(prompt)
        answers.append(tracker.step(picture, stamp_ns=t))
    return answers


def _difference(have: Tracks, want: Tracks, object_id: int) -> float:
    return float((have.logits[have.index(object_id)] - want.logits[want.index(object_id)]).abs().max())


def _counted(tracker: StreamingTracker) -> list[int]:
    """How many objects each pass brings into a frame, as it goes on."""
    passes: list[int] = []
    recall = tracker._network.recall
    tracker._network.recall = lambda *a: passes.append(len(a[2])) or recall(*a)  # type: ignore[method-assign]
    return passes


def test_nobody_waits_for_more_than_a_few_frames_and_the_end_is_the_session_s(
    model: Any, pictures: list[np.ndarray]
) -> None:
    """A box ten frames late, and a click eight frames late on the other object."""
    tracker = _tracker(model, portion=3)
    passes, answers, behind = _counted(tracker), [], []
    for t, picture in enumerate(pictures):
        for prompt in {0: [FIRST], 13: [_stamped(LATE, 3)], 16: [_stamped(CLICK, 8)]}.get(t, []):
            tracker.prompt(prompt)
        passes.clear()
        answers.append(tracker.step(picture, stamp_ns=t))
        assert len(passes) <= 1 + 3
        behind.append(1 in tracker._late or 2 in tracker._late)
    assert behind == [13 <= t < 19 for t in range(FRAMES)]
    assert 2 in answers[13].ids  # said at once, from what there is so far
    script = Script([(0, FIRST), (3, LATE), (8, CLICK)])
    wanted = Reference(model, like_meta=True).run(pictures, script)
    for t, answer in enumerate(answers):
        for object_id in answer.ids.tolist():
            logits, _ = wanted[t][object_id]
            if t >= 19 or (object_id == 1 and t < 8):
                assert (answer.logits[answer.index(object_id)] - logits).abs().max() < NOISE


def test_a_click_on_an_object_that_is_on_its_way_adds_to_what_it_will_be(
    model: Any, pictures: list[np.ndarray]
) -> None:
    refinement = PointPrompt(2, [(80, 90), (20, 20)], [1, 0])
    in_time = _run(_tracker(model), pictures, {0: [FIRST], 3: [LATE], 12: [refinement]})
    late = _run(_tracker(model), pictures, {0: [FIRST], 11: [_stamped(LATE, 3)], 12: [refinement]})
    without = _run(_tracker(model), pictures, {0: [FIRST], 11: [_stamped(LATE, 3)]})
    assert _difference(late[-1], in_time[-1], 2) < NOISE
    assert _difference(late[-1], without[-1], 2) > 30 * NOISE
    assert all(_difference(a, b, 1) < NOISE for a, b in zip(late, in_time, strict=True))


def test_objects_at_different_frames_of_the_past_all_arrive_before_their_frames_are_dropped(
    model: Any, pictures: list[np.ndarray]
) -> None:
    """Two places on the way, two frames in a step, and a cache that is full: nobody is left behind."""
    third = BoxPrompt(3, (5, 5, 45, 45))
    script = {9: [_stamped(LATE, 8)], 10: [_stamped(third, 5)], 11: [_stamped(FIRST, 4)]}
    tracker = _tracker(model, cache=8)
    passes = _counted(tracker)
    answers = []
    for t, picture in enumerate(pictures):
        for prompt in script.get(t, []):
            tracker.prompt(prompt)
        passes.clear()
        answers.append(tracker.step(picture, stamp_ns=t))
        assert len(passes) <= 1 + 2 + 1
    in_time = _run(_tracker(model), pictures, {8: [LATE], 5: [third], 4: [FIRST]})
    assert all(a.notes == () for a in answers)
    assert max(_difference(answers[-1], in_time[-1], i) for i in (1, 2, 3)) < NOISE


def test_what_waits_for_its_turn_is_said_and_can_be_removed(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = _tracker(model)
    for t in range(10):
        tracker.step(pictures[t], t)
    for object_id, frame in ((1, 2), (2, 4), (3, 6), (4, 8)):
        tracker.prompt(BoxPrompt(object_id, (30, 30, 70, 80), stamp_ns=frame))
    tracks = tracker.step(pictures[10], 10)
    assert tracks.ids.tolist() == [1] == list(tracker.object_ids)  # frames 2 and 3 are worked off
    assert tracker.waiting == (2, 3, 4)
    tracker.remove(3)
    assert tracker.waiting == (2, 4)
    for t in range(11, 22):
        tracks = tracker.step(pictures[t], t)
    assert tracks.ids.tolist() == [1, 2, 4]
    assert tracker.waiting == ()


def test_a_stream_that_jumps_takes_the_way_back_from_under_a_prompt(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = _tracker(model)
    _run(tracker, pictures[:10], {0: [FIRST]})
    tracker.prompt(_stamped(CLICK, 3))
    tracker.prompt(_stamped(LATE, 7))
    tracker.step(pictures[10], 10)
    assert tracker.waiting == (2,)
    tracker.forget_memory()
    tracks = tracker.step(pictures[0], 0)
    assert tracks.ids.tolist() == [1, 2]
    assert len(tracks.notes) == 1
    assert "object 2" in tracks.notes[0]
    assert not tracker._late.waiting


def _encodings(tracker: StreamingTracker, pictures: list[np.ndarray], script: dict[int, list[Prompt]]) -> list[int]:
    """How often each step runs the image encoder."""
    runs: list[int] = []
    encode, passes = tracker._network.encode_image, _counted(tracker)
    tracker._network.encode_image = lambda p: runs.append(1) or encode(p)  # type: ignore[method-assign,misc]
    counts = []
    for t, picture in enumerate(pictures):
        for prompt in script.get(t, []):
            tracker.prompt(prompt)
        runs.clear()
        passes.clear()
        answer = tracker.step(picture, stamp_ns=t)
        counts.append(len(runs))
        assert answer.notes == ()
        assert len(passes) <= 1 + 3
    return counts


def test_a_frame_without_features_is_all_that_a_step_works_off(model: Any, pictures: list[np.ndarray]) -> None:
    """The first object begins at 10; the other is pointed at two frames later, in a frame that nobody looked at."""
    tracker = _tracker(model, portion=3, cache=12)
    counts = _encodings(tracker, pictures[:-1], {10: [FIRST], 12: [_stamped(LATE, 3)]})
    assert counts == [0] * 10 + [1] * 2 + [2] * 7 + [1] * 6  # frames 3 to 9, one with each of the steps 12 to 18
    assert not tracker._late.waiting
    assert 2 not in tracker._late
    in_time = _run(_tracker(model), pictures, {3: [LATE], 10: [FIRST]})
    answer = tracker.step(pictures[-1], FRAMES - 1)
    assert max(_difference(answer, in_time[-1], i) for i in (1, 2)) < NOISE


def test_a_cache_that_is_full_by_size_loses_no_frame_when_features_come(model: Any, pictures: list[np.ndarray]) -> None:
    """Pictures alone are smaller than their features: measured by them, five would be kept and then four."""
    tracker = _tracker(model, portion=2, cache=64, feature_cache_mb=1)
    _run(tracker, pictures[:8], {})
    assert [f.index for f in tracker._cache] == [4, 5, 6, 7]
    counts = []
    runs: list[int] = []
    encode = tracker._network.encode_image
    tracker._network.encode_image = lambda p: runs.append(1) or encode(p)  # type: ignore[method-assign,misc]
    tracker.prompt(FIRST)
    tracker.prompt(_stamped(LATE, 5))
    for t in range(8, FRAMES):
        runs.clear()
        answer = tracker.step(pictures[t], t)
        counts.append(len(runs))
        assert answer.notes == ()
        assert len(list(tracker._cache)) == 4
    assert counts == [2] * 3 + [1] * (FRAMES - 11)
    in_time = _run(_tracker(model), pictures, {5: [LATE], 8: [FIRST]})
    assert max(_difference(answer, in_time[-1], i) for i in (1, 2)) < NOISE


def test_a_cache_that_shrinks_hurries_one_frame_and_no_more(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = _tracker(model, cache=12)
    _run(tracker, pictures[:14], {0: [FIRST]})
    tracker.prompt(_stamped(LATE, 3))
    passes = _counted(tracker)
    tracker._cache.leaves_next = lambda _: True  # type: ignore[method-assign]
    tracker.step(pictures[14], 14)
    assert len(passes) == 1 + 2  # frame 3 has no memory to look at; 4 and 5 have, and so has the newest
    assert tracker._late._ways[2].next_frame == 6


def test_a_mask_that_lost_its_frame_has_to_fit_the_newest_one(model: Any, pictures: list[np.ndarray]) -> None:
    """The camera begins anew in another size while a drawn mask waits for its turn."""
    tracker = _tracker(model)
    _run(tracker, pictures[:10], {0: [FIRST]})
    tracker.prompt(_stamped(CLICK, 3))
    drawn = np.zeros((SIZE, SIZE), bool)
    drawn[60:110, 60:100] = True
    tracker.prompt(MaskPrompt(2, drawn, stamp_ns=7))
    tracker.step(pictures[10], 10)
    assert tracker.waiting == (2,)
    tracks = tracker.step(np.ascontiguousarray(pictures[0][:96]), 0)
    assert tracks.ids.tolist() == [1] == list(tracker.object_ids)
    assert tracks.masks.shape == (1, 96, SIZE)
    assert [i for i, _ in tracks.rejected] == [2]
    assert "lost its frame, and does not fit the newest one: mask is 128 x 128" in tracks.rejected[0][1]
    assert tracker.waiting == ()
    for object_id in (2, 3, 4):  # its slot is free again
        tracker.prompt(BoxPrompt(object_id, (10, 10, 60, 60)))
    assert tracker.step(np.ascontiguousarray(pictures[1][:96]), 1).ids.tolist() == [1, 2, 3, 4]


# ---------------------------------------------------------------- how many frames are kept


def test_the_size_of_features_is_known_before_there_are_any(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = _tracker(model)
    expected = feature_bytes(tracker._network)
    _run(tracker, pictures[:3], {0: [FIRST]})
    newest = tracker._cache.newest
    masks = sum(part.numel() * part.element_size() for part in newest.logits.values())
    assert newest.size_bytes - masks == expected


def test_of_two_limits_the_smaller_one_counts(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = _tracker(model, cache=12)
    _run(tracker, pictures, {0: [FIRST]})
    frames = list(tracker._cache)
    assert len(frames) == 12
    each = max(frame.size_bytes for frame in frames)
    tensors = [t for f in frames[:1] for t in (*f._features.fine, f._features.top, f._features.tokens, f._prepared)]
    assert each > sum(t.numel() * t.element_size() for t in tensors)
    one_mb = _tracker(model, cache=64, feature_cache_mb=1)
    _run(one_mb, pictures, {0: [FIRST]})
    assert len(list(one_mb._cache)) == (1 << 20) // each
    assert sum(frame.size_bytes for frame in one_mb._cache) <= 1 << 20


def test_a_frame_that_is_larger_than_the_limit_is_kept_alone() -> None:
    cache = FrameCache(8, 1000)
    for t in range(4):
        cache.add(torch.zeros(1, 3, 32, 32), (32, 32), t)
    assert [f.stamp_ns for f in cache] == [3]
    assert cache.length == 1
    wide = FrameCache(8, 100_000)
    for t in range(20):
        wide.add(torch.zeros(1, 3, 32, 32), (32, 32), t)
        assert wide.leaves_next(wide.newest.index) is False
    assert [f.stamp_ns for f in wide] == list(range(12, 20))
    assert [wide.leaves_next(index) for index in (11, 12, 13)] == [True, True, False]
    wide.keep(2)
    assert [f.stamp_ns for f in wide] == [18, 19]
    wide.keep(8)
    wide.add(torch.zeros(1, 3, 32, 32), (32, 32), 20)
    assert [f.stamp_ns for f in wide] == [18, 19, 20]
