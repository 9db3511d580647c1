"""Counts of absence, returns and switches, on hand-made masks; and the clips that they are made for."""

from __future__ import annotations

import numpy as np
import pytest

from sam_perception.training.identities import IdentityTally, ObjectJudge
from sam_perception.training.scenes.lookalikes import EVENTS, Event, lookalike_clip, stamps_ns

SIZE = 40
NOTHING = np.zeros((SIZE, SIZE), bool)


def _square(x: int) -> np.ndarray:
    mask = NOTHING.copy()
    mask[10:20, x : x + 10] = True
    return mask


HERE, THERE = _square(2), _square(25)


def _judged(frames: list[tuple[np.ndarray, bool, np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Frames of predicted mask, said to be seen, true mask, true mask of the look-alike."""
    tally = IdentityTally()
    judge = ObjectJudge(1, tally)
    for mask, seen, own, other in frames:
        judge.frame(mask, seen, {1: own, 2: other})
    judge.end()
    return tally.summary()


def test_a_faithful_tracker() -> None:
    seen, hidden = (HERE, True, HERE, THERE), (NOTHING, False, NOTHING, THERE)
    counts = _judged([seen] * 4 + [hidden] * 5 + [seen] * 7)
    assert counts == {
        "J visible": 1.0,
        "absent said": 1.0,
        "returns found": 1.0,
        "switches": 0.0,
        "frames on another": 0.0,
        "visible frames": 11.0,
        "absent frames": 5.0,
        "returns": 1.0,
    }


def test_a_tracker_that_goes_over_to_the_look_alike_and_back() -> None:
    wrong_hidden, wrong = (THERE, True, NOTHING, THERE), (THERE, True, HERE, THERE)
    right = (HERE, True, HERE, THERE)
    counts = _judged([right] * 2 + [wrong_hidden] * 3 + [wrong] * 6 + [right] * 2 + [wrong])
    assert counts["switches"] == 2
    assert counts["frames on another"] == 10
    assert counts["absent said"] == 0.0
    assert counts["returns found"] == 0.0  # found only after five frames
    assert counts["J visible"] == pytest.approx(4 / 11)


def test_short_gaps_and_slivers_are_no_returns() -> None:
    sliver = NOTHING.copy()
    sliver[0, :5] = True
    right = (HERE, True, HERE, THERE)
    counts = _judged([right, (NOTHING, False, NOTHING, THERE), right, (NOTHING, False, sliver, THERE), right])
    assert counts["returns"] == 0
    assert (counts["visible frames"], counts["absent frames"]) == (3, 1)


def test_a_return_at_the_clip_s_end_counts() -> None:
    hidden = (NOTHING, False, NOTHING, THERE)
    assert _judged([hidden] * 3 + [(NOTHING, False, HERE, THERE)] * 2)["returns found"] == 0.0
    assert _judged([hidden] * 3 + [(HERE, True, HERE, THERE)] * 2)["returns found"] == 1.0


@pytest.mark.parametrize("event", EVENTS)
def test_clips_show_what_they_are_named_for(event: Event) -> None:
    frames = 24
    clip = lookalike_clip(np.random.default_rng(3), event, frames=frames, size_px=96)
    again = lookalike_clip(np.random.default_rng(3), event, frames=frames, size_px=96)
    np.testing.assert_array_equal(clip.rgb, again.rgb)
    assert clip.depth_m is not None
    areas = np.array([[np.count_nonzero(ids == i) for ids in clip.ids] for i in clip.object_ids])
    assert areas[:, 0].min() >= 40
    hidden = (areas[0] == 0).sum()
    if event == "crossing":
        assert len(clip.object_ids) == 3
        assert (areas.min(axis=1) < 0.7 * areas.max(axis=1)).any()  # somebody passes in front of somebody
    else:
        assert len(clip.object_ids) == 2
        assert frames / 4 <= hidden <= frames / 2
        assert areas[0, -3:].min() > 0.5 * areas[0, 0]  # and it comes back
    assert len(set(stamps_ns(frames))) == frames
