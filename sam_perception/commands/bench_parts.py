"""The parts of `sam-perception bench`: each measures, and says its tables and its numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from sam_perception.commands.bench_plan import BenchPlan, Part, Progress, Table
from sam_perception.commands.bench_stages import stages_part
from sam_perception.commands.bench_tracker import memory_part, tracker_part


def pipeline_part(plan: BenchPlan, progress: Progress) -> Part:
    """Everything but the model, on one core."""
    del progress
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


def node_part(plan: BenchPlan, progress: Progress) -> Part:
    """The real node in its own process, over DDS."""
    from sam_perception.ros.bench_node import node_latency

    settings = {
        "model": plan.models[0],
        "device": plan.device,
        "dtype": plan.dtype,
        "compile": plan.compile,
        "max_objects": max(8, plan.node_objects),
    }
    calm, rushed = node_latency(
        plan.node_objects, 30.0, plan.node_frames, settings, plan.log, on_frame=progress.bar("node over DDS")
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


PARTS: dict[str, Callable[[BenchPlan, Progress], Part]] = {
    "tracker": tracker_part,
    "stages": stages_part,
    "pipeline": pipeline_part,
    "node": node_part,
    "memory": memory_part,
}
