"""`sam-perception bench`: how fast and how large on this machine, beside what one would use instead."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sam_perception.commands.bench_parts import PARTS, BenchPlan, Part
from sam_perception.errors import ConfigError, SinkError
from sam_perception.sinks.text_table import text_table

EPILOG = """
examples:
  sam-perception bench --quick                       a few minutes: every part, few frames
  sam-perception bench --parts pipeline              everything but the model, on one core
  sam-perception bench --parts tracker stages --json bench.json --plot bench.svg
  sam-perception bench --device cuda --parts tracker stages --models tiny@1024 --objects 1 4 8 16
  sam-perception bench --parts memory                10000 frames (ten minutes on one core)

models: a name or a folder with weights; tiny@SIZE and small@SIZE are architectures with random weights, tiny
that of sam2.1-hiera-tiny. On a machine that does other work too, only ratios within one run mean something.
docs/benchmarks.md says what each number is.
"""
_DEFAULT_PARTS = ("tracker", "stages", "pipeline", "node")


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
    parser.add_argument("--threads", type=int, metavar="N", help="of torch (default: torch's own choice)")
    parser.add_argument("--quick", action="store_true", help="few frames, small models: to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture (svg)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the subcommand."""
    from sam_perception._ros_environment import ensure_ros_environment

    plan = plan_of(arguments)
    if {"pipeline", "node"} & set(arguments.parts):
        ensure_ros_environment()
    machine = _machine(plan)
    _say("\n".join(f"{name}: {value}" for name, value in machine.items()))
    parts = []
    for name in dict.fromkeys(arguments.parts):
        parts.append(PARTS[name](plan, _bar))
        _say(_shown(parts[-1]))
    if arguments.json is not None:
        found = {"machine": machine, "command": sys.argv[1:], **{part.name: part.data for part in parts}}
        _write(arguments.json, json.dumps(found, indent=1) + "\n")
    if arguments.plot is not None:
        _write(arguments.plot, _picture(parts))
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
    )


def _machine(plan: BenchPlan) -> dict[str, str]:
    from sam_perception.benchmarks.machine import describe_machine
    from sam_perception.segmentation.models import resolve_device

    return describe_machine(plan.threads, resolve_device(plan.device))


def _bar(title: str) -> Callable[..., object]:
    """Called after each frame; a count on terminals, nothing elsewhere."""
    from tqdm import tqdm

    bar = tqdm(desc=title, unit="frame", disable=None, leave=False)
    return lambda *_: bar.update()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _shown(part: Part) -> str:
    blocks = []
    for table in part.tables:
        blocks.append("\n".join((f"\n{table.title}", text_table(table.header, table.rows), *table.notes)))
    return "\n".join(blocks)


def _picture(parts: Sequence[Part]) -> str:
    from sam_perception.benchmarks.plot import bench_picture

    series = {name: found for part in parts for name, found in part.series.items()}
    if not series:
        raise ConfigError("--plot shows the parts tracker, stages and memory: name one of them in --parts")
    return bench_picture(series.get("races", ()), series.get("shares", ()), series.get("growth", ()))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{path} cannot be written ({error}): choose another file") from error
    _say(f"written: {path}")
