"""`sam-perception soak`: the real node at full speed for a long time; whether anything in it grows."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sam_perception.commands.growth import WARM_UP, Growth, growth_of
from sam_perception.commands.settings import add_settings_arguments, config_from
from sam_perception.config import PerceptionConfig
from sam_perception.errors import ConfigError, SinkError
from sam_perception.files import replaced
from sam_perception.settings import settings_of

if TYPE_CHECKING:
    from sam_perception.ros.soak import Sample, SoakRun

EPILOG = """
examples:
  sam-perception soak --minutes 30
  sam-perception soak --minutes 2 --size 640x480 --model sam2.1-hiera-tiny --device cuda

Writes soak.csv, soak.png and the node's log to the folder of --out. The exit code is 1 where memory,
threads, file handles or DDS entities grew.
"""
_PICTURES = 45
_SAMPLES = 180  # in a run, but not more than one per second
_MEMORY_SHARE, _MEMORY_MB = 0.03, 12.0  # tolerated growth of memory: the larger of the two
_QUANTITIES = (
    ("rss_mb", "memory", "MB"),
    ("threads", "threads", ""),
    ("file_handles", "file handles", ""),
    ("dds_entities", "DDS entities", ""),
)
_COUNT_TOLERANCE = 1.0


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "soak",
        help="run the node at full speed for long, with objects coming and going, and see whether anything grows",
        description="Play a rendered table to perception_node over DDS without a pause, add, correct, rename and "
        "remove objects, let subscribers come and go, and watch the process's memory, threads, file handles and DDS "
        "entities.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=30.0, metavar="N", help="default %(default)s")
    parser.add_argument("--out", type=Path, default=Path("soak_output"), metavar="DIR", help="default %(default)s")
    parser.add_argument("--size", default="320x240", metavar="WxH", help="of the pictures (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is asked of the node (default %(default)s)")
    add_settings_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the subcommand; 0, or 1 where something grew or the node did not end well."""
    from sam_perception._ros_environment import ensure_ros_environment

    config = config_from(arguments)
    if not arguments.minutes > 0:
        raise ConfigError(f"--minutes is {arguments.minutes}: give a positive number")
    ensure_ros_environment()
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{arguments.out} cannot be made ({error}): choose another folder by --out") from error
    done = _soak(arguments, config)
    write_csv(arguments.out / "soak.csv", done.samples)
    found = growths(done.samples)
    write_plot(arguments.out / "soak.png", done.samples, found)
    _tell(done, found, arguments.out)
    return 1 if any(one.grows for one in found) or done.exit_code else 0


def growths(samples: Sequence[Sample]) -> list[Growth]:
    """The verdict on each quantity."""
    elapsed_s = np.array([sample.elapsed_s for sample in samples], np.float64)
    found = []
    for field, name, unit in _QUANTITIES:
        values = np.array([getattr(sample, field) for sample in samples], np.float64)
        share = max(_MEMORY_SHARE * float(np.median(values)), _MEMORY_MB)
        found.append(growth_of(name, unit, elapsed_s, values, share if field == "rss_mb" else _COUNT_TOLERANCE))
    return found


def write_csv(path: Path, samples: Sequence[Sample]) -> None:
    """One row per sample, a column per field.

    Raises:
        SinkError: it cannot be written.
    """
    try:
        with replaced(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(field.name for field in dataclasses.fields(samples[0]))
            for sample in samples:
                table.writerow(f"{value:.3f}" if isinstance(value, float) else value for value in _row(sample))
    except OSError as error:
        raise SinkError(f"{path} cannot be written ({error}): check the folder and free space") from error


def _row(sample: Sample) -> tuple[Any, ...]:
    return dataclasses.astuple(sample)


def write_plot(path: Path, samples: Sequence[Sample], found: Sequence[Growth]) -> None:
    """A picture of all quantities over time, the warm-up shaded.

    Raises:
        SinkError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    minutes = [sample.elapsed_s / 60 for sample in samples]
    figure = Figure(figsize=(9, 10), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(_QUANTITIES) + 1, 1, sharex=True)
    for axis, (field, name, unit), growth in zip(axes, _QUANTITIES, found, strict=False):
        values = [getattr(sample, field) for sample in samples]
        axis.plot(minutes, values, color="#1f5fa8", linewidth=1.2)
        axis.set_ylabel(f"{name}, {unit}" if unit else name)
        axis.set_ylim(0, 1.25 * max(values))  # from zero: a flat line looks flat, and a rising one does not hide
        axis.set_title(growth.sentence, fontsize=9, loc="left")
    axes[-1].step(minutes, [sample.objects for sample in samples], color="#7a7a7a", where="post", linewidth=1.0)
    axes[-1].set_ylabel("objects")
    axes[-1].set_xlabel(f"minutes; {samples[-1].frames} frames")
    for axis in axes:
        axis.axvspan(minutes[0], minutes[0] + WARM_UP * (minutes[-1] - minutes[0]), color="#eeeeee", zorder=0)
        axis.grid(alpha=0.3)
    try:
        with replaced(path) as part:
            figure.savefig(part, dpi=100)
    except OSError as error:
        raise SinkError(f"{path} cannot be written ({error}): check the folder and free space") from error


def _soak(arguments: argparse.Namespace, config: PerceptionConfig) -> SoakRun:
    from tqdm import tqdm

    from sam_perception.ros.soak import soak

    defaults = {setting.name: setting.default for setting in settings_of(PerceptionConfig())}
    changed = {s.name: s.default for s in settings_of(config) if s.default != defaults[s.name]}
    # Reliable, so that a busy machine does not decide what is measured.
    changed |= {f"input.{name}_reliability": "reliable" for name in ("color", "depth", "camera_info")}
    duration_s = 60.0 * arguments.minutes
    scenery = _rendered(arguments.size)
    with tqdm(total=round(duration_s), desc="soak", unit="s", disable=None) as bar:

        def on_sample(sample: Sample) -> None:
            bar.set_postfix_str(f"{sample.rss_mb:.0f} MB, {sample.frames} frames, {sample.objects} objects")
            bar.update(max(0, min(round(sample.elapsed_s), bar.total) - bar.n))

        return soak(
            scenery,
            duration_s,
            log=arguments.out / "node.log",
            settings=changed,
            sample_s=max(1.0, duration_s / _SAMPLES),
            seed=arguments.seed,
            on_sample=on_sample,
        )


def _rendered(size: str) -> list[Any]:
    from sam_perception.ros.soak_operator import Scenery
    from sam_perception.sources.synthetic import SyntheticSource

    width, _, height = size.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise ConfigError(f"--size is {size}: write it as 320x240")
    source = SyntheticSource(width=int(width), height=int(height), frames=_PICTURES)
    return [Scenery(frame, tuple(truth.mask(i) for i in truth.object_ids)) for frame, truth in source.with_truth()]


def _tell(done: SoakRun, found: Sequence[Growth], out: Path) -> None:
    last = done.samples[-1]
    lines = [f"{last.frames} frames in {last.elapsed_s / 60:.1f} min, {last.frames / max(last.elapsed_s, 1e-9):.1f} Hz"]
    lines.append("asked: " + ", ".join(f"{name} {count}" for name, count in sorted(done.requests.items())))
    lines.append(f"refused: {done.refused}; the node's exit code: {done.exit_code}")
    lines += [f"{one.name}: {one.sentence}" for one in found]
    lines.append(f"figures {out / 'soak.csv'}, plot {out / 'soak.png'}, node's log {out / 'node.log'}")
    sys.stdout.write("\n".join(lines) + "\n")
