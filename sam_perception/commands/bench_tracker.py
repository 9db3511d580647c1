"""`sam-perception bench`: ours against transformers' session, in speed and in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from sam_perception.commands.bench_plan import BenchPlan, Part, Progress, Table

if TYPE_CHECKING:
    from sam_perception.benchmarks.memory import Growth
    from sam_perception.benchmarks.race import Race

_CPU_NOTE = (
    "CPU: transformers' CPU time through ours, of the whole process; what other processes do changes it least. "
    "Threads that spin while they wait count: compare with --threads 1"
)


def tracker_part(plan: BenchPlan, progress: Progress) -> Part:
    """Ours against transformers' session: speed by number of objects, memory over a stream."""
    from sam_perception.benchmarks.contenders import compiled
    from sam_perception.benchmarks.models import benchmark_model
    from sam_perception.benchmarks.race import race

    on_cpu, races = not plan.device.startswith("cuda"), []
    for spec in plan.models:
        model = benchmark_model(spec, plan.device, plan.dtype)
        backend = compiled(model, max(plan.objects), progress.preparing(spec)) if plan.compile else None
        races += race(
            spec,
            model,
            plan.objects,
            plan.frames,
            warm_up=plan.warm_up,
            backend=backend,
            on_frame=progress.bar(f"tracker {spec}"),
            on_row=lambda r: progress.tell(_race_line(r, on_cpu=on_cpu)),
        )
        del model, backend
    streams = [(side, spec, plan.memory_at(spec)) for spec in plan.models for side in ("ours", "transformers")]
    growths = growths_of(plan, streams, progress)
    speed = Table(
        "tracker: medians of frames that both had in turn, equal weights" + (", ours compiled" * plan.compile),
        ("model", "objects", "ours ms", "FPS", "transformers ms", "FPS", "times faster", *(["CPU"] * on_cpu)),
        [
            (r.model, str(r.objects), f"{r.ours_ms:.1f}", f"{1e3 / r.ours_ms:.2f}", f"{r.theirs_ms:.1f}",
             f"{1e3 / r.theirs_ms:.2f}", f"{r.ratio:.2f}", *([f"{r.cpu_ratio:.2f}"] * on_cpu))
            for r in races
        ],
        notes=[_CPU_NOTE] * on_cpu,
    )  # fmt: skip
    memory = growth_table(f"memory of the process, {plan.memory_objects} objects", growths)
    rows = [{**asdict(r), "ratio": r.ratio, "cpu_ratio": r.cpu_ratio} for r in races]
    data = {"compiled": plan.compile, "races": rows, "growth": [asdict(g) for g in growths]}
    return Part("tracker", [speed, memory], data, {"races": races, "growth": growths})


def memory_part(plan: BenchPlan, progress: Progress) -> Part:
    """A long stream: ours stays, transformers' grows."""
    sides = (("ours", plan.soak_at), ("transformers", plan.soak_their_at))
    growths = growths_of(plan, [(side, plan.soak_model, at) for side, at in sides], progress)
    table = growth_table(f"memory of the process over a long stream, {plan.memory_objects} objects", growths)
    return Part("memory", [table], {"growth": [asdict(g) for g in growths]}, {"growth": growths})


def growths_of(plan: BenchPlan, streams: Sequence[tuple[str, str, Sequence[int]]], progress: Progress) -> list[Growth]:
    """Measure memory over streams: side, model, and after which frames."""
    from sam_perception.benchmarks import memory

    growths = []
    for side, spec, at in streams:
        growth = memory.measure_growth(
            side,
            spec,
            plan.memory_objects,
            at,
            device=plan.device,
            dtype=plan.dtype,
            compile=plan.compile,
            threads=plan.threads,
            on_frame=progress.bar(f"memory {spec}, {side}"),
        )
        growths.append(growth)
        progress.tell(f"memory {spec}, {side}: MiB after frames {_at_frames(growth.frames, growth.mib)}")
    return growths


def growth_table(title: str, growths: Sequence[Growth]) -> Table:
    """Memory after some numbers of frames: of the process, and of the GPU where there is one."""
    on_gpu = any(g.allocated_mib for g in growths)
    notes = ["change: of the last number against the one after 200 frames, or the first"]
    if on_gpu:
        notes[0] += "; of what tensors take on the GPU"
        notes.append("tensors, held: by torch's allocator; what CUDA itself takes is not in them")
    return Table(
        title,
        ("model", "side", "MiB after frames", *(["GPU: tensors", "GPU: held"] * on_gpu), "change"),
        [
            (g.model, g.side, _at_frames(g.frames, g.mib),
             *([_at_frames(g.frames, g.allocated_mib), _at_frames(g.frames, g.reserved_mib)] if on_gpu else []),
             f"{100 * g.change(g.frames[0] if len(g.frames) < 3 else g.frames[1], g.frames[-1]):+.2f} %")
            for g in growths
        ],
        notes=notes,
    )  # fmt: skip


def _at_frames(frames: Sequence[int], mib: Sequence[float]) -> str:
    return ", ".join(f"{n}: {size:.0f}" for n, size in zip(frames, mib, strict=True))


def _race_line(r: Race, *, on_cpu: bool) -> str:
    cpu = f", {r.cpu_ratio:.2f} by CPU time" if on_cpu else ""
    return (
        f"tracker {r.model}, objects {r.objects}: ours {r.ours_ms:.1f} ms, transformers {r.theirs_ms:.1f} ms, "
        f"{r.ratio:.2f} times faster{cpu}"
    )
