"""The memory policies: on hand-made sequences, and what they do to a tracker's memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from small_models import clip, random_model, small_config

from sam_perception.config import TrackerConfig
from sam_perception.prompts import BoxPrompt, PointPrompt
from sam_perception.scene import DepthEvidence, ObjectState, Placement
from sam_perception.segmentation import FifoPolicy, StreamingTracker
from sam_perception.segmentation.hypotheses import rival_share
from sam_perception.segmentation.policies import DistractorAwarePolicy, GatedPolicy
from sam_perception.segmentation.policy import Keep, MemoryPolicy, Observation, make_policy

SIZE = 128
BOX, OTHER = BoxPrompt(7, (30, 30, 70, 80)), BoxPrompt(8, (60, 60, 110, 120))
LASTING = Keep.RECENT | Keep.LASTING
SEEN = Observation(
    object_id=1,
    frame=0,
    stamp_ns=0,
    score=0.9,
    mask_score=0.9,
    area_px=1000,
    rival_share=0.0,
    state=ObjectState.TRACKED,
    evidence=DepthEvidence.UNKNOWN,
    prompted=False,
)
HIDDEN = dataclasses.replace(SEEN, area_px=0, score=0.1, state=ObjectState.OCCLUDED)
RIVAL = dataclasses.replace(SEEN, rival_share=0.8)


def _at(frame: int, what: Observation = SEEN, **changes: Any) -> Observation:
    return dataclasses.replace(what, frame=frame, stamp_ns=frame * 100_000_000, **changes)


def _keeps(policy: MemoryPolicy, sequence: Sequence[Observation]) -> list[Keep]:
    return [policy.admit([o])[0] for o in sequence]


def test_settings_name_the_policies() -> None:
    made = [type(make_policy(TrackerConfig(memory_policy=p))) for p in ("fifo", "distractor_aware", "gated_3d")]
    assert made == [FifoPolicy, DistractorAwarePolicy, GatedPolicy]


# ---------------------------------------------------------------- distractor_aware


def _distractor_aware(**settings: Any) -> DistractorAwarePolicy:
    return DistractorAwarePolicy(TrackerConfig(memory_policy="distractor_aware", **settings))


def test_absence_is_not_remembered() -> None:
    sequence = [_at(0, prompted=True), _at(1), _at(2, HIDDEN), _at(3, HIDDEN), _at(4, state=ObjectState.REACQUIRED)]
    assert _keeps(_distractor_aware(), sequence) == [
        Keep.RECENT,
        Keep.RECENT,
        Keep.NOTHING,
        Keep.NOTHING,
        Keep.RECENT,
    ]
    assert _keeps(FifoPolicy(), sequence) == [Keep.RECENT] * 5


def test_a_look_alike_in_view_makes_lasting_frames_some_frames_apart() -> None:
    sequence = [_at(0, prompted=True), *(_at(t, RIVAL) for t in range(1, 14))]
    kept = [t for t, keep in enumerate(_keeps(_distractor_aware(lasting_gap_frames=5), sequence)) if keep == LASTING]
    assert kept == [5, 10]


@pytest.mark.parametrize(
    "doubt",
    [
        {"rival_share": 0.2},  # the hypotheses agree: there is no look-alike
        {"rival_share": float("nan")},  # a backend with one hypothesis
        {"mask_score": 0.7},  # the model itself is not sure
        {"area_px": 1300},  # it has swollen
        {"area_px": 750},  # it has shrunk
        {"state": ObjectState.REACQUIRED},  # it has only just come back
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_frame_in_doubt_does_not_last(doubt: dict[str, Any]) -> None:
    before = [_at(0, prompted=True), *(_at(t) for t in range(1, 9))]
    assert _keeps(_distractor_aware(), [*before, _at(9, RIVAL)])[-1] == LASTING
    assert _keeps(_distractor_aware(), [*before, dataclasses.replace(_at(9, RIVAL), **doubt)])[-1] == Keep.RECENT


def test_area_may_change_slowly_and_objects_do_not_mix() -> None:
    policy = _distractor_aware(lasting_gap_frames=1)
    for t in range(40):
        growing = _at(t, RIVAL, prompted=t == 0, area_px=1000 + 20 * t)
        jumping = dataclasses.replace(growing, object_id=2, area_px=1000 * (1 + t % 2))
        assert policy.admit([growing, jumping]) == [LASTING if t else Keep.RECENT, Keep.RECENT]
    policy.forget(1)
    assert policy.admit([_at(40, RIVAL)])[0] == Keep.RECENT  # another object, of which nothing is known
    assert policy.admit([_at(41, RIVAL)])[0] == LASTING


def test_rivals_are_pixels_outside_the_chosen_masks_box() -> None:
    logits = torch.full((3, 3, 16, 16), -1.0)
    logits[:, 1, 2:6, 2:6] = 1.0  # chosen, 16 pixels, in every row
    logits[0, 0, 3:5, 3:5] = 1.0  # a part of it
    logits[0, 2, 2:6, 2:6] = 1.0
    logits[1, 2, 2:6, 2:14] = 1.0  # it and 32 pixels beside it
    logits[1, 0, 0, 0] = 1.0  # a stray pixel
    logits[2, 0, 10:12, 10:14] = 1.0  # something else, half as large
    logits[2, 1] = -1.0
    logits[2, 1, 2:6, 2:6] = 1.0
    assert rival_share(logits, torch.tensor([1, 1, 1])).tolist() == [0.0, 2.0, 0.5]
    assert rival_share(torch.full((1, 3, 4, 4), -1.0), torch.tensor([0])).tolist() == [0.0]


# ---------------------------------------------------------------- gated_3d


def _placed(frame: int, x_m: float, size_m: float = 0.1, **changes: Any) -> Observation:
    return _at(frame, placement=Placement((x_m, 0.0, 0.8), size_m), **changes)


def _gate(**settings: Any) -> GatedPolicy:
    return GatedPolicy(TrackerConfig(memory_policy="gated_3d", gate_speed_m_s=1.0, **settings))


def test_a_jump_is_not_remembered_until_there_was_time_for_it() -> None:
    # Frames are 0.1 s apart: 0.1 m of motion for each, and 0.08 m for noise and visible parts of an object of 0.1 m.
    sequence = [_placed(0, 0.0, prompted=True), _placed(1, 0.1), _placed(2, 0.6), _placed(3, 0.6), _placed(4, 0.2)]
    sequence += [_placed(t, 0.8) for t in range(5, 12)]
    keeps = _keeps(_gate(), sequence)
    assert [k == Keep.RECENT for k in keeps[:5]] == [True, True, False, False, True]
    # 0.6 m further on: believed once 0.52 m would have taken as long.
    assert [k == Keep.RECENT for k in keeps[5:]] == [False] * 5 + [True] * 2


def test_a_mask_that_swells_is_not_remembered() -> None:
    sequence = [_placed(0, 0.0, prompted=True), _placed(1, 0.0, 0.15), _placed(2, 0.0, 0.4), _placed(3, 0.0, 0.16)]
    assert _keeps(_gate(gate_size_ratio=1.8), sequence) == [Keep.RECENT, Keep.RECENT, Keep.NOTHING, Keep.RECENT]


def test_without_depth_and_out_of_sight_it_is_sam_2_s_policy_and_a_prompt_moves_the_gate() -> None:
    sequence = [_placed(0, 0.0, prompted=True), _at(1), _at(2, HIDDEN), _placed(3, 2.0, prompted=True), _placed(4, 2.0)]
    assert _keeps(_gate(), sequence) == [Keep.RECENT] * 5
    policy = _gate()
    _keeps(policy, [_placed(0, 0.0, prompted=True)])
    policy.forget(1)
    assert policy.admit([_placed(1, 5.0)]) == [Keep.RECENT]


# ---------------------------------------------------------------- in the tracker


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return clip(24, SIZE)


def _model(**changes: Any) -> Any:
    return random_model(small_config(SIZE), seed=0, presence_bias=3.0, **changes)


class _Keeps:
    """Object 7's frames 3, 6, 9 ... are kept for longer."""

    def __init__(self) -> None:
        self.seen: list[Observation] = []

    def admit(self, observations: Sequence[Observation]) -> Sequence[Keep]:
        self.seen += observations
        return [LASTING if o.object_id == 7 and o.frame % 3 == 0 else Keep.RECENT for o in observations]

    def forget(self, object_id: int) -> None:
        pass


