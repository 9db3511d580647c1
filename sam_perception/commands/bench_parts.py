"""The parts of `sam-perception bench`: each measures, and says its tables and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from sam_perception.errors import ConfigError

Rows = Sequence[Sequence[str]]
Bar = Callable[[str], Callable[..., object]]  # a title to what is called after each frame
LIMIT_NOTE = "(least: the same floating-point operations at the rate of a large matrix product here)"


@dataclass(frozen=True)
class BenchPlan:
    """What is measured, and how long."""

    device: str
    dtype: str
    models: Sequence[str]
    objects: Sequence[int]
    frames: int  # measured per number of objects
    warm_up: int
    memory_objects: int
    long_frames: int  # the last at which the tracker part looks at memory
    soak_model: str
    soak_at: Sequence[int]  # frames of the memory part: ours
    soak_their_at: Sequence[int]
    node_frames: int
    node_objects: int
    repeats: int
    threads: int
    log: Path = field(default_factory=lambda: Path(gettempdir()) / "sam_perception_bench_node.log")

    def memory_at(self, model: str) -> tuple[int, int]:
        """Frames after which the tracker part looks at memory; fewer where a CPU would take half an hour."""
        slow = model.endswith("@1024") and not self.device.startswith("cuda")
        return 20, min(self.long_frames, 60) if slow else self.long_frames


@dataclass(frozen=True)
class Table:
    """For the terminal."""

    title: str
    header: Sequence[str]
    rows: Rows
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Part:
    """What one part has found."""

    name: str
    tables: Sequence[Table]
    data: dict[str, Any]  # for json
    series: dict[str, Any] = field(default_factory=dict)


def tracker_part(plan: BenchPlan, bar: Bar) -> Part:
    """Ours against transformers' session: speed by number of objects, memory over a stream."""
    from sam_perception.benchmarks.memory import measure_growth
    from sam_perception.benchmarks.models import benchmark_model
    from sam_perception.benchmarks.race import race

    races = []
    for spec in plan.models:
        model = benchmark_model(spec, plan.device, plan.dtype)
        races += race(spec, model, plan.objects, plan.frames, warm_up=plan.warm_up, on_frame=bar(f"tracker {spec}"))
        del model
    growths = [
        measure_growth(
            side,
            spec,
            plan.memory_objects,
            plan.memory_at(spec),
            device=plan.device,
            threads=plan.threads,
            on_frame=bar(f"memory {spec}, {side}"),
        )
        for spec in plan.models
        for side in ("ours", "transformers")
    ]
    speed = Table(
        "tracker: medians of frames that both had in turn, equal weights",
        ("model", "objects", "ours ms", "FPS", "transformers ms", "FPS", "times faster"),
        [
            (r.model, str(r.objects), f"{r.ours_ms:.1f}", f"{1e3 / r.ours_ms:.2f}", f"{r.theirs_ms:.1f}",
             f"{1e3 / r.theirs_ms:.2f}", f"{r.ratio:.2f}")
            for r in races
        ],
    )  # fmt: skip
    memory = growth_table(f"memory of the process, {plan.memory_objects} objects", growths)
    data = {"races": [{**asdict(r), "ratio": r.ratio} for r in races], "growth": [asdict(g) for g in growths]}
    return Part("tracker", [speed, memory], data, {"races": races})


def growth_table(title: str, growths: Sequence[Any]) -> Table:
    """Resident memory after some numbers of frames."""
    return Table(
        title,
        ("model", "side", "MiB after frames", "change"),
        [
            (g.model, g.side, ", ".join(f"{n}: {mib:.0f}" for n, mib in zip(g.frames, g.mib, strict=True)),
             f"{100 * g.change(g.frames[0] if len(g.frames) < 3 else g.frames[1], g.frames[-1]):+.2f} %")
            for g in growths
        ],
        notes=["change: of the last number against the one after 200 frames, or the first"],
    )  # fmt: skip


def stages_part(plan: BenchPlan, bar: Bar) -> Part:
    """Where a step's time goes, what the operations alone would take, and what waits for the device."""
    from sam_perception.benchmarks.contenders import ours
    from sam_perception.benchmarks.limits import limit, measure_rates
    from sam_perception.benchmarks.models import benchmark_model
    from sam_perception.benchmarks.pictures import pictures
    from sam_perception.benchmarks.stages import shares
    from sam_perception.benchmarks.syncs import cuda_waits, waiting_operations

    found, limits, waits, rates = [], [], {}, None
    counts = sorted({min(plan.objects), max(n for n in plan.objects if n <= 8 or n == min(plan.objects))})
    for spec in plan.models:
        model, step = benchmark_model(spec, plan.device, plan.dtype), bar(f"stages {spec}")
        rates = measure_rates(model.device, model.dtype)
        for count in counts:
            found.append(shares(spec, model, count, plan.frames, warm_up=plan.warm_up, on_frame=step))
            limits.append(limit(spec, model, count, rates, warm_up=plan.warm_up))
        live = ours(model, counts[0])
        *before, last = pictures(4)
        for picture in before:
            live(picture)
        waits[spec] = waiting_operations(lambda live=live, last=last: live(last))  # type: ignore[misc]
        if model.device.type == "cuda":
            waits[spec]["torch's own count"] = cuda_waits(lambda live=live, last=last: live(last))  # type: ignore[misc]
        del model, live
    names = list(found[0].stages_ms)
    table = Table(
        "stages: milliseconds per frame, and shares",
        ("model", "objects", *names, "together"),
        [
            (s.model, str(s.objects), *(f"{s.stages_ms[n]:.1f} ({100 * s.stages_ms[n] / s.total_ms:.0f} %)"
             for n in names), f"{s.total_ms:.1f}")
            for s in found
        ],
    )  # fmt: skip
    least = Table(
        "limits: what the operations alone would take",
        ("model", "objects", "GFLOP ours", "transformers", "at GEMM rate ms", "weights ms", "measured ms", "share"),
        [
            (x.model, str(x.objects), f"{x.ours_flop / 1e9:.2f}", f"{x.theirs_flop / 1e9:.2f}", f"{x.compute_ms:.2f}",
             f"{x.memory_ms:.2f}", f"{s.total_ms:.1f}", f"{100 * x.least_ms / s.total_ms:.0f} %")
            for x, s in zip(limits, found, strict=True)
        ],
        notes=[LIMIT_NOTE, *(f"{spec}: operations of a step that wait for the device: {w or 'none'}"
                             for spec, w in waits.items())],
    )  # fmt: skip
    data = {
        "stages": [asdict(s) for s in found],
        "limits": [asdict(x) for x in limits],
        "waits": waits,
        "rates": asdict(rates) if rates else {},
    }
    return Part("stages", [table, least], data, {"shares": found})


