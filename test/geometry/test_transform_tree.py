"""Transforms at a stamp, against scipy's rotations and the rules of tf2."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from sam_perception.errors import TransformError, UnknownFrame
from sam_perception.geometry.transform_tree import TransformTree

Array = NDArray[np.float64]
SECOND = 10**9
NO_TURN = np.array([0.0, 0, 0, 1])


def pose(seed: int) -> tuple[Array, Array]:
    return np.random.default_rng(seed).uniform(-1, 1, 3), Rotation.random(random_state=seed).as_quat()


def matrix(place: Array, turn: Array) -> Array:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = Rotation.from_quat(turn).as_matrix(), place
    return out


def a_robot() -> TransformTree:
    """map <- odom <- base <- arm, base <- camera <- optical; odom moves, the rest is static."""
    tree = TransformTree()
    for seed, (parent, child) in enumerate([("base", "arm"), ("base", "camera"), ("camera", "optical")]):
        tree.add(parent, child, 0, *pose(seed), static=True)
    for i in range(11):
        tree.add("odom", "base", i * SECOND // 10, np.array([0.1 * i, 0, 0]), NO_TURN)
    tree.add("map", "odom", 0, *pose(9), static=True)
    return tree


def test_chains_go_up_and_down() -> None:
    tree = a_robot()
    arm, camera, optical = (matrix(*pose(i)) for i in range(3))
    np.testing.assert_allclose(
        tree.lookup("arm", "optical", SECOND // 2), np.linalg.inv(arm) @ camera @ optical, atol=1e-12
    )
    moved = matrix(np.array([0.5, 0, 0]), NO_TURN)
    np.testing.assert_allclose(
        tree.lookup("map", "optical", SECOND // 2), matrix(*pose(9)) @ moved @ camera @ optical, atol=1e-12
    )
    np.testing.assert_allclose(
        tree.lookup("optical", "map", SECOND // 2) @ tree.lookup("map", "optical", SECOND // 2), np.eye(4), atol=1e-12
    )


def test_the_same_frame_is_where_it_is_and_a_leading_slash_is_no_matter() -> None:
    tree = a_robot()
    np.testing.assert_array_equal(tree.lookup("base", "/base", 5), np.eye(4))
    np.testing.assert_array_equal(tree.lookup("/base", "camera", 5), tree.lookup("base", "/camera", 5))


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.93, 1.0])
@pytest.mark.parametrize("turn_deg", [0.001, 20.0, 179.0])
def test_between_samples_rotation_goes_along_the_arc(part: float, turn_deg: float) -> None:
    first, axis = Rotation.random(random_state=1), np.array([0.6, 0.0, 0.8])
    last = first * Rotation.from_rotvec(np.radians(turn_deg) * axis)
    tree = TransformTree()
    tree.add("a", "b", SECOND, np.array([1.0, 2, 3]), first.as_quat())
    # The same rotation has two quaternions; which of them is sent makes no difference.
    tree.add("a", "b", 2 * SECOND, np.array([3.0, 2, 1]), -last.as_quat())
    found = tree.lookup("a", "b", SECOND + round(part * SECOND))
    expected = Slerp([0, 1], Rotation.concatenate([first, last]))(part).as_matrix()
    np.testing.assert_allclose(found[:3, :3], expected, atol=1e-6)
    np.testing.assert_allclose(found[:3, 3], [1 + 2 * part, 2, 3 - 2 * part], atol=1e-9)


def test_samples_may_come_in_any_order_and_hold_exactly_at_their_stamps() -> None:
    tree = TransformTree()
    for stamp in (3, 1, 2, 2):
        tree.add("a", "b", stamp * SECOND, np.array([float(stamp) ** 2, 0, 0]), NO_TURN)
    assert [tree.lookup("a", "b", s * SECOND)[0, 3] for s in (1, 2, 3)] == [1, 4, 9]


@pytest.mark.parametrize(
    ("stamp_ns", "words"),
    [(SECOND + 1, "after the newest"), (-1, "before the oldest")],
)
def test_nothing_is_extrapolated(stamp_ns: int, words: str) -> None:
    with pytest.raises(TransformError, match=words):
        a_robot().lookup("map", "optical", stamp_ns)


def test_frames_nobody_told_of_are_named_with_those_that_are_known() -> None:
    with pytest.raises(UnknownFrame, match=r"'world'.*arm, base, camera, map, odom, optical"):
        a_robot().lookup("world", "optical", 0)


def test_two_trees_are_not_connected() -> None:
    tree = a_robot()
    tree.add("other_map", "other_base", 0, *pose(1), static=True)
    with pytest.raises(UnknownFrame, match="no transform leads from"):
        tree.lookup("other_map", "optical", 0)


def test_what_is_old_is_forgotten() -> None:
    tree = TransformTree(keep_ns=2 * SECOND)
    for stamp in range(10):
        tree.add("a", "b", stamp * SECOND, np.zeros(3), NO_TURN)
    tree.lookup("a", "b", 7 * SECOND)
    with pytest.raises(TransformError, match="before the oldest"):
        tree.lookup("a", "b", 6 * SECOND)
    assert len(tree._frames["b"].samples) == len(tree._frames["b"].stamps_ns) == 3


def test_time_that_goes_back_begins_anew() -> None:
    tree = TransformTree(keep_ns=2 * SECOND)
    for stamp in (50, 51, 52, 1, 2):
        tree.add("a", "b", stamp * SECOND, np.array([float(stamp), 0, 0]), NO_TURN)
    assert tree.lookup("a", "b", SECOND + SECOND // 2)[0, 3] == 1.5
    with pytest.raises(TransformError, match="after the newest"):
        tree.lookup("a", "b", 51 * SECOND)


def test_clearing_keeps_what_is_earlier_and_what_does_not_move() -> None:
    tree = a_robot()
    tree.clear(SECOND // 2)
    tree.lookup("arm", "optical", 77)
    assert tree.lookup("odom", "base", SECOND // 2)[0, 3] == 0.5
    with pytest.raises(TransformError, match="after the newest"):
        tree.lookup("map", "optical", SECOND // 2 + 1)
    tree.clear(-1)
    with pytest.raises(UnknownFrame):
        tree.lookup("odom", "optical", 0)


def test_a_frame_with_a_new_parent_has_no_past_in_it() -> None:
    tree = a_robot()
    tree.add("arm", "base_2", 0, np.zeros(3), NO_TURN)
    tree.add("odom", "base_2", SECOND, np.zeros(3), NO_TURN)
    with pytest.raises(TransformError, match="before the oldest"):
        tree.lookup("odom", "base_2", 0)


@pytest.mark.parametrize(
    ("parent", "child", "place", "turn", "words"),
    [
        ("a", "a", [0, 0, 0], [0, 0, 0, 1], "two different names"),
        ("", "b", [0, 0, 0], [0, 0, 0, 1], "two different names"),
        ("a", "b", [np.nan, 0, 0], [0, 0, 0, 1], "finite"),
        ("a", "b", [0, 0, 0], [0, 0, 0, 0], "length 1"),
        ("a", "b", [0, 0, 0], [np.inf, 0, 0, 1], "length 1"),
    ],
)
def test_nonsense_is_not_taken(parent: str, child: str, place: list[float], turn: list[float], words: str) -> None:
    with pytest.raises(TransformError, match=words):
        TransformTree().add(parent, child, 0, np.array(place, float), np.array(turn, float))


def test_a_circle_is_found() -> None:
    tree = TransformTree()
    tree.add("a", "b", 0, np.zeros(3), NO_TURN, static=True)
    tree.add("b", "a", 0, np.zeros(3), NO_TURN, static=True)
    with pytest.raises(TransformError, match="circle"):
        tree.lookup("c", "b", 0)


def test_a_transform_is_waited_for() -> None:
    tree = TransformTree()
    tree.add("a", "b", 0, np.zeros(3), NO_TURN)
    waiting = threading.Event()
    found: list[Array] = []

    def look() -> None:
        waiting.set()
        found.append(tree.lookup("a", "b", SECOND, timeout_s=20.0))

    thread = threading.Thread(target=look)
    thread.start()
    assert waiting.wait(20)
    tree.add("a", "b", 2 * SECOND, np.array([2.0, 0, 0]), NO_TURN)
    thread.join(20)
    assert found[0][0, 3] == 1.0
