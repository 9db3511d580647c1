"""The object state machine as a table."""

from __future__ import annotations

import pytest

from sam_perception.config import TrackerConfig
from sam_perception.scene import DepthEvidence, ObjectState
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
    ("something in front delays nothing and hastens nothing", "snnnnn", "TOOOOL"),
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


@pytest.mark.parametrize(
    ("score", "area", "seen"),
    [(0.5, 16, True), (0.49, 16, False), (0.5, 15, False), (1.0, 0, False), (float("nan"), 100, False)],
)
def test_seen_needs_score_and_area(score: float, area: int, seen: bool) -> None:
    assert is_seen(score, area, TrackerConfig(visible_score=0.5, min_mask_area_px=16)) is seen
