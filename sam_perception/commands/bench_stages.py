"""`sam-perception bench`: where a step's time goes, what it must cost, and what it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sam_perception.commands.bench_plan import BenchPlan, Part, Progress, Table

if TYPE_CHECKING:
    from sam_perception.benchmarks.busy import Busy
    from sam_perception.benchmarks.contenders import Step
    from sam_perception.benchmarks.limits import Limit
    from sam_perception.benchmarks.stages import Shares

LIMIT_NOTE = "(least: the same floating-point operations at the rate of a large matrix product here)"
_BUSY_NOTE = (
    "(device busy share: of a step by events, the time in which a kernel or a copy runs by torch.profiler; "
    "in the rest the device waits for the host)"
)


def stages_part(plan: BenchPlan, progress: Progress) -> Part:
    """Where a step's time goes, what the operations alone would take, and what waits for the device."""
    from sam_perception.benchmarks.busy import busy
    from sam_perception.benchmarks.contenders import compiled
    from sam_perception.benchmarks.limits import limit, measure_rates
    from sam_perception.benchmarks.models import benchmark_model
    from sam_perception.benchmarks.stages import shares

    found: list[Shares] = []
    limits: list[Limit] = []
    busies: list[Busy] = []
    waits, rates = {}, {}
    for spec in plan.models:
        model, step = benchmark_model(spec, plan.device, plan.dtype), progress.bar(f"stages {spec}")
        backend = compiled(model, max(plan.objects), progress.preparing(spec)) if plan.compile else None
        rates[spec] = measure_rates(model.device, model.dtype)
        for count in sorted(set(plan.objects)):
            here = {"warm_up": plan.warm_up, "backend": backend}
            found.append(shares(spec, model, count, plan.frames, on_frame=step, **here))  # type: ignore[arg-type]
            limits.append(limit(spec, model, count, rates[spec], warm_up=plan.warm_up))
            progress.tell(_stage_line(found[-1], limits[-1]))
            if model.device.type == "cuda":
                busies.append(busy(spec, model, count, plan.frames, **here))  # type: ignore[arg-type]
                progress.tell(_busy_line(busies[-1]))
        waits[spec] = _waits(model, min(plan.objects), backend)
        del model, backend
    notes = [LIMIT_NOTE, *(f"{spec}: operations of a step that wait for the device: {w or 'none'}"
                           for spec, w in waits.items())]  # fmt: skip
    if plan.compile:
        notes.append("operations are counted without compilation, whose filled-up batches and memories have more")
    tables = [_stage_table(found), _limit_table(found, limits, notes), *([busy_table(busies)] if busies else [])]
    data = {
        "compiled": plan.compile,
        "stages": [asdict(s) for s in found],
        "limits": [asdict(x) for x in limits],
        "busy": [{**asdict(b), "share": b.share} for b in busies],
        "waits": waits,
        "rates": {spec: asdict(r) for spec, r in rates.items()},
    }
    return Part("stages", tables, data, {"shares": found})


def _waits(model: Any, objects: int, backend: Any) -> dict[str, int]:
    """Operations of one step, with memories of three frames, for which the host waits.

    Operations within a compiled program are out of the dispatcher's sight: it sees the model itself, and torch's
    own count on a GPU `backend`, where that is given.
    """
    from sam_perception.benchmarks.contenders import ours
    from sam_perception.benchmarks.pictures import pictures
    from sam_perception.benchmarks.syncs import cuda_waits, waiting_operations

    *before, last = pictures(4)

    def warm(runs: Any) -> Step:
        step = ours(runs, objects)
        for picture in before:
            step(picture)
        return step

    seen = warm(model)
    waits = waiting_operations(lambda: seen(last))
    if model.device.type == "cuda":
        own = warm(model if backend is None else backend)
        waits["torch's own count"] = cuda_waits(lambda: own(last))
    return waits


def _stage_table(found: Sequence[Shares]) -> Table:
    names = list(found[0].stages_ms)
    return Table(
        "stages: milliseconds per frame, and shares",
        ("model", "objects", *names, "together"),
        [
            (s.model, str(s.objects), *(f"{s.stages_ms[n]:.1f} ({100 * s.stages_ms[n] / s.total_ms:.0f} %)"
             for n in names), f"{s.total_ms:.1f}")
            for s in found
        ],
    )  # fmt: skip


def _limit_table(found: Sequence[Shares], limits: Sequence[Limit], notes: Sequence[str]) -> Table:
    return Table(
        "limits: what the operations alone would take",
        ("model", "objects", "GFLOP ours", "transformers", "at GEMM rate ms", "weights ms", "measured ms", "share"),
        [
            (x.model, str(x.objects), f"{x.ours_flop / 1e9:.2f}", f"{x.theirs_flop / 1e9:.2f}", f"{x.compute_ms:.2f}",
             f"{x.memory_ms:.2f}", f"{s.total_ms:.1f}", f"{100 * x.least_ms / s.total_ms:.0f} %")
            for x, s in zip(limits, found, strict=True)
        ],
        notes=notes,
    )  # fmt: skip


def busy_table(busies: Sequence[Busy]) -> Table:
    """How much of a step the device works."""
    return Table(
        "device busy share: whether the device idles on the host",
        ("model", "objects", "step ms", "kernels and copies ms", "share"),
        [(b.model, str(b.objects), f"{b.step_ms:.2f}", f"{b.busy_ms:.2f}", f"{100 * b.share:.0f} %") for b in busies],
        notes=[_BUSY_NOTE],
    )


def _stage_line(s: Shares, x: Limit) -> str:
    most = max(s.stages_ms, key=s.stages_ms.__getitem__)
    return (
        f"stages {s.model}, objects {s.objects}: {s.total_ms:.1f} ms, of it {most} {s.stages_ms[most]:.1f} ms; "
        f"the operations alone would take {x.least_ms:.2f} ms"
    )


def _busy_line(b: Busy) -> str:
    return f"device busy share {b.model}, objects {b.objects}: {100 * b.share:.0f} % of {b.step_ms:.2f} ms"
