"""The ground over frames: which plane it is, and where, when what is seen of it comes and goes."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from worlds import Shape, World, look

from sam_perception.config import NavigationConfig
from sam_perception.frame import RgbdFrame
from sam_perception.geometry.moved import moved_plane
from sam_perception.navigation import ObstacleMap, Surroundings
from sam_perception.scene import Plane, PlaneKind

TABLE = Shape("box", (0.0, 1.1, 0), (1.4, 0.9, 0.7))
CUP = Shape("box", (0.1, 1.1, 0.7), (0.1, 0.1, 0.12))


def on_the_way(part: float) -> World:
    """The camera comes down to the table: at 0 it sees floor and table, at 1 the table alone."""
    eye, at = (0, -0.2 + 0.95 * part, 1.6 - 0.35 * part), (0, 0.8 + 0.25 * part, 0.55 + 0.15 * part)
    return World((TABLE, CUP), look(eye, at))


STEPS = 7
WORLDS = [on_the_way(part) for part in np.linspace(0, 1, STEPS)]
BOTH, TABLE_ONLY = WORLDS[0], WORLDS[-1]


@cache
def picture(world: World) -> RgbdFrame:
    return world.frame(3)[0]


def of_kind(around: Surroundings, kind: PlaneKind) -> list[Plane]:
    return [p for p in around.planes if p.kind is kind]


def glimpses(obstacles: ObstacleMap, worlds: list[World]) -> list[Surroundings]:
    return [obstacles.update(picture(world)) for world in worlds]


def heights(world: World) -> tuple[float, float]:
    """Of the camera above the floor and above the table."""
    eye = float(world.world_from_camera[2, 3])
    return eye, eye - 0.7


def test_in_single_frames_the_ground_flips() -> None:
    """What the tests below are about: without what went before, the two pictures say different things."""
    grounds = [ObstacleMap().update(picture(world)).ground for world in (BOTH, TABLE_ONLY)]
    for ground, expected in zip(grounds, (heights(BOTH)[0], heights(TABLE_ONLY)[1]), strict=True):
        assert ground is not None
        assert ground.offset_m == pytest.approx(expected, abs=0.02)


def test_the_floor_stays_the_ground_while_it_is_out_of_sight_for_a_few_frames() -> None:
    worlds = WORLDS
    frames = glimpses(ObstacleMap(NavigationConfig(ground_switch_frames=50)), worlds)
    first = frames[0].ground
    assert first is not None
    unseen = 0
    for world, around in zip(worlds, frames, strict=True):
        assert around.ground is not None
        assert around.ground.id == first.id
        assert around.ground.offset_m == pytest.approx(heights(world)[0], abs=0.03)
        tables = of_kind(around, PlaneKind.TABLE)
        assert [p.offset_m for p in tables] == [pytest.approx(heights(world)[1], abs=0.01)]
        unseen += around.ground.inlier_share == 0
    assert 0 < unseen < len(worlds)  # both cases were met
    # The cup's height is still told from the floor.
    cup = min(frames[-1].obstacles, key=lambda o: np.inf if np.isnan(o.height_m) else abs(o.height_m - 0.82))
    assert cup.height_m == pytest.approx(0.82, abs=0.03)


def test_the_ground_changes_after_as_many_frames_as_are_asked_for() -> None:
    worlds = [*WORLDS, *[TABLE_ONLY] * 4]
    frames = glimpses(ObstacleMap(NavigationConfig(ground_switch_frames=4)), worlds)
    on_table = [abs(f.ground.offset_m - heights(w)[1]) < 0.03 for f, w in zip(frames, worlds, strict=True) if f.ground]
    assert len(on_table) == len(frames)
    unseen = [f.ground is not None and f.ground.inlier_share == 0 for f in frames]
    assert on_table == sorted(on_table)  # once, and not back
    assert on_table[-1]
    assert sum(unseen) == 3  # the fourth frame in a row decides
    assert unseen.index(True) + 3 == on_table.index(True)


def test_a_flickering_floor_leaves_the_table_the_ground() -> None:
    """The table alone, then the floor too, for fewer frames than it takes."""
    worlds = [TABLE_ONLY, TABLE_ONLY, *WORLDS[::-1], WORLDS[0], WORLDS[1], WORLDS[0]]
    held = glimpses(ObstacleMap(NavigationConfig(ground_switch_frames=100)), worlds)
    ids = {around.ground.id for around in held if around.ground is not None}
    assert len(ids) == 1
    for world, around in zip(worlds, held, strict=True):
        assert around.ground is not None
        assert around.ground.offset_m == pytest.approx(heights(world)[1], abs=0.02)
    # The floor below is there, and it is no table and no wall.
    assert any(
        p.kind is PlaneKind.OTHER and p.offset_m > around.ground.offset_m + 0.5
        for around in held
        if around.ground is not None
        for p in around.planes
    )


def test_one_frame_is_enough_where_one_is_asked_for() -> None:
    frames = glimpses(ObstacleMap(NavigationConfig(ground_switch_frames=1)), WORLDS)
    assert frames[0].ground is not None
    assert frames[-1].ground is not None
    assert frames[-1].ground.id != frames[0].ground.id
    assert all(f.ground is None or f.ground.inlier_share > 0 for f in frames)


def test_another_place_has_another_ground_at_once() -> None:
    obstacles = ObstacleMap()
    first = obstacles.update(picture(BOTH)).ground
    elsewhere = World((Shape("box", (0, 0.3, 0), (0.1, 0.1, 0.1)),), look((0, 0, 0.4), (0, 0.3, 0)))
    second = obstacles.update(elsewhere.frame(1)[0]).ground
    assert first is not None
    assert second is not None
    assert second.offset_m == pytest.approx(0.4, abs=0.01)
    assert second.id != first.id


def test_measured_gravity_ends_a_ground_that_is_not_level() -> None:
    world = World((), look((0, 0, 0.8), (0, 0.8, 0)))
    frame, _ = world.frame(0)
    obstacles = ObstacleMap()
    assert obstacles.update(frame).ground is not None
    aslant = world.world_from_camera[:3, :3].T @ [np.sin(0.5), 0, np.cos(0.5)]
    assert obstacles.update(frame, up=aslant).ground is None


def test_time_that_jumps_forgets_the_planes_and_uses_no_id_again() -> None:
    frame = picture(BOTH)
    obstacles = ObstacleMap()
    before = {p.id for p in obstacles.update(frame).planes}
    obstacles.forget_motion()
    assert not before & {p.id for p in obstacles.update(frame).planes}


def test_a_moved_plane_holds_the_moved_points() -> None:
    rng = np.random.default_rng(4)
    motion = look((0.3, -0.2, 1.0), (1, 2, 0.4))
    normal, offset = np.array([0.6, -0.8, 0.0]), 0.7
    points = rng.uniform(-1, 1, (20, 3))
    points -= ((points @ normal) + offset)[:, None] * normal
    turned, moved = moved_plane(normal, offset, motion)
    np.testing.assert_allclose((points @ motion[:3, :3].T + motion[:3, 3]) @ turned + moved, 0, atol=1e-12)


def test_planes_are_averaged_in_a_fixed_frame_and_follow_a_table_that_is_moved() -> None:
    """Poses with errors of half a degree: the average over frames is nearer to the truth than a frame is."""
    rng = np.random.default_rng(8)
    obstacles = ObstacleMap(NavigationConfig(plane_memory_frames=50, ground_switch_frames=3))
    single, averaged = [], []
    for seed in range(10):
        world = World((CUP,), look((0.3 * np.sin(seed), 0, 1.2), (0.1 * np.cos(seed), 1.0, 0)))
        pose = tilted(world, rng, 0.5)
        around = obstacles.update(world.frame(seed)[0], fixed_from_camera=pose)
        (fixed,) = [p for p in around.fixed_planes if p.kind is PlaneKind.GROUND]
        assert around.ground is not None
        single.append(angle_deg(pose[:3, :3] @ around.ground.normal, [0, 0, 1]))
        averaged.append(angle_deg(fixed.normal, [0, 0, 1]))
        assert abs(fixed.offset_m) < 0.02
    assert np.mean(averaged[5:]) < 0.6 * np.mean(single[5:])
    lower = [World((), look((0, 0, 1.0), (0, 1.0, 0))) for _ in range(5)]
    for seed, world in enumerate(lower):
        pose = world.world_from_camera.copy()
        pose[2, 3] += 0.2  # the ground is now 0.2 m higher than it was
        around = obstacles.update(world.frame(seed)[0], fixed_from_camera=pose)
    (fixed,) = [p for p in around.fixed_planes if p.kind is PlaneKind.GROUND]
    assert fixed.offset_m == pytest.approx(-0.2, abs=0.01)


def tilted(world: World, rng: np.random.Generator, deg: float) -> np.ndarray:
    """The camera's pose, wrong by a turn about a random axis of this size."""
    axis = rng.normal(size=3)
    turn = cv2.Rodrigues(np.radians(deg) * axis / np.linalg.norm(axis))[0]
    pose = world.world_from_camera.copy()
    pose[:3, :3] = pose[:3, :3] @ turn
    return pose


def angle_deg(a: np.ndarray, b: list[float]) -> float:
    return float(np.degrees(np.arccos(np.clip(np.asarray(a) @ b, -1, 1))))