def pipeline_part(plan: BenchPlan, bar: Bar) -> Part:
    """Everything but the model, on one core."""
    del bar
    import cv2

    from sam_perception.ros.bench_frame import LIMIT_MS, OBJECTS, PIXELS, frame_costs, overlay_cost

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        costs, overlay = frame_costs(plan.repeats), overlay_cost(max(5, plan.repeats // 2))
    finally:
        cv2.setNumThreads(threads)
    least, median = (sum(getattr(c, kind) for c in costs) for kind in ("least_ms", "median_ms"))
    rows = [(c.name, f"{c.least_ms:.3f}", f"{c.median_ms:.3f}") for c in costs]
    rows += [
        (f"together (is to stay under {LIMIT_MS:.0f})", f"{least:.2f}", f"{median:.2f}"),
        (f"{overlay.name}, where somebody watches", f"{overlay.least_ms:.2f}", f"{overlay.median_ms:.2f}"),
    ]
    table = Table(
        f"pipeline: CPU milliseconds of one core per 640 x 480 frame, {OBJECTS} objects of {PIXELS} pixels",
        ("what", "least", "median"),
        rows,
        notes=["least of many: the nearest to an idle machine that a busy one shows"],
    )
    data = {"costs": [asdict(c) for c in costs], "least_ms": least, "median_ms": median, "limit_ms": LIMIT_MS,
            "overlay": asdict(overlay)}  # fmt: skip
    return Part("pipeline", [table], data)


def node_part(plan: BenchPlan, bar: Bar) -> Part:
    """The real node in its own process, over DDS."""
    from sam_perception.ros.bench_node import node_latency

    settings = {"model": plan.models[0], "device": plan.device, "max_objects": max(8, plan.node_objects)}
    if "@" in plan.models[0]:
        raise ConfigError(f"the node has no model {plan.models[0]!r}: put a model with weights first in --models")
    calm, rushed = node_latency(
        plan.node_objects, 30.0, plan.node_frames, settings, plan.log, on_frame=bar("node over DDS")
    )
    rows = [
        (name, f"{x.rate_hz:.1f}", str(x.sent), str(x.answered),
         f"{x.p50_ms:.0f}", f"{x.p95_ms:.0f}", f"{x.p99_ms:.0f}",
         "-" if x.bound_ms != x.bound_ms else f"{x.bound_ms:.0f}: {'kept' if x.within else 'NOT KEPT'}")
        for name, x in (("frame by frame", calm), ("camera three times as fast as the node", rushed))
    ]  # fmt: skip
    table = Table(
        f"node: milliseconds from the camera's stamp to ~/objects over DDS, {plan.models[0]}, "
        f"{plan.node_objects} objects",
        ("pace", "camera Hz", "sent", "answered", "p50", "p95", "p99", "p99 is to be below"),
        rows,
        notes=["the bound: two times what the node takes for a frame, and one camera period"],
    )
    return Part("node", [table], {"calm": asdict(calm), "rushed": asdict(rushed)})


def memory_part(plan: BenchPlan, bar: Bar) -> Part:
    """A long stream: ours stays, transformers' grows."""
    from sam_perception.benchmarks.memory import measure_growth

    growths = [
        measure_growth(
            side,
            plan.soak_model,
            plan.memory_objects,
            at,
            device=plan.device,
            threads=plan.threads,
            on_frame=bar(f"memory, {side}"),
        )
        for side, at in (("ours", plan.soak_at), ("transformers", plan.soak_their_at))
    ]
    table = growth_table(f"memory of the process over a long stream, {plan.memory_objects} objects", growths)
    return Part("memory", [table], {"growth": [asdict(g) for g in growths]}, {"growth": growths})


PARTS: dict[str, Callable[[BenchPlan, Bar], Part]] = {
    "tracker": tracker_part,
    "stages": stages_part,
    "pipeline": pipeline_part,
    "node": node_part,
    "memory": memory_part,
}
