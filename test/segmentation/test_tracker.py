"""What a user of the tracker sees: ids, states, prompts in time and late, refusals, bounds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from small_models import clip, random_model, small_config

from sam_perception.config import TrackerConfig
from sam_perception.errors import MalformedImage, ModelError, NoFreeSlot, PromptError, UnknownObject
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt
from sam_perception.scene import DepthEvidence, ObjectState
from sam_perception.segmentation import StreamingTracker, Tracks
from sam_perception.segmentation.policy import Keep, Observation

SIZE = 128
BOX = BoxPrompt(7, (30, 30, 70, 80), label="mug")
POINT = PointPrompt(3, [(70, 78)])
OTHER = BoxPrompt(500, (60, 60, 110, 120))


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(small_config(SIZE), seed=0, presence_bias=3.0)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return clip(24, SIZE)


def _steps(tracker: StreamingTracker, pictures: list[np.ndarray], first: int, last: int) -> list[Tracks]:
    return [tracker.step(pictures[t], stamp_ns=1000 * t) for t in range(first, last)]


def _difference(a: Tracks, b: Tracks, object_id: int) -> float:
    return float((a.logits[a.index(object_id)] - b.logits[b.index(object_id)]).abs().max())


# ---------------------------------------------------------------- ids


def test_tracks_come_in_order_of_id_with_masks_of_the_picture(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = StreamingTracker(model, max_objects=4)
    for prompt in (OTHER, BOX, POINT):
        tracker.prompt(prompt)
    assert tracker.waiting == (500, 7, 3)
    assert tracker.object_ids == ()
    tracks = tracker.step(pictures[0], stamp_ns=5)
    assert tracker.waiting == ()
    assert tracks.ids.tolist() == [3, 7, 500] == list(tracker.object_ids)
    assert tracks.labels == ("", "mug", "")
    assert tracks.masks.shape == (3, SIZE, SIZE)
    assert tracks.masks.dtype == np.bool_
    assert tracks.logits.shape == (3, SIZE // 4, SIZE // 4)
    assert tracks.states == (ObjectState.TRACKED,) * 3
    assert tracks.last_seen_ns.tolist() == [5, 5, 5]
    assert ((tracks.scores > 0.5) & (tracks.scores < 1)).all()
    up = torch.nn.functional.interpolate(tracks.logits[:, None], size=(SIZE, SIZE), mode="bilinear")[:, 0]
    np.testing.assert_array_equal(tracks.masks, (up > 0).numpy())


def test_nothing_to_track_is_an_empty_answer(model: Any, pictures: list[np.ndarray]) -> None:
    tracks = StreamingTracker(model).step(pictures[0])
    assert tracks.ids.shape == (0,)
    assert tracks.masks.shape == (0, SIZE, SIZE)
    assert tracks.states == ()
    with pytest.raises(UnknownObject):
        tracks.index(1)


def test_removed_object_frees_its_place_and_leaves_the_others_alone(model: Any, pictures: list[np.ndarray]) -> None:
    alone, tracker = StreamingTracker(model, max_objects=2), StreamingTracker(model, max_objects=2)
    alone.prompt(OTHER)
    tracker.prompt(BOX)
    tracker.prompt(OTHER)
    _steps(alone, pictures, 0, 6)
    _steps(tracker, pictures, 0, 6)
    tracker.remove(7)
    assert tracker.object_ids == (500,)
    tracker.prompt(POINT)
    for before, after in zip(_steps(alone, pictures, 6, 14), _steps(tracker, pictures, 6, 14), strict=True):
        assert after.ids.tolist() == [3, 500]
        assert _difference(before, after, 500) < 1e-3


def test_an_object_that_comes_again_starts_anew(model: Any, pictures: list[np.ndarray]) -> None:
    fresh, tracker = StreamingTracker(model, max_objects=1), StreamingTracker(model, max_objects=1)
    tracker.prompt(OTHER)
    _steps(tracker, pictures, 0, 5)
    tracker.remove(500)
    for t in (tracker, fresh):
        t.prompt(PointPrompt(500, [(50, 40)], label="cup"))
    for mine, want in zip(_steps(tracker, pictures, 5, 10), _steps(fresh, pictures, 5, 10), strict=True):
        assert _difference(mine, want, 500) < 1e-3
        assert mine.labels == ("cup",)


def test_places_count_objects_that_wait_too(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = StreamingTracker(model, max_objects=2)
    tracker.prompt(BOX)
    tracker.step(pictures[0])
    tracker.prompt(OTHER)
    tracker.prompt(OTHER)  # the same object: needs no second place
    with pytest.raises(NoFreeSlot, match=r"object 3 .*max_objects"):
        tracker.prompt(POINT)
    tracker.remove(500)  # only waiting: removed as well
    tracker.prompt(POINT)
    assert tracker.step(pictures[1]).ids.tolist() == [3, 7]


def test_unknown_ids_and_wrong_types_are_refused(model: Any) -> None:
    tracker = StreamingTracker(model)
    with pytest.raises(UnknownObject, match="no object 9"):
        tracker.remove(9)
    with pytest.raises(PromptError, match="str"):
        tracker.prompt("the mug")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="Linear"):
        StreamingTracker(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    "bad",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_a_bad_picture_changes_nothing(model: Any, pictures: list[np.ndarray], bad: np.ndarray) -> None:
    tracker = StreamingTracker(model)
    tracker.prompt(BOX)
    with pytest.raises(MalformedImage):
        tracker.step(bad)
    assert tracker.waiting == (7,)
    assert tracker.step(pictures[0]).ids.tolist() == [7]


def test_a_picture_of_one_pixel_is_a_picture(model: Any) -> None:
    tracker = StreamingTracker(model)
    tracker.prompt(PointPrompt(1, [(0, 0)]))
    tracks = tracker.step(np.zeros((1, 1, 3), np.uint8))
    assert tracks.masks.shape == (1, 1, 1)


# ---------------------------------------------------------------- prompts that cannot be


def test_prompts_outside_the_picture_are_listed_and_the_others_applied(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = StreamingTracker(model, max_objects=4)
    tracker.prompt(PointPrompt(1, [(SIZE, 3)]))
    tracker.prompt(BoxPrompt(2, (5, 5, SIZE + 40, 20)))
    tracker.prompt(MaskPrompt(4, np.ones((10, 10), bool)))
    tracker.prompt(BOX)
    tracks = tracker.step(pictures[0])
    assert tracks.ids.tolist() == [7]
    assert [i for i, _ in tracks.rejected] == [1, 2, 4]
    assert "128 x 128 image" in tracks.rejected[0][1]
    assert "mask is 10 x 10" in tracks.rejected[2][1]
    assert tracker.step(pictures[1]).rejected == ()


def test_a_refused_correction_leaves_the_object(model: Any, pictures: list[np.ndarray]) -> None:
    tracker, untouched = StreamingTracker(model), StreamingTracker(model)
    for t in (tracker, untouched):
        t.prompt(BOX)
        t.step(pictures[0])
    tracker.prompt(PointPrompt(7, [(-30, 0)]))
    tracks, want = tracker.step(pictures[1]), untouched.step(pictures[1])
    assert tracks.rejected[0][0] == 7
    assert torch.equal(tracks.logits, want.logits)


# ---------------------------------------------------------------- prompts in time


# By how many frames of the past a step may work off: the step from which all answers are as in time.
ARRIVES = [pytest.param(64, 0, id="at once"), pytest.param(2, 1, id="in the background")]


@pytest.mark.parametrize(("portion", "arrival"), ARRIVES)
def test_a_late_prompt_is_as_good_as_one_in_time(
    model: Any, pictures: list[np.ndarray], portion: int, arrival: int
) -> None:
    config = TrackerConfig(catch_up_frames=portion)
    in_time, late = StreamingTracker(model, max_objects=4), StreamingTracker(model, 4, config)
    for t in (in_time, late):
        t.prompt(OTHER)
        _steps(t, pictures, 0, 8)
    in_time.prompt(BOX)
    want = _steps(in_time, pictures, 8, 16)
    _steps(late, pictures, 8, 11)
    late.prompt(BoxPrompt(7, BOX.box, stamp_ns=8000))
    have = _steps(late, pictures, 11, 16)
    assert all(t.notes == () for t in have)
    for step, (a, b) in enumerate(zip(have, want[3:], strict=True)):
        assert step < arrival or _difference(a, b, 7) < 1e-3
        assert _difference(a, b, 500) < 1e-3


@pytest.mark.parametrize(("portion", "arrival"), ARRIVES)
@pytest.mark.parametrize(
    "correction",
    [PointPrompt(7, [(64, 40)]), BoxPrompt(7, (20, 20, 90, 90)), MaskPrompt(7, np.tri(SIZE, dtype=bool))],
    ids=["click", "box", "mask"],
)
def test_a_late_correction_is_as_good_as_one_in_time(
    model: Any, pictures: list[np.ndarray], correction: Any, portion: int, arrival: int
) -> None:
    config = TrackerConfig(catch_up_frames=portion)
    in_time, late = StreamingTracker(model, max_objects=4), StreamingTracker(model, 4, config)
    for t in (in_time, late):
        t.prompt(BOX)
        t.prompt(OTHER)
        _steps(t, pictures, 0, 10)
    in_time.prompt(correction)
    want = _steps(in_time, pictures, 10, 22)
    without = _steps(late, pictures, 10, 13)
    assert _difference(without[0], want[0], 7) > 0.05  # the correction does something
    late.prompt(dataclasses.replace(correction, stamp_ns=10_000))
    for step, (a, b) in enumerate(zip(_steps(late, pictures, 13, 22), want[3:], strict=True)):
        assert step < arrival or _difference(a, b, 7) < 1e-3
        assert _difference(a, b, 500) < 1e-3


def test_a_late_prompt_keeps_a_correction_that_came_after_its_frame(model: Any, pictures: list[np.ndarray]) -> None:
    """Frames between that were pointed at keep their answer while the object is brought forward."""
    tracker = StreamingTracker(model)
    tracker.prompt(BOX)
    _steps(tracker, pictures, 0, 6)
    tracker.prompt(MaskPrompt(7, np.tri(SIZE, dtype=bool)))
    corrected = tracker.step(pictures[6], stamp_ns=6000)
    tracker.prompt(PointPrompt(7, [(64, 40)], stamp_ns=5000))
    tracker.step(pictures[7], stamp_ns=7000)
    kept = next(f for f in tracker._cache if f.stamp_ns == 6000)
    assert torch.equal(kept.logits[7], corrected.logits[0])
    assert tracker._bank.ledger.conditioning_frames(0) == (0, 5)  # the first, and the one prompted last


def test_a_second_late_click_on_the_same_frame_adds_to_the_first(model: Any, pictures: list[np.ndarray]) -> None:
    in_time, late = StreamingTracker(model), StreamingTracker(model)
    for t in (in_time, late):
        t.prompt(BOX)
        _steps(t, pictures, 0, 6)
    clicks = [PointPrompt(7, [(64, 40)]), PointPrompt(7, [(20, 90)], [0])]
    for click in clicks:
        in_time.prompt(click)
    want = _steps(in_time, pictures, 6, 12)
    _steps(late, pictures, 6, 7)
    late.prompt(PointPrompt(7, clicks[0].points, clicks[0].labels, stamp_ns=6000))
    _steps(late, pictures, 7, 8)
    late.prompt(PointPrompt(7, clicks[1].points, clicks[1].labels, stamp_ns=6000))
    for a, b in zip(_steps(late, pictures, 8, 12), want[2:], strict=True):
        assert _difference(a, b, 7) < 1e-3


def test_a_prompt_older_than_the_cache_goes_to_the_newest_frame(model: Any, pictures: list[np.ndarray]) -> None:
    config = TrackerConfig(feature_cache_frames=3)
    tracker, plain = StreamingTracker(model, config=config), StreamingTracker(model, config=config)
    for t in (tracker, plain):
        _steps(t, pictures, 0, 9)
    tracker.prompt(BoxPrompt(7, BOX.box, stamp_ns=2000))
    plain.prompt(BOX)
    a, b = tracker.step(pictures[9], stamp_ns=9000), plain.step(pictures[9], stamp_ns=9000)
    assert torch.equal(a.logits, b.logits)
    assert "object 7" in a.notes[0]
    assert "feature_cache_frames" in a.notes[0]


def test_a_prompt_for_a_frame_that_was_dropped_takes_the_nearest(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = StreamingTracker(model)
    _steps(tracker, pictures, 0, 4)
    tracker.prompt(BoxPrompt(7, BOX.box, stamp_ns=2100))
    tracks = tracker.step(pictures[4], stamp_ns=4000)
    assert tracks.ids.tolist() == [7]
    assert "nearest" in tracks.notes[0]
    assert tracker._bank.ledger.conditioning_frames(0) == (2,)


def test_a_prompt_waits_for_its_frame(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = StreamingTracker(model)
    tracker.prompt(BoxPrompt(7, BOX.box, stamp_ns=2000))
    assert [t.ids.tolist() for t in _steps(tracker, pictures, 0, 3)] == [[], [], [7]]
    assert tracker._bank.ledger.conditioning_frames(0) == (2,)


def test_a_prompt_from_another_clock_does_not_wait_for_ever(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = StreamingTracker(model, config=TrackerConfig(feature_cache_frames=4))
    tracker.prompt(BoxPrompt(7, BOX.box, stamp_ns=10**18))
    answers = _steps(tracker, pictures, 0, 5)
    assert [t.ids.tolist() for t in answers] == [[], [], [], [], [7]]
    assert "clock" in answers[-1].notes[0]


def test_frames_without_stamps_are_numbered(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = StreamingTracker(model)
    for t in range(3):
        tracker.step(pictures[t])
    tracker.prompt(BoxPrompt(7, BOX.box, stamp_ns=1))
    tracks = tracker.step(pictures[3])
    assert tracker._bank.ledger.conditioning_frames(0) == (1,)
    assert tracks.last_seen_ns.tolist() == [3]


def test_a_stream_that_starts_again_keeps_its_objects(model: Any, pictures: list[np.ndarray]) -> None:
    tracker, fresh = StreamingTracker(model), StreamingTracker(model)
    tracker.prompt(BOX)
    _steps(tracker, pictures, 0, 12)
    tracker.forget_memory()
    fresh.prompt(BOX)
    fresh.step(pictures[0])
    tracks = tracker.step(pictures[1], stamp_ns=0)
    assert tracks.ids.tolist() == [7]
    selection = tracker._bank.ledger.select([0], 13)
    assert selection.places.shape == (1, 2)  # the prompted frame and the one just tracked
    tracker.prompt(PointPrompt(3, [(70, 78)], stamp_ns=5000))  # a stamp from before: cannot be meant
    assert tracker.step(pictures[2], stamp_ns=1000).ids.tolist() == [7]


# ---------------------------------------------------------------- what is computed, and kept


def test_the_image_encoder_runs_once_per_frame_and_not_at_all_when_idle(
    model: Any, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = StreamingTracker(model, max_objects=4)
    encode, calls = tracker._network.encode_image, []
    monkeypatch.setattr(tracker._network, "encode_image", lambda pixels: calls.append(1) or encode(pixels))
    _steps(tracker, pictures, 0, 3)
    assert len(calls) == 0
    for prompt in (BOX, POINT, OTHER):
        tracker.prompt(prompt)
    _steps(tracker, pictures, 3, 6)
    assert len(calls) == 3
    tracker.prompt(PointPrompt(7, [(64, 40)], stamp_ns=4000))
    _steps(tracker, pictures, 6, 7)
    assert len(calls) == 4


def test_only_the_first_and_the_latest_prompted_frames_are_kept(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = StreamingTracker(model, config=TrackerConfig(conditioning_frames=2))
    for t in range(12):
        if t % 3 == 0:
            tracker.prompt(BOX)
        tracker.step(pictures[t])
    assert tracker._bank.ledger.conditioning_frames(0) == (0, 9)


def test_a_conditioning_frame_that_gave_way_is_a_recent_frame_again(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = StreamingTracker(model, config=TrackerConfig(conditioning_frames=1))
    for t in range(3):
        tracker.prompt(BOX)
        tracker.step(pictures[t])
    selection = tracker._bank.ledger.select([0], 3)
    assert tracker._bank.ledger.conditioning_frames(0) == (2,)
    assert selection.temporal.tolist() == [[1, 2, 6]]  # frames 1 and 0 by age, frame 2 as conditioning frame


def test_an_unseen_object_has_no_mask_and_a_state(pictures: list[np.ndarray]) -> None:
    model = random_model(small_config(SIZE), seed=0, presence_bias=3.0)
    tracker = StreamingTracker(model, config=TrackerConfig(lost_after_frames=3, confirm_frames=2))
    tracker.prompt(BOX)
    assert tracker.step(pictures[0], 10).states == (ObjectState.TRACKED,)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.sub_(20)
    gone = [tracker.step(pictures[t], 10 + t) for t in (1, 2, 3)]
    assert [t.states[0] for t in gone] == [ObjectState.OCCLUDED, ObjectState.OCCLUDED, ObjectState.LOST]
    assert not any(t.masks.any() for t in gone)
    assert all(t.last_seen_ns.tolist() == [10] for t in gone)
    assert all(t.scores[0] < 0.01 for t in gone)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.add_(20)
    back = [tracker.step(pictures[t], 10 + t) for t in (4, 5)]
    assert [t.states[0] for t in back] == [ObjectState.REACQUIRED, ObjectState.TRACKED]
    assert back[1].masks.any()


def test_an_empty_place_is_lost_before_its_time(pictures: list[np.ndarray]) -> None:
    model = random_model(small_config(SIZE), seed=0, presence_bias=3.0)
    tracker = StreamingTracker(model)
    tracker.prompt(BOX)
    tracker.step(pictures[0])
    model.mask_decoder.pred_obj_score_head.proj_out.bias.sub_(20)
    evidence = {7: DepthEvidence.EMPTY}
    states = [tracker.step(pictures[t], evidence=evidence).states[0] for t in (1, 2, 3)]
    assert states == [ObjectState.OCCLUDED, ObjectState.OCCLUDED, ObjectState.LOST]


def test_small_masks_are_not_seen(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = StreamingTracker(model, config=TrackerConfig(min_mask_area_px=1_000_000))
    tracker.prompt(BOX)
    tracks = tracker.step(pictures[0])
    assert tracks.states == (ObjectState.OCCLUDED,)
    assert not tracks.masks.any()
    assert tracks.scores[0] > 0.5


class _Refuses:
    """Keeps no frame of one object."""

    def __init__(self, object_id: int) -> None:
        self.object_id, self.seen, self.forgotten = object_id, [], []

    def admit(self, observations: list[Observation]) -> list[Keep]:
        self.seen += observations
        return [Keep.NOTHING if o.object_id == self.object_id else Keep.RECENT for o in observations]

    def forget(self, object_id: int) -> None:
        self.forgotten.append(object_id)


def test_a_policy_decides_what_is_remembered(model: Any, pictures: list[np.ndarray]) -> None:
    policy = _Refuses(7)
    tracker = StreamingTracker(model, max_objects=2, policy=policy)
    tracker.prompt(BOX)
    tracker.prompt(OTHER)
    _steps(tracker, pictures, 0, 5)
    tracker.judge({})
    tracker.judge({})  # every frame is judged once
    selection = tracker._bank.ledger.select([0, 1], 5)
    assert len(policy.seen) == 10
    assert selection.memory_valid.sum(axis=1).tolist() == [1, 5]  # the prompt stays; the other has 1 + 4
    assert [(o.object_id, o.frame, o.prompted) for o in policy.seen[:4]] == [
        (7, 0, True),
        (500, 0, True),
        (7, 1, False),
        (500, 1, False),
    ]
    tracker.remove(7)
    assert policy.forgotten == [7]


def test_bfloat16_runs_and_stays_near(model: Any, pictures: list[np.ndarray]) -> None:
    import copy

    tracker = StreamingTracker(copy.deepcopy(model).to(torch.bfloat16))
    exact = StreamingTracker(model)
    for t in (tracker, exact):
        t.prompt(BOX)
    a, b = _steps(tracker, pictures, 0, 4), _steps(exact, pictures, 0, 4)
    agreement = np.mean([(x.masks == y.masks).mean() for x, y in zip(a, b, strict=True)])
    assert a[0].logits.dtype == torch.bfloat16
    assert agreement > 0.95