def test_lasting_frames_reach_the_memory(pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    shares = torch.tensor([0.25, 0.75])
    monkeypatch.setattr("sam_perception.segmentation.network.rival_share", lambda _, best: shares[: len(best)])
    config, policy = TrackerConfig(memory_policy="distractor_aware", lasting_frames=3), _Keeps()
    model = _model()
    tracker, plain = StreamingTracker(model, 2, config, policy), StreamingTracker(model, 2)
    for t in (tracker, plain):
        t.prompt(BOX)
        t.prompt(OTHER)
    for t, picture in enumerate(pictures[:17]):
        have, want = tracker.step(picture, t), plain.step(picture, t)
    tracker.judge({})
    assert tracker._bank.ledger.lasting_frames(0) == (9, 12, 15)
    assert tracker._bank.ledger.conditioning_frames(0) == (0,)
    assert tracker._bank.ledger.lasting_frames(1) == ()
    assert {(o.object_id, o.rival_share) for o in policy.seen if not o.prompted} == {(7, 0.25), (8, 0.75)}
    difference = (have.logits - want.logits).abs().amax(dim=(1, 2))
    assert difference[0] > 0.01  # it is attended to
    assert difference[1] < 1e-3  # by nobody else


def test_what_was_seen_last_is_still_there_after_a_long_absence(pictures: list[np.ndarray]) -> None:
    model = _model()
    trackers = [StreamingTracker(model, 1, TrackerConfig(memory_policy=p)) for p in ("fifo", "distractor_aware")]
    bias = model.mask_decoder.pred_obj_score_head.proj_out.bias
    for tracker in trackers:
        tracker.prompt(BOX)
        for t in range(8):
            tracker.step(pictures[t], t)
        bias.sub_(20)
        for t in range(8, 24):
            assert not tracker.step(pictures[t], t).masks.any()
        bias.add_(20)
        tracker.judge({})
    remembered = [set(t._bank.ledger._frames[0, t._bank.shape.kept :].tolist()) - {-1} for t in trackers]
    assert min(remembered[0]) > 8  # absence only
    assert max(remembered[1]) == 7  # the object only


def test_depth_judges_the_newest_frame_once(pictures: list[np.ndarray]) -> None:
    tracker = StreamingTracker(_model(), 2, TrackerConfig(memory_policy="gated_3d"))
    for prompt in (BOX, OTHER):
        tracker.prompt(prompt)
    here, far = Placement((0.0, 0.0, 1.0), 0.1), Placement((3.0, 0.0, 1.0), 0.1)
    for t in range(6):
        tracker.step(pictures[t], t * 33_000_000)
        tracker.judge({7: far if t in (2, 3) else here})
        tracker.judge({7: far, 8: far})  # too late: that frame is decided on
    selection = tracker._bank.ledger.select([0, 1], 6)
    frames = [tracker._bank.ledger._frames[slot, selection.places[slot]].tolist() for slot in (0, 1)]
    valid = selection.memory_valid
    assert {f for f, v in zip(frames[0], valid[0], strict=True) if v} == {5, 4, 1, 0}
    assert {f for f, v in zip(frames[1], valid[1], strict=True) if v} == {5, 4, 3, 2, 1, 0}


def test_a_removed_object_is_not_judged_any_more(pictures: list[np.ndarray]) -> None:
    tracker = StreamingTracker(_model(), 2, TrackerConfig(memory_policy="gated_3d"))
    tracker.prompt(BOX)
    tracker.step(pictures[0], 0)
    tracker.remove(7)
    tracker.judge({7: Placement((0.0, 0.0, 1.0), 0.1)})
    tracker.prompt(PointPrompt(7, [(70, 78)]))
    assert tracker.step(pictures[1], 1).ids.tolist() == [7]
