"""The instruments: what they measure is checked against what is known."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sam_perception.benchmarks.contenders import ours, theirs
from sam_perception.benchmarks.limits import Rates, limit, measure_rates, operations
from sam_perception.benchmarks.memory import Growth, measure_growth
from sam_perception.benchmarks.models import benchmark_model, tiny_config
from sam_perception.benchmarks.pictures import boxes, pictures, rgbd_scene
from sam_perception.benchmarks.plot import bench_picture
from sam_perception.benchmarks.race import Race, race
from sam_perception.benchmarks.stages import REST, STAGES, Shares, shares
from sam_perception.benchmarks.syncs import waiting_operations
from sam_perception.benchmarks.timing import EventClock, HostClock, cpu_cost, timed_ms
from sam_perception.config import GeometryConfig
from sam_perception.errors import ConfigError, PerceptionError
from sam_perception.geometry import lift_scene

SMALL = "small@64"


@pytest.fixture(scope="module")
def model() -> Any:
    return benchmark_model(SMALL, "cpu", "auto")


class FakeGpu:
    """A queue whose time passes only when it is worked off; events come into being as CUDA's do."""

    def __init__(self) -> None:
        self.now_ms, self.queue, self.waits = 0.0, [], 0

    def launch(self, takes_ms: float) -> None:
        self.queue.append(takes_ms)

    def make_event(self) -> FakeEvent:
        return FakeEvent(self)

    def synchronize(self) -> None:
        self.waits += 1
        for item in self.queue:
            if isinstance(item, FakeEvent):
                item.at_ms = self.now_ms
            else:
                self.now_ms += item
        self.queue.clear()


class FakeEvent:
    def __init__(self, gpu: FakeGpu) -> None:
        self._gpu, self.at_ms = gpu, None

    def record(self) -> None:
        self._gpu.queue.append(self)

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self.at_ms is not None, "asked for before the queue was worked off"
        return end.at_ms - self.at_ms


def test_gpu_time_is_the_queues_and_not_the_hosts() -> None:
    gpu = FakeGpu()
    clock = EventClock(gpu.make_event, gpu.synchronize)
    gpu.launch(50.0)  # from before: does not count
    assert timed_ms(clock, lambda: gpu.launch(7.0)) == 7.0
    start = clock.mark()
    gpu.launch(2.0)
    middle = clock.mark()
    gpu.launch(3.0)
    end = clock.mark()
    before = gpu.waits
    clock.finish()
    assert gpu.waits == before + 1
    assert (clock.between_ms(start, middle), clock.between_ms(middle, end)) == (2.0, 3.0)


def test_host_time_is_that_of_the_call() -> None:
    assert timed_ms(HostClock(), lambda: None) < timed_ms(HostClock(), lambda: sum(range(3_000_000)))
    cost = cpu_cost("sums", lambda: sum(range(100_000)), repeats=5)
    assert 0 < cost.least_ms <= cost.median_ms


def test_both_sides_track_the_same_objects_to_nearly_the_same_masks(model: Any) -> None:
    sides = ours(model, 2), theirs(model, 2)
    for picture in pictures(4):
        mine, (masks, _) = (step(picture) for step in sides)
        assert mine.masks.shape == masks.shape == (2, 480, 640)
        assert 0.0 < mine.masks.mean() < 1.0
        assert np.mean(mine.masks == masks) > 0.99


def test_a_race_measures_both_sides(model: Any) -> None:
    (one,) = race(SMALL, model, [2], frames=2, warm_up=1)
    assert (one.model, one.objects) == (SMALL, 2)
    assert one.ours_ms > 0
    assert one.ratio == one.theirs_ms / one.ours_ms


def test_shares_add_up_to_the_step(model: Any) -> None:
    found = shares(SMALL, model, 2, frames=1, warm_up=2)
    assert set(found.stages_ms) == {*STAGES.values(), REST}
    assert all(took > 0 for took in found.stages_ms.values())


def test_operations_grow_with_objects_and_less_than_transformers(model: Any) -> None:
    rates = Rates(flops=1e9, bytes=1e9)
    one, four = (limit(SMALL, model, count, rates, warm_up=8) for count in (1, 4))
    assert one.ours_flop < four.ours_flop < 4 * one.ours_flop
    assert four.ours_flop < four.theirs_flop
    assert four.compute_ms == pytest.approx(four.ours_flop / 1e6)
    assert four.weight_bytes == sum(p.numel() * 4 for p in model.parameters())
    assert four.least_ms == max(four.compute_ms, four.memory_ms)


