"""Objects of several cameras in one frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sam_perception.geometry.merging import MergeConfig, ObjectMerger
from sam_perception.geometry.sensor_fusion import Place, fused, mahalanobis
from sam_perception.scene import Lifted, ObjectState, OrientedBox, Scene, Track

IDENTITY = np.eye(4)


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0, turn_rad: float = 0.0) -> NDArray[np.float64]:
    """common_from_camera: turned about y, then moved."""
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    matrix = np.eye(4)
    matrix[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    matrix[:3, 3] = (x, y, z)
    return matrix


def track(
    object_id: int,
    common: tuple[float, float, float] | None,
    common_from_camera: NDArray[np.float64] = IDENTITY,
    *,
    label: str = "",
    state: ObjectState = ObjectState.TRACKED,
    sigma_m: float = 0.005,
    size_m: float = 0.06,
) -> Track:
    """An object at a place of the common frame, as a camera sees it."""
    lifted = Lifted()
    if common is not None:
        camera_from_common = np.linalg.inv(common_from_camera)
        center = camera_from_common[:3, :3] @ np.array(common) + camera_from_common[:3, 3]
        lifted = Lifted(
            centroid=center,
            covariance=np.eye(3) * sigma_m**2,
            box=OrientedBox(center, np.eye(3), np.full(3, size_m)),
            valid_depth_share=0.9,
        )
    return Track(object_id, label, state, 0.9, 0.8, np.ones((4, 6), bool), 10, lifted)


def scene(*tracks: Track, stamp_ns: int = 1_000_000_000) -> Scene:
    return Scene(stamp_ns, "camera", 6, 4, tracks)


def test_one_thing_in_two_cameras_is_one_object_in_the_common_frame() -> None:
    left, right = moved(-0.5), moved(0.5, turn_rad=0.6)
    scenes = {
        "left": scene(track(1, (0.1, 0.0, 0.8), left, label="mug"), track(2, (0.4, 0.1, 0.9), left)),
        "right": scene(track(7, (0.11, 0.0, 0.8), right, label="Mug"), track(3, (-0.3, 0.0, 0.7), right)),
    }
    merged = ObjectMerger().merge(scenes, {"left": left, "right": right}, "table")
    assert merged.scene.frame_id == "table"
    members = {frozenset(group) for group in merged.members.values()}
    assert members == {frozenset({("left", 1), ("right", 7)}), frozenset({("left", 2)}), frozenset({("right", 3)})}
    both = next(t for t in merged.scene.objects if t.label == "mug")
    np.testing.assert_allclose(both.centroid, (0.105, 0.0, 0.8), atol=1e-9)  # equally sure: the middle
    assert both.box is not None
    assert not both.mask.any()
    assert both.covariance is not None
    single = next(t for t in merged.scene.objects if set(merged.members[t.id]) == {("left", 2)})
    assert single.covariance is not None
    assert np.trace(both.covariance) < np.trace(single.covariance)


def test_labels_that_differ_and_places_that_differ_keep_things_apart() -> None:
    for other in (track(1, (0.0, 0.0, 0.8), label="mug"), track(1, (0.3, 0.0, 0.8), label="cup")):
        scenes = {"a": scene(track(1, (0.0, 0.0, 0.8), label="cup")), "b": scene(other)}
        assert len(ObjectMerger().merge(scenes, {"a": IDENTITY, "b": IDENTITY}, "table").members) == 2


def test_neighbours_are_matched_as_a_whole() -> None:
    """The nearest pair of all would leave the two others without a partner in reach."""
    a = scene(track(1, (0.00, 0, 0.8)), track(2, (0.06, 0, 0.8)))
    b = scene(track(1, (0.05, 0, 0.8)), track(2, (0.11, 0, 0.8)))
    merged = ObjectMerger().merge({"a": a, "b": b}, {"a": IDENTITY, "b": IDENTITY}, "table")
    assert set(merged.members.values()) == {(("a", 1), ("b", 1)), (("a", 2), ("b", 2))}


def test_ids_stay_while_cameras_lose_and_find_things() -> None:
    merger, eyes = ObjectMerger(), {"a": IDENTITY, "b": IDENTITY}
    seen = track(1, (0.0, 0.0, 0.8), label="mug")
    first = merger.merge({"a": scene(seen), "b": scene(replace(seen, id=5))}, eyes, "table")
    (mug,) = first.members
    hidden = track(1, None, state=ObjectState.OCCLUDED)
    second = merger.merge({"a": scene(hidden), "b": scene(replace(seen, id=5))}, eyes, "table")
    assert list(second.members) == [mug]
    assert second.scene.objects[0].state is ObjectState.TRACKED  # the other camera still sees it
    assert second.scene.objects[0].centroid is not None
    gone = {"a": scene(hidden), "b": scene(track(5, None, state=ObjectState.LOST))}
    third = merger.merge(gone, eyes, "table")
    assert list(third.members) == [mug]
    assert third.scene.objects[0].state is ObjectState.OCCLUDED
    assert third.scene.objects[0].centroid is None  # nothing is guessed
    fourth = merger.merge({"a": scene(seen), "b": scene(replace(seen, id=5))}, eyes, "table")
    assert list(fourth.members) == [mug]
    removed = merger.merge({"a": scene(), "b": scene(replace(seen, id=6))}, eyes, "table")
    assert mug not in removed.members  # another track began: another object


def test_what_was_one_is_not_torn_apart_at_the_gate() -> None:
    merger, eyes = ObjectMerger(), {"a": IDENTITY, "b": IDENTITY}

    def at(x: float) -> int:
        scenes = {"a": scene(track(1, (0.0, 0.0, 0.8))), "b": scene(track(1, (x, 0.0, 0.8)))}
        return len(merger.merge(scenes, eyes, "table").members)

    gate = next(x for x in np.arange(0.01, 1.0, 0.001) if are_two_at(x))
    assert at(gate) == 2
    assert at(gate / 2) == 1
    assert at(gate) == 1  # the same place as at first
    assert at(2 * gate) == 2


def are_two_at(x: float) -> bool:
    scenes = {"a": scene(track(1, (0.0, 0.0, 0.8))), "b": scene(track(1, (float(x), 0.0, 0.8)))}
    return len(ObjectMerger().merge(scenes, {"a": IDENTITY, "b": IDENTITY}, "table").members) == 2


def test_a_camera_that_has_stopped_is_left_out_and_its_ids_are_kept() -> None:
    merger, eyes = ObjectMerger(), {"a": IDENTITY, "b": IDENTITY}
    old = scene(track(1, (0.5, 0.0, 0.8)))
    first = merger.merge({"a": old, "b": scene(track(1, (0.0, 0.0, 0.8)))}, eyes, "table")
    later = scene(track(1, (0.0, 0.0, 0.8)), stamp_ns=3_000_000_000)
    second = merger.merge({"a": old, "b": later}, eyes, "table")
    assert [m for group in second.members.values() for m in group] == [("b", 1)]
    assert second.scene.stamp_ns == 3_000_000_000
    back = merger.merge({"a": replace(old, stamp_ns=3_100_000_000), "b": later}, eyes, "table")
    assert back.members == first.members


def test_the_order_of_cameras_changes_nothing() -> None:
    a, b = scene(track(1, (0.0, 0, 0.8))), scene(track(1, (0.01, 0, 0.8)), track(2, (0.4, 0, 0.8)))
    one = ObjectMerger().merge({"a": a, "b": b}, {"a": IDENTITY, "b": IDENTITY}, "table")
    two = ObjectMerger().merge({"b": b, "a": a}, {"a": IDENTITY, "b": IDENTITY}, "table")
    assert one.members == two.members
    for x, y in zip(one.scene.objects, two.scene.objects, strict=True):
        np.testing.assert_array_equal(x.centroid, y.centroid)


def test_no_scene_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one camera"):
        ObjectMerger().merge({}, {}, "table")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_fusion_is_the_least_squares_solution(seed: int) -> None:
    """Against numpy's solver of the stacked, whitened equations."""
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(3, 3, 3)) + 2 * np.eye(3)
    places = [Place(rng.normal(size=3), r @ r.T, IDENTITY) for r in roots]
    whitened = [np.linalg.inv(np.linalg.cholesky(p.covariance)) for p in places]
    right = np.concatenate([w @ p.position_m for w, p in zip(whitened, places, strict=True)])
    expected = np.linalg.lstsq(np.concatenate(whitened), right, rcond=None)[0]
    np.testing.assert_allclose(fused(places).position_m, expected, atol=1e-8)


