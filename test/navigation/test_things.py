"""Things that touch in depth, and things that something divides, told apart by regions of the picture."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from worlds import Shape, World, look

from sam_perception.config import EverythingConfig, NavigationConfig, PerceptionConfig
from sam_perception.frame import RgbdFrame
from sam_perception.geometry import project
from sam_perception.navigation import ObstacleMap, RegionSchedule
from sam_perception.perception import Perception
from sam_perception.scene import ObstacleKind, ObstacleSegment, Region, Regions
from sam_perception.sources import open_source

EYE = (0.0, 0.0, 0.8)
BASE = look(EYE, (0, 2, 0.1))
LEFT = Shape("box", (-0.15, 2.0, 0), (0.3, 0.3, 0.4))
RIGHT = Shape("box", (0.151, 2.0, 0), (0.3, 0.3, 0.4))
PAIR = World((LEFT, RIGHT), BASE)


def things(segments: Any) -> list[ObstacleSegment]:
    return [s for s in segments if s.kind is ObstacleKind.OBSTACLE and len(s.points)]


def masks_of(ids: np.ndarray) -> list[np.ndarray]:
    return [ids == i for i in np.unique(ids) if i > 0]


def share_in(world: World, shape: Shape, segment: ObstacleSegment) -> float:
    return float(shape.contains(world.to_world(segment.points.astype(float)), 0.02).mean())


def assert_left_and_right(world: World, found: list[ObstacleSegment]) -> None:
    assert len(found) == 2
    left, right = sorted(found, key=lambda s: -share_in(world, LEFT, s))
    assert share_in(world, LEFT, left) > 0.93
    assert share_in(world, RIGHT, right) > 0.93


def test_two_boxes_that_touch_are_two_with_regions_and_one_without() -> None:
    frame, ids = PAIR.frame(1)
    assert len(things(ObstacleMap().update(frame).obstacles)) == 1
    assert_left_and_right(PAIR, things(ObstacleMap().update(frame, region_masks=masks_of(ids)).obstacles))


def test_they_stay_two_with_their_ids_while_no_picture_is_cut_up() -> None:
    obstacles = ObstacleMap()
    frame, ids = PAIR.frame(1)
    first = things(obstacles.update(frame, region_masks=masks_of(ids)).obstacles)
    for seed in range(2, 8):
        later = things(obstacles.update(PAIR.frame(seed)[0]).obstacles)
        assert_left_and_right(PAIR, later)
        assert [s.id for s in later] == [s.id for s in first]


@pytest.mark.parametrize("posed", [False, True])
def test_they_stay_two_while_the_camera_moves(posed: bool) -> None:
    obstacles = ObstacleMap()
    for step in range(8):
        world = World((LEFT, RIGHT), look((0.02 * step, 0.01 * step, 0.8), (0, 2, 0.1)))
        frame, ids = world.frame(step)
        masks = masks_of(ids) if step == 0 else []
        pose = world.world_from_camera if posed else None
        found = things(obstacles.update(frame, region_masks=masks, fixed_from_camera=pose).obstacles)
        assert_left_and_right(world, found)


def test_one_board_behind_a_post_is_one_with_regions() -> None:
    board = Shape("box", (0, 2.0, 0), (0.8, 0.05, 0.5))
    post = Shape("cylinder", (0.0, 1.2, 0), (0.03, 0.03, 0.9))
    world = World((board, post), BASE)
    frame, ids = world.frame(1)
    assert len(things(ObstacleMap().update(frame).obstacles)) == 3
    obstacles = ObstacleMap()
    found = things(obstacles.update(frame, region_masks=masks_of(ids)).obstacles)
    assert len(found) == 2
    assert max(share_in(world, board, s) for s in found) > 0.97
    assert len(things(obstacles.update(world.frame(2)[0]).obstacles)) == 2


def test_a_region_that_shows_a_thing_whole_outweighs_its_parts() -> None:
    single = World((LEFT,), BASE)
    frame, ids = single.frame(1)
    columns = np.arange(ids.shape[1])[None, :]
    middle = float(np.nonzero(ids == 1)[1].mean())
    halves = [(ids == 1) & (columns < middle), (ids == 1) & (columns >= middle)]
    assert len(things(ObstacleMap().update(frame, region_masks=halves).obstacles)) == 2
    whole = [*halves, ids == 1]
    assert len(things(ObstacleMap().update(frame, region_masks=whole).obstacles)) == 1


def test_regions_of_ground_and_background_change_nothing() -> None:
    apart = World((LEFT, replace(RIGHT, base=(0.6, 2.0, 0))), BASE)
    frame, ids = apart.frame(1)
    plain = things(ObstacleMap().update(frame).obstacles)
    everything = np.ones_like(ids, bool)
    for masks in ([everything], [ids == 0], [everything, ids == 0], [np.zeros_like(ids, bool)]):
        seen = things(ObstacleMap().update(frame, region_masks=masks).obstacles)
        assert [len(s.points) for s in seen] == [len(s.points) for s in plain]


def test_a_region_of_things_far_apart_does_not_join_them() -> None:
    apart = World((LEFT, replace(RIGHT, base=(0.6, 2.0, 0))), BASE)
    frame, ids = apart.frame(1)
    assert len(things(ObstacleMap().update(frame, region_masks=[ids > 0]).obstacles)) == 2


def test_what_an_earlier_picture_showed_reaches_the_present() -> None:
    obstacles = ObstacleMap()
    frame, ids = PAIR.frame(1)
    obstacles.update(frame)
    view = obstacles.view
    assert view is not None
    for seed in (2, 3):
        assert len(things(obstacles.update(PAIR.frame(seed)[0]).obstacles)) == 1
    obstacles.learn(view, masks_of(ids))
    assert_left_and_right(PAIR, things(obstacles.update(PAIR.frame(4)[0]).obstacles))
    obstacles.forget_motion()
    assert len(things(obstacles.update(PAIR.frame(5)[0]).obstacles)) == 1


def test_a_thing_that_comes_near_is_not_taken_for_what_was_there() -> None:
    obstacles = ObstacleMap()
    frame, ids = PAIR.frame(1)
    obstacles.update(frame, region_masks=masks_of(ids))
    third = Shape("cylinder", (-0.55, 2.0, 0), (0.2, 0.2, 0.5))
    world = World((LEFT, RIGHT, third), BASE)
    found = things(obstacles.update(world.frame(2)[0]).obstacles)
    assert len(found) == 3
    assert max(share_in(world, third, s) for s in found) > 0.97


# ------------------------------------------------------------------ at a rate


class Finder:
    """Says what is true, in so many steps."""

    def __init__(self, world: World, steps: int = 4) -> None:
        self.world, self.steps, self.begun, self.taken = world, steps, [], 0
        self.fails = False

    def search(self, frame: RgbdFrame, _: EverythingConfig | None = None) -> Generator[float, None, Regions]:
        self.begun.append(frame.stamp_ns)
        for step in range(self.steps):
            self.taken += 1
            if self.fails:
                raise ValueError("the network is broken")
            yield (step + 1) / self.steps
        masks = masks_of(self.world.render()[1])
        regions = tuple(
            Region(i, mask, (0, 0, 1, 1), int(mask.sum()), 0.9, 0.9, (0.0, 0.0)) for i, mask in enumerate(masks, 1)
        )
        return Regions(frame.stamp_ns, frame.frame_id, frame.width, frame.height, regions)


@cache
def noisy(seed: int) -> RgbdFrame:
    return PAIR.frame(seed)[0]


def stamped(number: int, rate_hz: float = 10.0) -> RgbdFrame:
    return replace(noisy(number % 2), stamp_ns=10**9 + round(number * 1e9 / rate_hz))


def test_a_search_is_spread_over_its_period_and_the_next_one_follows() -> None:
    finder, obstacles = Finder(PAIR), ObstacleMap()
    schedule = RegionSchedule(finder.search)
    taken = []
    for number in range(14):  # 10 Hz; a picture is cut up every 0.5 s
        frame = stamped(number)
        obstacles.update(frame)
        schedule.advance(frame, obstacles, rate_hz=2.0)
        taken.append(finder.taken)
    assert taken[:6] == [1, 2, 3, 4, 4, 5]  # one with each frame is enough; the fifth frame takes the answer
    assert [round((stamp - 10**9) / 1e8) for stamp in finder.begun] == [0, 5, 10]


def test_a_long_search_takes_as_many_steps_as_are_due() -> None:
    finder, obstacles = Finder(PAIR, steps=20), ObstacleMap()
    schedule = RegionSchedule(finder.search)
    taken = []
    for number in range(7):
        frame = stamped(number)
        obstacles.update(frame)
        schedule.advance(frame, obstacles, rate_hz=2.0)
        taken.append(finder.taken)
    # A fifth of the period is a fifth of the search.
    assert taken == [1, 4, 8, 12, 16, 20, 20]


def test_perception_tells_things_apart_at_its_rate() -> None:
    finder = Finder(PAIR, steps=3)
    tracker: Any = SilentTracker()
    config = PerceptionConfig(navigation=NavigationConfig(everything_rate_hz=2.0))
    perception = Perception(config, tracker, finder)
    counts = [len(things(perception.step(stamped(number)).obstacles)) for number in range(10)]
    assert counts[0] == 1
    assert counts[-1] == 2
    assert len(finder.begun) == 2
    perception.reset()
    assert len(things(perception.step(stamped(0)).obstacles)) == 1


def test_a_search_that_fails_costs_a_period_and_nothing_else() -> None:
    finder = Finder(PAIR)
    finder.fails = True
    config = PerceptionConfig(navigation=NavigationConfig(everything_rate_hz=2.0))
    perception = Perception(config, SilentTracker(), finder)  # type: ignore[arg-type]
    failed: list[str] = []
    for number in range(4):
        scene = perception.step(stamped(number), on_error=lambda stage, error: failed.append(f"{stage}: {error}"))
        assert len(things(scene.obstacles)) == 1
    assert failed == ["everything mode: the network is broken"]
    finder.fails = False
    counts = [len(things(perception.step(stamped(number)).obstacles)) for number in range(4, 14)]
    assert counts[-1] == 2


class SilentTracker:
    """Tracks nothing."""

    object_ids: tuple[int, ...] = ()
    waiting: tuple[int, ...] = ()

    def step(self, rgb: np.ndarray, *_: Any) -> Any:
        none = np.zeros(0)
        return SimpleNamespace(
            ids=np.zeros(0, np.int64), masks=np.zeros((0, *rgb.shape[:2]), bool), scores=none, mask_scores=none,
            states=(), labels=(), last_seen_ns=none, rejected=(), notes=(), resting=(),
        )  # fmt: skip

    def judge(self, *_: Any) -> None:
        return None

    def reset(self) -> None:
        return None


# ------------------------------------------------------------------ real scenes


def test_labelled_objects_that_touch_become_obstacles_of_their_own(shared_data: Path) -> None:
    folder = shared_data / "stills_osd"
    from cv2 import IMREAD_UNCHANGED, imread

    settings = NavigationConfig(up_y=-1.0, up_z=-0.6)
    alone = {False: 0, True: 0}
    count = 0
    with open_source(folder) as source:
        for number, frame in enumerate(source):
            labels = imread(str(folder / "labels" / f"{number:06d}.png"), IMREAD_UNCHANGED)
            masks = [labels == i for i in np.unique(labels) if i >= 2]
            count += len(masks)
            for regions in (False, True):
                obstacles = ObstacleMap(settings)
                found = obstacles.update(frame, region_masks=masks if regions else []).obstacles
                alone[regions] += sum(is_alone(frame, mask, things(found)) for mask in masks)
    assert count == 33
    assert alone[True] > alone[False] + 5


def is_alone(frame: RgbdFrame, mask: np.ndarray, found: list[ObstacleSegment]) -> bool:
    """Whether an obstacle is this object, to four fifths both ways."""
    camera = frame.intrinsics
    for segment in found:
        pixels = np.rint(project(camera, segment.points)).astype(int)
        inside = mask[np.clip(pixels[:, 1], 0, frame.height - 1), np.clip(pixels[:, 0], 0, frame.width - 1)]
        whole = np.count_nonzero(mask & (frame.depth_m > 0)) / 9  # one pixel of 3 x 3 is in the obstacles
        if inside.mean() > 0.8 and np.count_nonzero(inside) > 0.8 * whole * 0.8:
            return True
    return False
