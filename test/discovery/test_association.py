"""Which detection is which object."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_perception.config import DetectorConfig, WordsConfig
from sam_perception.detections import Detection, box_iou
from sam_perception.discovery.association import Candidate, associate, overlapped, recognised
from sam_perception.discovery.looks import Looks, looks_of
from sam_perception.discovery.memory import Seen
from sam_perception.discovery.names import Names
from sam_perception.errors import PromptError
from sam_perception.prompts import FOUND_IDS_FROM, MAX_OBJECT_ID
from sam_perception.scene import ObjectState

Box = tuple[float, float, float, float]


def looks_like(features: tuple[float, float] | None) -> Looks | None:
    return None if features is None else Looks(np.ones(1, np.float32), np.array(features, np.float32))


def seen(
    object_id: int,
    box: Box,
    position: tuple[float, float, float] | None = None,
    looks: tuple[float, float] | None = None,
    stamp_ns: int = 0,
    mask: np.ndarray | None = None,
) -> Seen:
    return Seen(
        object_id, "cup", ObjectState.LOST, stamp_ns, box,
        np.ones((round(box[3] - box[1]), round(box[2] - box[0])), bool) if mask is None else mask,
        None if position is None else np.array(position), looks_like(looks),
    )  # fmt: skip


def candidate(
    box: Box,
    position: tuple[float, float, float] | None = None,
    looks: tuple[float, float] | None = None,
    score: float = 0.9,
) -> Candidate:
    return Candidate(
        Detection("cup", score, box), None if position is None else np.array(position),
        looks_like(looks),
    )  # fmt: skip


boxes = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(4, 20), st.integers(4, 20)).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)


@settings(deadline=None)
@given(ours=st.lists(boxes, min_size=1, max_size=4), theirs=st.lists(boxes, min_size=1, max_size=4))
def test_no_other_way_to_pair_them_up_costs_less(ours: list[Box], theirs: list[Box]) -> None:
    config = DetectorConfig(match_iou=0.2)
    pairs = associate([candidate(b) for b in theirs], [seen(i + 1, b) for i, b in enumerate(ours)], config)
    overlap = box_iou(np.array(theirs), np.array(ours))
    assert len(set(pairs.values())) == len(pairs)
    assert all(overlap[row, column] >= 0.2 for row, column in pairs.items())

    def worth(some: dict[int, int]) -> tuple[int, float]:
        return len(some), sum(overlap[pair] for pair in some.items())

    size = max(len(ours), len(theirs))
    for columns in itertools.permutations(range(size), len(theirs)):
        other = {r: c for r, c in enumerate(columns) if c < len(ours) and overlap[r, c] >= 0.2}
        assert worth(other)[0] <= len(pairs)
        if len(other) == len(pairs):
            assert worth(other)[1] <= worth(pairs)[1] + 1e-9


def test_a_small_overlap_counts_where_depth_says_that_it_is_the_same_place() -> None:
    known = [seen(1, (0, 0, 20, 20), (0.0, 0.0, 0.5))]
    box = (15.0, 15.0, 40.0, 40.0)
    assert associate([candidate(box)], known, DetectorConfig()) == {}
    assert associate([candidate(box, (0.05, 0.0, 0.5))], known, DetectorConfig()) == {0: 0}
    assert associate([candidate(box, (0.0, 0.0, 0.7))], known, DetectorConfig()) == {}
    assert associate([candidate((30, 30, 40, 40), (0.0, 0.0, 0.5))], known, DetectorConfig()) == {}


def test_masks_say_more_than_boxes() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:10] = True  # the object fills the upper half of its box
    known = [seen(1, (5, 5, 25, 25), mask=mask)]
    full = np.zeros((40, 40), bool)
    full[15:25, 5:25] = True  # the detection the lower half
    other = Candidate(Detection("cup", 0.9, (5, 5, 25, 25), full))
    assert associate([other], known, DetectorConfig()) == {}
    full = np.zeros((40, 40), bool)
    full[5:15, 5:25] = True
    same = Candidate(Detection("cup", 0.9, (5, 5, 25, 25), full))
    assert associate([same], known, DetectorConfig(match_iou=0.99)) == {0: 0}


def test_what_overlaps_most_is_told() -> None:
    known = [seen(1, (0, 0, 10, 10)), seen(2, (4, 0, 14, 10))]
    best = overlapped(candidate((5, 0, 15, 10)), known, 0.5)
    assert best is not None
    assert best.object_id == 2
    assert overlapped(candidate((30, 0, 40, 10)), known, 0.5) is None
    assert overlapped(candidate((30, 0, 40, 10)), [], 0.5) is None


GATES = WordsConfig(gate_m=0.3, gate_speed_m_s=0.5, min_likeness=0.6)
SECOND = 10**9


@pytest.mark.parametrize(
    ("position", "looks", "after_ns", "same"),
    [
        ((0.25, 0, 1), (1, 0), 0, True),
        ((0.35, 0, 1), (1, 0), 0, False),  # too far
        ((0.35, 0, 1), (1, 0), SECOND, True),  # it had time to get there
        ((0.9, 0, 1), (1, 0), SECOND, False),  # but not that far
        ((0.0, 0, 1), (0, 1), 0, False),  # there, but something else
        ((0.0, 0, 1), (0.5, 0.866), 0, False),
        ((0.0, 0, 1), (0.8, 0.6), 0, True),
        (None, (1, 0), 0, True),  # no depth: by looks
        (None, (0, 1), 0, False),
        ((0.0, 0, 1), None, 0, True),  # no looks: by place
        ((2.0, 0, 1), None, 0, False),
        (None, None, 0, False),  # by words alone: never
    ],
)
def test_what_was_lost_is_found_again_by_place_and_looks(
    position: tuple[float, float, float] | None, looks: tuple[float, float] | None, after_ns: int, same: bool
) -> None:
    lost = [seen(1, (0, 0, 9, 9), (0.0, 0.0, 1.0), (1.0, 0.0), stamp_ns=5 * SECOND)]
    found = recognised([candidate((20, 20, 29, 29), position, looks)], lost, 5 * SECOND + after_ns, GATES)
    assert found == ({0: 0} if same else {})


def test_the_likest_pairs_come_first_and_nothing_is_two_things() -> None:
    lost = [seen(1, (0, 0, 9, 9), looks=(1.0, 0.0)), seen(2, (0, 0, 9, 9), looks=(0.6, 0.8))]
    one, other = candidate((0, 0, 9, 9), looks=(0.7, 0.714)), candidate((20, 0, 29, 9), looks=(0.9, 0.436))
    assert recognised([one, other], lost, 0, GATES) == {0: 1, 1: 0}
    assert recognised([one], lost, 0, GATES) == {0: 1}
    assert recognised([], lost, 0, GATES) == {}


def test_colours_tell_things_apart_whatever_their_size_and_light() -> None:
    rng = np.random.default_rng(0)

    def painted(colour: tuple[int, int, int], half: int, light: float = 1.0) -> Looks:
        rgb = np.full((60, 60, 3), 128, np.uint8)
        mask = np.zeros((60, 60), bool)
        mask[30 - half : 30 + half, 30 - half : 30 + half] = True
        rgb[mask] = np.clip(np.array(colour) * light + rng.normal(0, 4, (mask.sum(), 3)), 0, 255)
        looks = looks_of(rgb, mask, None)
        assert looks is not None
        return looks

    red, blue = painted((200, 30, 30), 20), painted((30, 30, 200), 20)
    assert np.linalg.norm(red.colours) == pytest.approx(1.0)
    assert red.likeness(painted((200, 30, 30), 8)) > 0.95
    assert red.likeness(painted((200, 30, 30), 20, light=0.85)) > 0.75
    assert red.likeness(blue) < 0.4
    assert red.blended(blue, 0.1).likeness(red) > red.blended(blue, 0.5).likeness(red)
    assert looks_of(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), bool), None) is None


def test_features_and_colours_must_both_agree() -> None:
    one = Looks(np.array([1, 0], np.float32), np.array([1, 0], np.float32))
    assert one.likeness(Looks(np.array([0.8, 0.6], np.float32), np.array([0.6, 0.8], np.float32))) == pytest.approx(
        0.48
    )
    assert one.likeness(Looks(np.array([0.8, 0.6], np.float32))) == pytest.approx(0.8)
    assert one.likeness(Looks(np.array([1, 0], np.float32), np.array([-1, 0], np.float32))) == 0.0


def test_names_are_a_detectors_until_somebody_renames_the_object() -> None:
    names = Names()
    names.give(5, "cup", 0.7)
    assert names.score(5, "cup") == 0.7
    assert names.may_change(5, "cup")
    assert names.score(5, "my cup") == 0.0
    assert not names.may_change(5, "my cup")
    assert names.may_change(6, "")
    assert not names.may_change(6, "lamp")


def test_ids_count_up_and_come_round() -> None:
    names = Names()
    assert [names.new_id({1, FOUND_IDS_FROM + 1}) for _ in range(3)] == [1001, 1003, 1004]
    everything = frozenset(range(FOUND_IDS_FROM, MAX_OBJECT_ID + 1))
    assert names.new_id(everything - {1002}) == 1002
    with pytest.raises(PromptError, match="all ids from 1001 to 65535"):
        names.new_id(everything)
