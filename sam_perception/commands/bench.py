"""`sam-perception bench`: how fast and how large on this machine, beside what one would use instead."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sam_perception.commands.bench_parts import PARTS
from sam_perception.commands.bench_plan import BenchPlan, Part, Progress
from sam_perception.errors import ConfigError, SinkError
from sam_perception.sinks.text_table import text_table

EPILOG = """
examples:
  sam-perception bench --quick                       a few minutes: every part, few frames
  sam-perception bench --parts pipeline              everything but the model, on one core
  sam-perception bench --parts tracker stages --json bench.json --plot bench.svg
  sam-perception bench --device cuda --parts tracker stages --models tiny@1024 --objects 1 4 8 16
  sam-perception bench --device cuda --parts tracker stages --models tiny@1024 --objects 1 4 8 16 --compile
  sam-perception bench --parts memory                10000 frames (ten minutes on one core)

models: a name or a folder with weights; tiny@SIZE and small@SIZE are architectures with random weights, tiny
that of sam2.1-hiera-tiny. On a machine that does other work too, only ratios within one run mean something.
docs/benchmarks.md says what each number is.
"""
_DEFAULT_PARTS = ("tracker", "stages", "pipeline", "node")
_DRAWN = {"tracker", "stages", "memory"}  # parts that a picture can show
_WITH_MODELS = {"tracker", "stages", "node"}  # parts that measure what --models names


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "bench",
        help="measure speed and memory, against transformers' session and against what the hardware can do",
        description="Measure the tracker against transformers' session, where its time goes, what everything else "
        "costs, and the whole node over DDS.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--parts", nargs="+", choices=tuple(PARTS), default=list(_DEFAULT_PARTS), metavar="PART",
        help=f"of {', '.join(PARTS)} (default: {' '.join(_DEFAULT_PARTS)})",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default %(default)s)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16 (default %(default)s)")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="default: nano tiny@512 tiny@1024")
    parser.add_argument("--objects", nargs="+", type=int, metavar="N", help="numbers of objects (default 1 2 4 8 16)")
    parser.add_argument("--frames", type=int, metavar="N", help="measured per number of objects (default 12)")
    parser.add_argument(
        "--compile", action="store_true",
        help="our side compiled, as by compile: true; compiling is done before anything is timed",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, metavar="N", help="of torch (default: torch's own choice)")
    parser.add_argument("--quick", action="store_true", help="few frames, small models: to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture (svg)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the subcommand."""
    from sam_perception._ros_environment import ensure_ros_environment

    plan = plan_of(arguments)
    names = tuple(dict.fromkeys(arguments.parts))
    _refuse(arguments, plan, names)
    if {"pipeline", "node"} & set(names):
        ensure_ros_environment()
    parts = _measure(plan, names, arguments.json)
    if arguments.json is not None:
        _say(f"written: {arguments.json}")
    if arguments.plot is not None:
        _write(arguments.plot, _picture(parts))
        _say(f"written: {arguments.plot}")
    return 0


def plan_of(arguments: argparse.Namespace) -> BenchPlan:
    """What the arguments ask for.

    Raises:
        ConfigError: numbers that are not positive.
    """
    quick = arguments.quick
    objects = arguments.objects or ([1, 4] if quick else [1, 2, 4, 8, 16])
    frames = arguments.frames if arguments.frames is not None else (3 if quick else 12)
    numbers = {"--objects": min(objects), "--frames": frames, "--threads": arguments.threads or 1}
    for name, value in numbers.items():
        if value < 1:
            raise ConfigError(f"{name} is {value}: give a number from 1 on")
    from sam_perception.benchmarks.machine import use_threads

    return BenchPlan(
        device=arguments.device,
        dtype=arguments.dtype,
        models=arguments.models or (["nano"] if quick else ["nano", "tiny@512", "tiny@1024"]),
        objects=objects,
        frames=frames,
        warm_up=7 if quick else 17,  # 17: until all object pointers are there
        memory_objects=2,
        long_frames=40 if quick else 200,
        soak_model="small@64",
        soak_at=(20, 200, 400) if quick else (20, 200, 1000, 2000, 5000, 10_000),
        soak_their_at=(20, 200, 300) if quick else (20, 200, 1000, 2000),
        node_frames=10 if quick else 100,
        node_objects=min(4, max(objects)),
        repeats=10 if quick else 40,
        threads=use_threads(arguments.threads),
        compile=arguments.compile,
    )


def _refuse(arguments: argparse.Namespace, plan: BenchPlan, parts: Sequence[str]) -> None:
    """Say at once what would otherwise be said after minutes.

    Raises:
        ConfigError: parts that cannot be drawn, or models that cannot be measured.
        SinkError: a file that cannot be written.
    """
    if arguments.plot is not None and not _DRAWN & set(parts):
        raise ConfigError("--plot shows the parts tracker, stages and memory: name one of them in --parts")
    for path in (arguments.json, arguments.plot):
        if path is not None:
            _require_writable(path)
    if _WITH_MODELS & set(parts):
        from sam_perception.benchmarks.models import require_model

        for spec in plan.models:
            require_model(spec)
    if "node" in parts and "@" in plan.models[0]:
        raise ConfigError(f"the node has no model {plan.models[0]!r}: put a model with weights first in --models")


def _measure(plan: BenchPlan, names: Sequence[str], out: Path | None) -> list[Part]:
    """Every part, printed as it ends; `out` has all that is known so far, should the next one fail."""
    from sam_perception.benchmarks.machine import describe_machine
    from sam_perception.segmentation.current_device import on_device
    from sam_perception.segmentation.models import resolve_device, resolve_dtype

    device = resolve_device(plan.device)
    machine = describe_machine(plan.threads, device, resolve_dtype(plan.dtype, device))
    _say("\n".join(f"{name}: {value}" for name, value in machine.items()))
    plan, parts = replace(plan, device=str(device)), list[Part]()
    with on_device(device):
        for name in names:
            parts.append(PARTS[name](plan, Progress(_bar, _say)))
            _say(_shown(parts[-1]) + "\n")
            if out is not None:
                found = {"machine": machine, "command": sys.argv[1:], **{part.name: part.data for part in parts}}
                _write(out, json.dumps(_known(found), indent=1) + "\n")
    return parts


def _bar(title: str) -> Callable[..., object]:
    """Called after each frame; a count on terminals, nothing elsewhere."""
    from tqdm import tqdm

    bar = tqdm(desc=title, unit="frame", disable=None, leave=False)
    return lambda *_: bar.update()


def _say(text: str) -> None:
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stdout):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def _shown(part: Part) -> str:
    blocks = []
    for table in part.tables:
        blocks.append("\n".join((f"\n{table.title}", text_table(table.header, table.rows), *table.notes)))
    return "\n".join(blocks)


def _picture(parts: Sequence[Part]) -> str:
    from sam_perception.benchmarks.plot import bench_picture

    def all_of(name: str) -> list[Any]:
        return [one for part in parts for one in part.series.get(name, ())]

    return bench_picture(all_of("races"), all_of("shares"), all_of("growth"))


def _known(value: Any) -> Any:
    """The same with None for what is no number: JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _known(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _require_writable(path: Path) -> None:
    """Raise SinkError if a file cannot be written; leaves things as they were."""
    new = not path.exists()
    try:
        with path.open("a"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise SinkError(f"{path} cannot be written ({error}): choose another file") from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{path} cannot be written ({error}): choose another file") from error
