"""The object state machine as a table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pytest
import torch

from sam_perception.config import TrackerConfig
from sam_perception.scene import DepthEvidence, ObjectState
from sam_perception.segmentation.frames import CachedFrame
from sam_perception.segmentation.network import Decoded
from sam_perception.segmentation.observing import TrackedObject, observe
from sam_perception.segmentation.states import EMPTY_FRAMES, ObjectStateMachine, is_seen

CONFIG = TrackerConfig(lost_after_frames=5, confirm_frames=3)

# Input letters: s seen, u unseen, p seen and prompted, q unseen although prompted,
# e unseen with an empty place, n unseen with something nearer in front.
# Output letters: T tracked, O occluded, L lost, R reacquired.
TABLE = [
    ("first seen is tracked", "sss", "TTT"),
    ("first unseen is occluded", "qu", "OO"),
    ("occluded, then lost", "suuuuuu", "TOOOOLL"),
    ("reacquired until confirmed", "susssss", "TORRTTT"),
    ("confirmation needs frames in a row", "sussusss", "TORRORRT"),
    ("found again after being lost", "suuuuusss", "TOOOOLRRT"),
    ("lost while being confirmed again is only occluded at first", "suuuuusu", "TOOOOLRO"),
    ("an empty place is lost soon", "seee", "TOOL"),
    ("one empty look is not enough", "seueue", "TOOOOL"),
    ("empty looks count in a row", "seesee", "TOOROO"),
    ("covered by something nearer, it is not lost, however long", "snnnnnnnnnn", "TOOOOOOOOOO"),
    ("frames in which it is covered do not count", "suunnnuuus", "TOOOOOOOLR"),
    ("covered from the first", "qnnnnnn", "OOOOOOO"),
    ("covered, and then an empty place", "snnnnneee", "TOOOOOOOL"),
    ("covered between empty looks", "seenee", "TOOOOO"),
    ("a prompt confirms at once", "suup", "TOOT"),
    ("a prompt on a lost object confirms at once", "suuuuup", "TOOOOLT"),
    ("a prompt that finds nothing does not", "suq", "TOO"),
    ("lost stays lost whatever depth shows", "suuuuunes", "TOOOOLLLR"),
]

STATES = {
    "T": ObjectState.TRACKED,
    "O": ObjectState.OCCLUDED,
    "L": ObjectState.LOST,
    "R": ObjectState.REACQUIRED,
}
EVIDENCE = {"e": DepthEvidence.EMPTY, "n": DepthEvidence.NEARER}


@pytest.mark.parametrize(("inputs", "outputs"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_transitions(inputs: str, outputs: str) -> None:
    assert EMPTY_FRAMES == 3  # the table counts on it
    machine = ObjectStateMachine(CONFIG)
    seen = [
        machine.update(seen=i in "sp", prompted=i in "pq", evidence=EVIDENCE.get(i, DepthEvidence.UNKNOWN))
        for i in inputs
    ]
    assert seen == [STATES[o] for o in outputs]
    assert machine.state is STATES[outputs[-1]]


def test_confirmation_of_one_frame_skips_reacquired() -> None:
    machine = ObjectStateMachine(TrackerConfig(confirm_frames=1))
    states = [machine.update(seen=seen) for seen in (True, False, True)]
    assert states == [ObjectState.TRACKED, ObjectState.OCCLUDED, ObjectState.TRACKED]


NAN = float("nan")


@pytest.mark.parametrize(
    ("score", "mask_score", "area", "seen", "stays"),
    [
        (0.5, 0.4, 16, True, True),
        (0.49, 0.4, 16, False, True),
        (0.5, 0.39, 16, False, True),
        (0.5, 0.4, 15, False, True),
        (0.25, 0.2, 8, False, True),
        (0.24, 1.0, 100, False, False),
        (1.0, 0.19, 100, False, False),
        (1.0, 1.0, 7, False, False),
        (1.0, 1.0, 0, False, False),
        (NAN, 1.0, 100, False, False),
        (1.0, NAN, 100, False, False),
    ],
)
def test_seen_needs_all_three_and_half_of_each_to_stay(
    score: float, mask_score: float, area: int, seen: bool, stays: bool
) -> None:
    config = TrackerConfig(visible_score=0.5, min_mask_score=0.4, min_mask_area_px=16, stay_share=0.5)
    assert is_seen(score, mask_score, area, config) is seen
    assert is_seen(score, mask_score, area, config, staying=True) is stays
    same = dataclasses.replace(config, stay_share=1.0)
    assert is_seen(score, mask_score, area, same, staying=True) is seen


def test_without_a_pixel_nothing_is_seen_whatever_suffices() -> None:
    config = TrackerConfig(visible_score=0.0, min_mask_score=0.0, stay_share=0.0)
    assert not is_seen(1.0, 1.0, 0, config, staying=True)
    assert is_seen(1.0, 1.0, 1, config, staying=True)


def _observed(sequence: Sequence[tuple[float, float, int]], config: TrackerConfig) -> tuple[str, list[int]]:
    """States, and areas of the masks that are shown, of one object by object score, predicted IoU and area."""
    known = TrackedObject(ObjectStateMachine(config), 0)
    letters, areas = "", []
    for t, (score, mask_score, area) in enumerate(sequence):
        logits = torch.full((1, 16, 16), -1.0)
        logits.view(-1)[:area] = 1.0
        numbers = torch.tensor([mask_score]), torch.logit(torch.tensor([score]))
        seen = observe(
            CachedFrame(t, t, (16, 16), None),
            [1],
            Decoded(logits, *numbers, torch.zeros(1, 4)),
            {1: known},
            {},
            config,
            {},
        )
        letters += seen.observations[0].state.name[0]
        areas.append(int(seen.masks.sum()))
        assert math.isnan(seen.observations[0].rival_share)
        assert bool(areas[-1]) == (known.last_seen_ns == t) == seen.observations[0].state.visible
    return letters, areas


@pytest.mark.parametrize(
    "values",
    [
        [(0.9, 0.9, area) for area in (40, 20, 39, 19, 20, 39, 40, 20)],
        [(0.9, iou, 90) for iou in (0.6, 0.3, 0.59, 0.29, 0.3, 0.59, 0.6, 0.31)],
        [(score, 0.9, 90) for score in (0.8, 0.41, 0.79, 0.39, 0.41, 0.79, 0.81, 0.41)],
    ],
    ids=["area", "predicted IoU", "object score"],
)
def test_what_hovers_at_a_threshold_does_not_flicker(values: list[tuple[float, float, int]]) -> None:
    config = TrackerConfig(visible_score=0.8, min_mask_score=0.6, min_mask_area_px=40, confirm_frames=2)
    letters, areas = _observed(values, config)
    assert letters == "TTTOOORT"
    assert [area > 0 for area in areas] == [letter in "TR" for letter in letters]
    without = dataclasses.replace(config, stay_share=1.0)
    assert _observed(values, without)[0] == "TOOOOORO"


def test_a_mask_that_the_model_does_not_believe_in_is_not_seen() -> None:
    assert _observed([(0.9, 0.09, 90), (0.9, 0.1, 90), (0.9, 0.05, 90), (0.9, 0.04, 90)], TrackerConfig())[0] == "ORRO"
