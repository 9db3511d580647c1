"""The instruments: what they measure is checked against what is known."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sam_perception.benchmarks import memory
from sam_perception.benchmarks.busy import Busy, busy, intervals, union_ms
from sam_perception.benchmarks.contenders import compiled, ours, theirs
from sam_perception.benchmarks.limits import Rates, limit, measure_rates, operations
from sam_perception.benchmarks.memory import Growth, measure_growth
from sam_perception.benchmarks.models import benchmark_model, require_model, tiny_config
from sam_perception.benchmarks.pictures import boxes, pictures, rgbd_scene
from sam_perception.benchmarks.plot import bench_picture
from sam_perception.benchmarks.race import Race, race
from sam_perception.benchmarks.stages import REST, STAGES, Shares, shares
from sam_perception.benchmarks.syncs import waiting_operations
from sam_perception.benchmarks.timing import EventClock, HostClock, clock_of, cpu_cost, timed, timed_ms
from sam_perception.config import GeometryConfig
from sam_perception.errors import ConfigError, PerceptionError
from sam_perception.geometry import lift_scene
from sam_perception.segmentation.network import Network

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

    def put_event(self) -> FakeEvent:
        self.queue.append(FakeEvent())
        return self.queue[-1]

    def synchronize(self) -> None:
        self.waits += 1
        for item in self.queue:
            if isinstance(item, FakeEvent):
                item.at_ms = self.now_ms
            else:
                self.now_ms += item
        self.queue.clear()


class FakeEvent:
    def __init__(self) -> None:
        self.at_ms = None

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self.at_ms is not None, "asked for before the queue was worked off"
        return end.at_ms - self.at_ms


def test_gpu_time_is_the_queues_and_not_the_hosts() -> None:
    gpu = FakeGpu()
    clock = EventClock(gpu.put_event, gpu.synchronize)
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


def test_the_clock_of_a_gpu_looks_at_that_gpu_and_not_at_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    second, seen = torch.device("cuda", 1), []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            seen.append(stream)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: seen.append(f"wait for {device}"))
    clock = clock_of(second)
    clock.mark()
    clock.finish()
    assert seen == ["stream of cuda:1", "wait for cuda:1"]


def test_cpu_time_is_that_of_the_process_and_not_of_waiting() -> None:
    asleep, awake = threading.Event(), 3_000_000
    waited = timed(HostClock(), lambda: asleep.wait(0.2))
    worked = timed(HostClock(), lambda: sum(range(awake)))
    assert waited.ms >= 200 > 100 > waited.cpu_ms
    assert worked.cpu_ms > waited.cpu_ms


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
    told: list[Race] = []
    found = race(SMALL, model, [2, 1], frames=2, warm_up=1, on_row=lambda r: told.append(r))
    one = found[0]
    assert (one.model, one.objects) == (SMALL, 2)
    assert one.ours_ms > 0
    assert one.ratio == one.theirs_ms / one.ours_ms
    assert one.cpu_ratio == one.theirs_cpu_ms / one.ours_cpu_ms > 0
    assert told == found


def test_random_weights_are_the_same_whenever_they_are_made() -> None:
    first, second = (benchmark_model(SMALL, "cpu", "auto").state_dict() for _ in range(2))
    assert [name for name, value in first.items() if not torch.equal(value, second[name])] == []


def test_both_sides_run_in_half_precision() -> None:
    half = benchmark_model(SMALL, "cpu", "bfloat16")
    mixed = {parameter.dtype for parameter in half.parameters()}
    assert mixed == {torch.bfloat16, torch.float32}  # coordinates are encoded in float32
    picture = pictures(1)[0]
    masks, _ = theirs(half, 2)(picture)
    assert np.mean(ours(half, 2)(picture).masks == masks) > 0.9
    assert {parameter.dtype for parameter in half.parameters()} == mixed  # as it was
    (row,) = race(SMALL, half, [2], frames=1, warm_up=1)
    assert row.ratio > 0
    cost = limit(SMALL, half, 2, Rates(1e9, 1e9), warm_up=2)
    assert 0 < cost.ours_flop < cost.theirs_flop


def test_a_compiled_model_is_measured_as_ours(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def called(*tensors: Any) -> Any:
            calls.append(function)
            return function(*tensors)

        return called

    calls: list[Any] = []
    told: list[str] = []
    monkeypatch.setattr(torch, "compile", count)
    backend = compiled(model, 2, told.append)
    assert any("2 of 2 objects" in line for line in told)
    warming = len(calls)
    assert warming > 0
    (one,) = race(SMALL, model, [2], frames=1, warm_up=2, backend=backend)
    assert one.ours_ms > 0
    raced = len(calls)
    assert raced > warming
    assert shares(SMALL, model, 2, frames=1, warm_up=2, backend=backend).total_ms > 0
    assert len(calls) > raced


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


@pytest.mark.parametrize("inference", [False, True])  # a step runs in inference mode
@pytest.mark.parametrize(
    ("work", "name"),
    [
        (lambda t: t.sum().item(), "_local_scalar_dense"),
        (lambda t: float(t[0]), "_local_scalar_dense"),
        (lambda t: bool((t > 0).any()), "_local_scalar_dense"),
        (lambda t: int(t[1].int()), "_local_scalar_dense"),
        (lambda t: torch.full((2,), t[1]), "_local_scalar_dense"),
        (lambda t: torch.allclose(t, t), "allclose"),
        (lambda t: t.nonzero(), "nonzero"),
        (lambda t: torch.argwhere(t > 1), "nonzero"),
        (lambda t: torch.where(t > 1), "nonzero"),
        (lambda t: t.unique(), "_unique2"),
        (lambda t: t.__setitem__(t > 1, 0.0), "index_put_ by a mask"),
        (lambda t: t[t > 0], "index by a mask"),
        (lambda t: torch.equal(t, t), "equal"),
        (lambda t: t.repeat_interleave(torch.ones(4, dtype=torch.int64)), "repeat_interleave"),
    ],
)
def test_hidden_waits_are_found(work: Callable[[torch.Tensor], Any], name: str, inference: bool) -> None:
    with torch.inference_mode(inference):
        assert name in waiting_operations(lambda: work(torch.arange(4.0)))


@pytest.mark.parametrize("inference", [False, True])
def test_what_does_not_wait_is_not_called_so(inference: bool) -> None:
    with torch.inference_mode(inference):
        v = torch.arange(4.0)
        assert waiting_operations(lambda: (v @ v, v[torch.tensor([1, 2])], v.repeat_interleave(2), v.to(v.dtype))) == {}


@pytest.mark.parametrize(
    ("wait", "name"),
    [
        (lambda decoded: bool((decoded.score_logits > 0).all()), "_local_scalar_dense"),
        (lambda decoded: torch.argwhere(decoded.score_logits > 0), "nonzero"),
    ],
)
def test_a_wait_within_a_step_is_found(
    wait: Callable[[Any], Any], name: str, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Network.decode

    def waiting(self: Network, *args: Any, **options: Any) -> Any:
        decoded = decode(self, *args, **options)
        wait(decoded)
        return decoded

    monkeypatch.setattr(Network, "decode", waiting)
    step, (first, last) = ours(model, 2), pictures(2)
    step(first)
    assert waiting_operations(lambda: step(last)) == {name: 1}


def test_models_are_made_by_their_names() -> None:
    config = tiny_config(1024)
    assert config.vision_config.backbone_config.embed_dim_per_stage == [96, 192, 384, 768]  # as published
    for wrong in ("huge@64", "tiny@100", "tiny@x", "tiny@0"):
        with pytest.raises(ConfigError, match="multiple of 32"):
            require_model(wrong)


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


class FakePipe:
    def __init__(self) -> None:
        self.sent: list[tuple[int, Any]] = []

    def send(self, row: tuple[int, Any]) -> None:
        self.sent.append(row)

    def close(self) -> None:
        pass


def test_memory_is_that_of_the_number_format_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def make(*what: str) -> Any:
        asked.append(what)
        return benchmark_model(*what)

    monkeypatch.setattr(memory, "benchmark_model", make)
    entered: list[torch.device] = []
    monkeypatch.setattr(memory, "on_device", lambda device: entered.append(device) or nullcontext())
    pipe = FakePipe()
    memory._stream(pipe, "transformers", SMALL, 1, (2,), "cpu", "bfloat16", False, torch.get_num_threads())
    assert asked == [(SMALL, "cpu", "bfloat16")]
    assert entered == [torch.device("cpu")]
    ((frame, sizes),) = pipe.sent
    assert (frame, len(sizes)) == (2, 1)


def test_memory_of_a_gpu_is_reported_beside_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    second = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: (3 << 20) if device == second else 0)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: (5 << 20) if device == second else 0)
    assert memory._on_gpu(second) == (3.0, 5.0)
    assert memory._on_gpu(torch.device("cpu")) == ()
    growth = memory.growth_of("ours", SMALL, 1, {200: (102.0, 8.0, 9.0), 20: (100.0, 4.0, 9.0)})
    assert growth == Growth("ours", SMALL, 1, (20, 200), (100.0, 102.0), (4.0, 8.0), (9.0, 9.0))
    assert growth.change(20, 200) == 1.0  # of what tensors take there


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


def test_every_stream_has_a_plot_of_its_own_and_a_gpu_another() -> None:
    growths = [
        Growth(side, model, 2, (20, 200), (100.0, 110.0), gpu, gpu)
        for model, gpu in (("a & b", ()), ("c", (1.0, 2.0)))
        for side in ("ours", "transformers")
    ]
    stages = [Shares("a & b", 2, dict.fromkeys((*dict.fromkeys(STAGES.values()), REST), 2.0))]
    root = ElementTree.fromstring(bench_picture((), stages, growths))  # noqa: S314 - our own
    titles = [e.text for e in root.iter() if e.get("class") == "title"]
    assert titles == [
        "a & b, 2 objects: memory of the process, MiB",
        "c, 2 objects: memory of tensors on the GPU, MiB",
        "c, 2 objects: memory of the process, MiB",
        "shares of a step",
    ]


def test_what_runs_at_once_on_the_device_counts_once() -> None:
    assert union_ms([]) == 0.0
    assert union_ms([(5e3, 6e3), (0, 2e3), (1e3, 3e3), (1e3, 1.5e3)]) == 4.0
    assert Busy("m", 1, step_ms=8.0, busy_ms=2.0).share == 0.25


def test_of_the_profilers_events_those_count_that_ran_on_the_device() -> None:
    def event(kind: str, device: int, start: float, *, named: bool = False, name: str = "aten::mm") -> Any:
        return SimpleNamespace(
            device_type=SimpleNamespace(name=kind),
            device_index=device,
            is_user_annotation=named,
            name=name,
            time_range=SimpleNamespace(start=start, end=start + 1),
        )

    events = [
        event("CUDA", 0, 1),
        event("CUDA", 1, 2, name="gemm"),
        event("CUDA", 1, 3, named=True),
        event("CPU", 0, 4),
        event("CPU", 0, 5, name="cudaLaunchKernel"),
    ]
    assert intervals(events, torch.device("cuda", 1)) == [(2, 3)]
    assert intervals(events, torch.device("cuda")) == [(1, 2), (2, 3)]
    assert intervals(events, torch.device("cpu")) == [(4, 5)]


def test_busy_time_is_measured_beside_the_time_of_a_step(model: Any) -> None:
    # On a CPU operators stand for kernels, so that the way through torch.profiler is the one of a GPU.
    found = busy(SMALL, model, 2, frames=2, warm_up=2)
    assert (found.model, found.objects) == (SMALL, 2)
    assert found.step_ms > 0
    assert found.busy_ms > 0.1 * found.step_ms
