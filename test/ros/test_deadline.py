"""The controller that keeps a rate, on simulated step times."""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from sam_perception.config import NavigationConfig, PerceptionConfig
from sam_perception.ros import diagnosis
from sam_perception.ros.deadline import RUNGS, TOP, Deadline, Plan
from sam_perception.ros.worker import LatestWorker

IDS = (3, 5, 8, 11, 12, 20)
PERIOD_MS = 100.0


def machine(base: float, per_object: float, secondary: float) -> Callable[[Plan], float]:
    """Milliseconds of work for what a plan asks."""

    def work(plan: Plan) -> float:
        objects = len(IDS) if plan.only is None else len(plan.only)
        extra = (secondary * (0.3 if plan.fewer_pixels else 1.0)) if plan.secondary else 0.0
        return base + per_object * objects + extra

    return work


def run(deadline: Deadline, work: Callable[[Plan], float], frames: int) -> tuple[list[Plan], list[float], list[str]]:
    plans, spent, said = [], [], []
    for _ in range(frames):
        plan = deadline.plan(IDS)
        plans.append(plan)
        spent.append(work(plan))
        change = deadline.spent(spent[-1])
        if change:
            said.append(change)
    return plans, spent, said


def test_without_a_target_everything_is_always_done() -> None:
    deadline = Deadline(0.0)
    plans, _, said = run(deadline, machine(1e4, 1e3, 1e3), 50)
    assert set(plans) == {Plan()}
    assert said == []


def test_a_fast_machine_is_left_alone() -> None:
    plans, _, said = run(Deadline(10.0), machine(20, 5, 20), 200)
    assert all(plan.secondary and plan.only is None and not plan.fewer_pixels for plan in plans)
    assert said == []


@pytest.mark.parametrize(
    ("load", "rung"),
    [
        ((40, 5, 60), 1),  # 130 ms; with fewer pixels 88
        ((60, 5, 80), 2),  # 170; 114; in every third frame 90 and twice that without
        ((40, 15, 20), 3),  # 150; 136; 132; half the objects: 85
        ((60, 16, 0.3), 4),  # 156; a third of the objects: 92
    ],
)
def test_the_least_rung_that_keeps_the_rate_is_found_and_kept(load: tuple[float, float, float], rung: int) -> None:
    deadline = Deadline(1e3 / PERIOD_MS)
    plans, spent, said = run(deadline, machine(*load), 400)
    assert plans[-1].rung == rung
    assert sum(spent[-60:]) / 60 <= PERIOD_MS
    assert deadline.report().kept
    assert len(said) == rung == deadline.report().changes
    assert all("target_rate_hz leaves them 100 ms" in text for text in said)


def test_turns_are_fair_and_disjoint() -> None:
    deadline = Deadline(1e3 / PERIOD_MS)
    plans, _, _ = run(deadline, machine(60, 16, 0), 130)
    last = [plan.only for plan in plans[-12:]]
    assert Counter(i for only in last for i in only) == dict.fromkeys(IDS, 4)
    assert all(set(a) | set(b) | set(c) == set(IDS) for a, b, c in zip(last, last[1:], last[2:], strict=False))


def test_a_rung_is_given_back_when_there_is_room_again_and_not_before() -> None:
    deadline = Deadline(1e3 / PERIOD_MS)
    run(deadline, machine(60, 16, 20), 100)
    assert deadline.report().rung == TOP
    plans, _, said = run(deadline, machine(30, 3, 10), 20)
    assert {plan.rung for plan in plans} == {TOP}
    run(deadline, machine(30, 3, 10), 300)
    assert deadline.report().rung == 0
    assert said == []


def test_one_slow_frame_changes_nothing() -> None:
    deadline = Deadline(1e3 / PERIOD_MS)
    for number in range(120):
        deadline.plan(IDS)
        assert deadline.spent(2_000.0 if number % 10 == 9 else 60.0) == ""


def test_a_load_between_two_rungs_makes_it_change_ever_more_seldom() -> None:
    """All objects: 110 ms; in turns 60 ms, which looks like room for all."""
    deadline = Deadline(1e3 / PERIOD_MS)
    _, _, early = run(deadline, machine(10, 100 / 6, 0), 400)
    run(deadline, machine(10, 100 / 6, 0), 1600)
    _, _, late = run(deadline, machine(10, 100 / 6, 0), 400)
    assert len(late) <= 2 < len(early)


def test_rungs_that_save_nothing_are_passed_over() -> None:
    deadline = Deadline(1e3 / PERIOD_MS)
    for _ in range(12):
        deadline.plan(IDS, secondary_wanted=False)
        deadline.spent(150.0)
    assert deadline.report().rung == 4
    alone = Deadline(1e3 / PERIOD_MS)
    for _ in range(60):
        assert alone.plan([7]).only is None
        alone.spent(150.0)
    assert alone.report().rung == 2
    status = diagnosis.diagnose_deadline(alone.report())
    assert status.level == diagnosis.WARN
    assert "take a smaller model" in status.message


def test_settings_are_coarser_on_the_first_rung_and_the_same_object_every_time() -> None:
    deadline, config = Deadline(10.0), PerceptionConfig(navigation=NavigationConfig(pixel_step=3))
    assert deadline.settings(config, Plan()) is config
    coarse = deadline.settings(config, Plan(1, fewer_pixels=True))
    assert coarse.navigation.pixel_step == 6
    assert deadline.settings(config, Plan(1, fewer_pixels=True)) is coarse
    assert deadline.settings(PerceptionConfig(), Plan(2, fewer_pixels=True)) is not coarse


def test_diagnostics_say_what_is_done() -> None:
    deadline = Deadline(1e3 / PERIOD_MS)
    assert diagnosis.diagnose_deadline(deadline.report()).level == diagnosis.OK
    run(deadline, machine(40, 5, 60), 100)
    status = diagnosis.diagnose_deadline(deadline.report())
    assert status.level == diagnosis.WARN
    assert status.message == RUNGS[1]
    assert status.values["target rate Hz"] == "10"
    assert diagnosis.diagnose_deadline(Deadline(0).report()).level == diagnosis.OK


@pytest.mark.parametrize("inference_ms", [90.0, 91.0, 119.0])
def test_a_camera_three_times_as_fast_as_the_model_makes_no_backlog(inference_ms: float) -> None:
    """The node's worker under a simulated clock: how old is a frame when its result is published?"""
    camera_ms, taken, release = 30.0, queue.Queue[int](), queue.Queue[None]()

    def handle(stamp_ms: int) -> None:
        taken.put(stamp_ms)
        release.get(timeout=60)

    errors: list[Exception] = []
    worker: LatestWorker[int] = LatestWorker(handle, errors.append, "simulated inference")
    now_ms, offered, ages_ms = 0.0, 0, []
    worker.offer(0)
    for _ in range(100):
        stamp_ms = taken.get(timeout=60)
        now_ms += inference_ms
        while (offered + 1) * camera_ms <= now_ms:
            offered += 1
            worker.offer(int(offered * camera_ms))
        ages_ms.append(now_ms - stamp_ms)
        release.put(None)
    taken.get(timeout=60)
    release.put(None)
    assert worker.stop(60)
    assert errors == []
    assert np.percentile(ages_ms, 99) < 2 * inference_ms + camera_ms
    assert max(ages_ms) <= inference_ms + camera_ms