def test_operations_are_those_of_the_arithmetic() -> None:
    left, right = torch.randn(30, 40), torch.randn(40, 50)
    assert operations(lambda _: left @ right, warm_up=0) == 2 * 30 * 40 * 50
    query = torch.randn(1, 2, 16, 8)
    attention = torch.nn.functional.scaled_dot_product_attention
    assert operations(lambda _: attention(query, query, query), warm_up=0) == 2 * 2 * (2 * 16 * 16 * 8)


def test_rates_are_plausible() -> None:
    rates = measure_rates(torch.device("cpu"), torch.float32)
    assert 1e8 < rates.flops < 1e14
    assert 1e7 < rates.bytes < 1e13


def test_a_step_waits_for_nothing_but_its_masks(model: Any) -> None:
    step, (first, *middle, last) = ours(model, 3), pictures(6)
    step(first)
    for picture in middle:
        step(picture)
    assert waiting_operations(lambda: step(last)) == {}


@pytest.mark.parametrize(
    ("work", "name"),
    [
        (lambda t: t.sum().item(), "_local_scalar_dense"),
        (lambda t: float(t[0]), "_local_scalar_dense"),
        (lambda t: bool((t > 0).any()), "_local_scalar_dense"),
        (lambda t: t.nonzero(), "nonzero"),
        (lambda t: t[t > 0], "index by a mask"),
        (lambda t: torch.equal(t, t), "equal"),
        (lambda t: t.repeat_interleave(torch.ones(4, dtype=torch.int64)), "repeat_interleave"),
    ],
)
def test_hidden_waits_are_found(work: Callable[[torch.Tensor], Any], name: str) -> None:
    assert name in waiting_operations(lambda: work(torch.arange(4.0)))


def test_what_does_not_wait_is_not_called_so() -> None:
    values = torch.arange(4.0)
    assert (
        waiting_operations(lambda: (values @ values, values[torch.tensor([1, 2])], values.repeat_interleave(2))) == {}
    )


def test_models_are_made_by_their_names() -> None:
    config = tiny_config(1024)
    assert config.vision_config.backbone_config.embed_dim_per_stage == [96, 192, 384, 768]  # as published
    for wrong in ("huge@64", "tiny@100", "tiny@x", "tiny@0"):
        with pytest.raises(ConfigError, match="multiple of 32"):
            benchmark_model(wrong, "cpu", "auto")


def test_the_scene_has_the_objects_that_are_asked_for() -> None:
    frame, scene = rgbd_scene(8, 20_000)
    assert frame.rgb.shape == (480, 640, 3)
    assert [round(track.mask.sum() / 20_000, 2) for track in scene.objects] == [1.0] * 8
    assert not np.any(sum(track.mask.astype(int) for track in scene.objects) > 1)
    lifted = lift_scene(frame, scene, GeometryConfig())
    assert all(track.box is not None and 0.9 < track.lifted.valid_depth_share < 1 for track in lifted.objects)
    assert len({prompt.object_id for prompt in boxes(16)}) == 16
    assert all(0 <= x <= 640 and 0 <= y <= 480 for p in boxes(16) for x, y in (p.box[:2], p.box[2:]))


def test_memory_is_that_of_another_process() -> None:
    seen: list[int] = []
    growth = measure_growth("ours", SMALL, 1, (2, 4), on_frame=seen.append)
    assert growth.frames == (2, 4)
    assert all(50 < mib < 20_000 for mib in growth.mib)
    assert Growth("ours", SMALL, 1, (20, 200), (100.0, 101.0)).change(20, 200) == pytest.approx(0.01)


@pytest.mark.slow
def test_a_process_that_dies_is_reported() -> None:
    with pytest.raises(PerceptionError, match="ended with code 1 after 0 of 4 frames"):
        measure_growth("ours", "huge@64", 1, (2, 4))


def test_the_picture_is_well_formed_and_shows_what_was_measured() -> None:
    races = [Race("nano <1>", n, 10.0 * n, 20.0 * n) for n in (1, 2, 4)]
    stages = [Shares("nano", 2, dict.fromkeys((*dict.fromkeys(STAGES.values()), REST), 2.0))]
    growths = [Growth(side, SMALL, 2, (20, 200), (100.0, 110.0)) for side in ("ours", "transformers")]
    root = ElementTree.fromstring(bench_picture(races, stages, growths))  # noqa: S314 - our own
    text = " ".join(element.text or "" for element in root.iter())
    for wanted in ("nano <1>: frames per second", "shares of a step", "nano, 2 objects", "memory of the process"):
        assert wanted in text
    assert bench_picture(races, (), ()).count("<svg") == 3  # the document, a place, the plot