def test_the_gate_is_chi_squared() -> None:
    """99 % of two noisy sights of one place lie below 3.37 standard deviations."""
    rng = np.random.default_rng(0)
    a, b = np.diag([1e-4, 4e-4, 1e-6]), np.array([[4e-4, 1e-4, 0], [1e-4, 2e-4, 0], [0, 0, 1e-5]])
    distances = [
        mahalanobis(
            Place(rng.multivariate_normal(np.zeros(3), a), a, IDENTITY),
            Place(rng.multivariate_normal(np.zeros(3), b), b, IDENTITY),
        )
        for _ in range(4000)
    ]
    assert np.mean(np.array(distances) < 3.37) == pytest.approx(0.99, abs=0.006)


def test_two_views_of_a_real_kitchen_table(shared_data: Path) -> None:
    """One moving camera, taken for two: recorded poses say how its first and last view lie to one another."""
    pytest.importorskip("torch", reason="torch is not installed")
    from sam_perception.config import PerceptionConfig
    from sam_perception.perception import Perception, Wanted
    from sam_perception.prompts import BoxPrompt
    from sam_perception.sources import open_source

    folder = shared_data / "seq_kitchen_7scenes"
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 4, 4)
    perception = Perception(PerceptionConfig(device="cpu"))
    boxes = ((1, (105, 263, 151, 313)), (2, (525, 319, 572, 372)), (3, (293, 364, 402, 462)))
    for object_id, box in boxes:
        perception.prompt(BoxPrompt(object_id, box))
    views = []
    for number, frame in enumerate(open_source(folder)):
        views.append(perception.step(frame, wanted=Wanted.POSITIONS))
        if number == 6:
            break
    merger = ObjectMerger(MergeConfig(max_age_s=60.0, speed_m_s=0.0))
    scenes = {"first": views[0], "last": views[-1]}
    merged = merger.merge(scenes, {"first": poses[0], "last": poses[6]}, "world")
    both = {
        object_id
        for object_id in (1, 2, 3)
        if all(any(t.id == object_id and t.centroid is not None for t in view.objects) for view in scenes.values())
    }
    assert both == {1, 2, 3}
    for object_id in both:
        assert tuple(sorted([("first", object_id), ("last", object_id)])) in merged.members.values()
