"""Objects that are updated in turns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from small_models import clip, random_model, small_config

from sam_perception.prompts import BoxPrompt, PointPrompt
from sam_perception.segmentation import StreamingTracker
from sam_perception.segmentation.policy import Keep, Observation

BOXES = {1: (30.0, 30.0, 70.0, 80.0), 2: (60.0, 60.0, 110.0, 120.0), 3: (5.0, 5.0, 40.0, 40.0)}
FRAMES = 9
NOISE = 1e-3  # logits; memories are rounded to bfloat16, which batches of another size may round otherwise


@pytest.fixture(scope="module")
def model() -> object:
    return random_model(small_config(128), presence_bias=3.0)


class EvenFrames:
    """A memory of every second frame."""

    def admit(self, observations: Sequence[Observation]) -> Sequence[Keep]:
        return [Keep.NOTHING if o.frame % 2 else Keep.RECENT for o in observations]

    def forget(self, object_id: int) -> None:
        pass


def tracker_of(model: object, ids: Sequence[int], **options: object) -> StreamingTracker:
    tracker = StreamingTracker(model, max_objects=3, **options)
    for i in ids:
        tracker.prompt(BoxPrompt(i, BOXES[i], label=f"thing {i}"))
    return tracker


def test_who_rests_keeps_the_last_answer_and_its_stamp_and_the_others_do_not_notice(model: object) -> None:
    alone, both = tracker_of(model, [1]), tracker_of(model, [1, 2])
    before = None
    for t, picture in enumerate(clip(FRAMES, 128)):
        expected = alone.step(picture, 100 + t)
        tracks = both.step(picture, 100 + t, None, [1] if t % 2 else None)
        assert tracks.ids.tolist() == [1, 2]
        assert torch.allclose(tracks.logits[0], expected.logits[0], atol=NOISE)
        assert tracks.resting == ((2,) if t % 2 else ())
        if t % 2:
            assert torch.equal(tracks.logits[1], before.logits[1])
            np.testing.assert_array_equal(tracks.masks[1], before.masks[1])
            assert tracks.states[1] is before.states[1]
            assert tracks.last_seen_ns[1] == before.last_seen_ns[1] < 100 + t
        before = tracks


def test_memory_is_that_of_the_frames_in_which_it_was_ones_turn(model: object) -> None:
    # The oracle remembers every second frame by its policy, and tracks every frame.
    oracle, turns = tracker_of(model, [2], policy=EvenFrames()), tracker_of(model, [1, 2])
    for t, picture in enumerate(clip(FRAMES, 128)):
        expected = oracle.step(picture, t)
        tracks = turns.step(picture, t, None, [1] if t % 2 else [2])
        if t % 2 == 0:
            assert torch.allclose(tracks.logits[1], expected.logits[0], atol=NOISE)


def test_new_and_corrected_objects_do_not_wait_for_their_turn(model: object) -> None:
    tracker, pictures = tracker_of(model, [1, 2]), clip(5, 128)
    assert tracker.step(pictures[0], 0, None, []).resting == ()  # nothing is known of them yet
    tracker.prompt(BoxPrompt(3, BOXES[3]))
    tracker.prompt(PointPrompt(1, [(50, 60)]))
    assert tracker.step(pictures[1], 1, None, []).resting == (2,)
    tracker.prompt(PointPrompt(2, [(80, 90)], stamp_ns=1))  # late
    assert tracker.step(pictures[2], 2, None, []).resting == (1, 3)


def test_all_may_rest_and_nobody_rests_across_a_jump_or_another_size(model: object) -> None:
    tracker, pictures = tracker_of(model, [1, 2]), clip(4, 128)
    first = tracker.step(pictures[0], 0)
    tracker.rename(2, "cup")
    second = tracker.step(pictures[1], 1, None, ())
    assert second.resting == (1, 2)
    assert second.labels == ("thing 1", "cup")
    np.testing.assert_array_equal(first.masks, second.masks)
    assert tracker.step(pictures[2][:100], 2, None, ()).resting == ()
    tracker.forget_memory()
    assert tracker.step(pictures[3][:100], 3, None, ()).resting == ()
    tracker.remove(1)
    assert tracker.step(pictures[3][:100], 4, None, ()).ids.tolist() == [2]
