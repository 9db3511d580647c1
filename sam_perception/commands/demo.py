"""`sam-perception demo`: the main job, live: a camera's topics in, the real node over DDS, its results recorded."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sam_perception.commands.score import MIN_VISIBLE_PX, ObjectScore, Truth, score_objects
from sam_perception.commands.settings import add_settings_arguments, config_from
from sam_perception.config import PerceptionConfig
from sam_perception.errors import ConfigError, SinkError, SourceError
from sam_perception.scene import Scene
from sam_perception.settings import settings_of
from sam_perception.sinks.history import RunHistory
from sam_perception.sinks.text_table import text_table
from sam_perception.sources import FrameSource, open_source
from sam_perception.sources.first_prompts import prompts_of_labels, prompts_of_truth
from sam_perception.sources.frames import FrameList
from sam_perception.sources.prompt_file import PromptSchedule, read_prompts

if TYPE_CHECKING:
    from sam_perception.ros.demo import Playback

EPILOG = """
examples:
  sam-perception demo                                        a rendered table; needs no camera and no data
  sam-perception demo --data folder --prompts prompts.yaml   a recorded folder (color/, depth/, intrinsics.json)
  sam-perception demo --bag recording.bag --prompts prompts.yaml
  sam-perception demo --rate 15                              frames at 15 Hz, whether the node can follow or not
  sam-perception demo --set tracker.memory_policy=fifo       SAM 2's own memory; the table is played with
                                                             distractor_aware, since its mug is hidden for long

prompts.yaml is described by `sam-perception process --help`. Without it, every object in the folder's
first label picture is followed, or what lies in the middle of the first picture.
"""
# The table's mug is hidden for longer than SAM 2's own six frames of memory last.
_ON_THE_TABLE = {"tracker.memory_policy": "distractor_aware"}
_MARK = ".sam_perception_demo"  # in folders that a demo has made and may replace
_MIN_RESULTS = 0.95  # of the frames, when the next one waits for the last one's result
_OUTPUTS_NEEDED = 5  # results at a fixed rate, where dropping is right


@dataclass
class Job:
    """What is played, and what is known about it."""

    source: FrameSource
    schedule: PromptSchedule
    truths: Mapping[int, Truth] = field(default_factory=dict)  # by stamp


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="play a rendered table or a recording to the real ROS 2 node, record and check what it publishes",
        description="Play RGB-D topics to perception_node in a process of its own over DDS, ask for objects by "
        "service, record what it publishes, and check that it did its job; exit code 1 where it did not.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--data", type=Path, metavar="DIR", help="play a recorded folder")
    what.add_argument("--bag", type=Path, metavar="FILE", help="play a rosbag2")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="which objects to follow")
    parser.add_argument("--out", type=Path, default=Path("demo_output"), metavar="DIR", help="default %(default)s")
    parser.add_argument("--frames", type=int, metavar="N", help="play N frames (rendered table: 90)")
    parser.add_argument("--size", default="640x480", metavar="WxH", help="of the rendered table (default %(default)s)")
    parser.add_argument("--rate", type=float, metavar="HZ", help="fixed rate (default: as fast as the node follows)")
    parser.add_argument(
        "--min-iou",
        type=float,
        default=0.7,
        metavar="X",
        help="mean IoU the table's objects need (default %(default)s)",
    )
    add_settings_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the subcommand; 0, or 1 where the node did not do its job."""
    from sam_perception._ros_environment import ensure_ros_environment

    rendered = arguments.data is None and arguments.bag is None
    config = config_from(arguments, _ON_THE_TABLE if rendered else None)
    if arguments.rate is not None and not arguments.rate > 0:
        raise ConfigError(f"--rate is {arguments.rate}: give frames per second")
    ensure_ros_environment()
    job = _prepared(arguments)
    out = _fresh_folder(arguments.out)
    with job.source:
        _say(f"{job.source.description}; objects {job.schedule.object_ids}")
        _say(f"model {config.model}, memory policy {config.tracker.memory_policy}")
        playback = _play(job, config, arguments, out)
        scenes = _recorded_scenes(out / "bag", job.source)
        scores = score_objects(job.truths, scenes)
        _report(job, playback, scenes, scores, out)
    failures = _failures(job, playback, scenes, scores, arguments)
    _summarise(playback, scenes, scores, out)
    for failure in failures:
        _say(f"FAILED: {failure}")
    _say("the node did its job" if not failures else f"the node did not do its job, see {out / 'node.log'}")
    return 1 if failures else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _progress(items: Iterable[Any] | None, total: int, what: str) -> Any:
    from tqdm import tqdm

    return tqdm(items, total=total, desc=what, unit="frame", disable=None)  # None: only on terminals


def _prepared(arguments: argparse.Namespace) -> Job:
    if arguments.frames is not None and arguments.frames < 1:
        raise SourceError(f"--frames is {arguments.frames}: play at least one")
    given = arguments.data or arguments.bag
    if given is None:
        return _rendered(arguments)
    source: FrameSource = open_source(given)
    if source.independent:
        raise SourceError(f"{source.description}: there is nothing to follow between them; use sam-perception process")
    if arguments.frames is not None:
        source = FrameList.of(source, limit=arguments.frames)
    if arguments.prompts is not None:
        return Job(source, read_prompts(arguments.prompts))
    return Job(source, PromptSchedule(prompts_of_labels(source, given)))


def _rendered(arguments: argparse.Namespace) -> Job:
    from sam_perception.sources.synthetic import SyntheticSource

    width, _, height = arguments.size.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise ConfigError(f"--size is {arguments.size}: write it as 640x480")
    source = SyntheticSource(width=int(width), height=int(height), frames=arguments.frames or 90)
    # Rendered before playing: the node is to have the machine for itself.
    rendered = list(_progress(source.with_truth(), len(source), "render"))
    frames = FrameList([frame for frame, _ in rendered], source.description)
    truths = {frame.stamp_ns: truth for frame, truth in rendered}
    schedule = (
        read_prompts(arguments.prompts) if arguments.prompts else PromptSchedule(prompts_of_truth(rendered[0][1]))
    )
    return Job(frames, schedule, truths)


def _fresh_folder(out: Path) -> Path:
    """`out`, empty but for the mark; what an earlier demo left there is removed, anything else refused."""
    try:
        if out.is_dir() and any(out.iterdir()):
            if not (out / _MARK).is_file():
                raise SinkError(f"{out} holds other files: choose a new folder by --out")
            for name in ("bag", "report"):
                shutil.rmtree(out / name, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        (out / _MARK).touch()
    except OSError as error:
        raise SinkError(f"{out} cannot be written ({error}): choose another folder by --out") from error
    return out


def _play(job: Job, config: PerceptionConfig, arguments: argparse.Namespace, out: Path) -> Playback:
    from sam_perception.ros.demo import play

    defaults = {setting.name: setting.default for setting in settings_of(PerceptionConfig())}
    changed = {s.name: s.default for s in settings_of(config) if s.default != defaults[s.name]}
    with _progress(None, len(job.source), "play") as bar:
        return play(
            job.source,
            job.schedule,
            bag=out / "bag",
            log=out / "node.log",
            settings=changed,
            rate_hz=arguments.rate,
            on_frame=bar.update,
        )


def _recorded_scenes(bag: Path, source: FrameSource) -> dict[int, Scene]:
    """What the node said, read back from the recording, by stamp."""
    from sam_perception.sources.results import read_scenes

    first = next(iter(source))
    return {scene.stamp_ns: scene for scene in read_scenes(bag, first.width, first.height)}


def _latency(playback: Playback) -> str:
    if not playback.latency_ms:
        return "-"
    p50, p95, p99 = np.percentile(list(playback.latency_ms.values()), [50, 95, 99])
    return f"{p50:.0f} / {p95:.0f} / {p99:.0f} ms"


def _run_rows(playback: Playback, scenes: Mapping[int, Scene]) -> list[tuple[str, str]]:
    rate = len(scenes) / playback.elapsed_s if playback.elapsed_s > 0 else float("nan")
    return [
        ("frames played", str(len(playback.stamps_ns))),
        ("frames processed", str(len(scenes))),
        ("frames dropped", str(len(playback.stamps_ns) - len(playback.latency_ms))),
        ("rate", f"{rate:.1f} Hz"),
        ("latency p50 / p95 / p99, publishing to result", _latency(playback)),
        ("node's exit after SIGINT", f"code {playback.exit_code} in {playback.end_s:.1f} s"),
    ]


_SCORE_HEADER = ("object", "visible", "tracked", "mean IoU", "centroid error p50 / p95", "said hidden / hidden")


def _score_rows(scores: Sequence[ObjectScore]) -> list[tuple[str, ...]]:
    return [
        (
            one.name,
            str(one.visible),
            str(one.tracked),
            f"{one.mean_iou:.3f}",
            f"{one.error_mm(50):.1f} / {one.error_mm(95):.1f} mm",
            f"{one.said_hidden} / {one.hidden}",
        )
        for one in scores
    ]


def _report(
    job: Job, playback: Playback, scenes: Mapping[int, Scene], scores: Sequence[ObjectScore], out: Path
) -> None:
    from sam_perception.sinks.report import ReportSink

    with ReportSink(out / "report", title="sam_perception: demo", source=job.source.description) as report:
        for frame in _progress(job.source, len(job.source), "report"):
            if frame.stamp_ns in scenes:
                report.write(frame, scenes[frame.stamp_ns])
        report.add_table("Run", ("over DDS", ""), _run_rows(playback, scenes))
        if scores:
            note = f"Frames count as visible from {MIN_VISIBLE_PX} pixels on. The truth is the renderer's."
            report.add_table("Against the truth", _SCORE_HEADER, _score_rows(scores), note)
        for name, values in sorted(playback.diagnostics.items()):
            report.add_table(f"Diagnostics: {name}", ("at the end", ""), list(values.items()), appendix=True)
        for refusal in playback.refusals:
            report.note(f"refused by the node: {refusal}")


def _summarise(playback: Playback, scenes: Mapping[int, Scene], scores: Sequence[ObjectScore], out: Path) -> None:
    if scores:
        _say("\n" + text_table(_SCORE_HEADER, _score_rows(scores)))
        _say(f"mean IoU {_mean_iou(scores):.3f}")
    else:
        history = RunHistory()
        for scene in scenes.values():
            history.add(scene)
        _say("\n" + text_table(*history.rows()))
    _say("\n" + "\n".join(f"{name}: {value}" for name, value in _run_rows(playback, scenes)))
    _say(f"\nrecording  {out / 'bag'}\nreport     {out / 'report' / 'index.html'}\nnode's log {out / 'node.log'}")


def _mean_iou(scores: Sequence[ObjectScore]) -> float:
    """Over the objects that were to be seen; NaN where none was."""
    known = [one.mean_iou for one in scores if not np.isnan(one.mean_iou)]
    return float(np.mean(known)) if known else float("nan")


def _failures(
    job: Job,
    playback: Playback,
    scenes: Mapping[int, Scene],
    scores: Sequence[ObjectScore],
    arguments: argparse.Namespace,
) -> list[str]:
    """What of the main job did not happen."""
    failures = [f"a prompt was refused: {refusal}" for refusal in playback.refusals]
    failures += [f"{one.where or 'a prompt'}: its frame was not played" for one in job.schedule.unused]
    played = len(playback.stamps_ns)
    needed = min(_OUTPUTS_NEEDED, played) if arguments.rate else int(np.ceil(_MIN_RESULTS * played))
    if len(scenes) < max(1, needed):
        failures.append(f"{len(scenes)} of {played} frames have a result, {max(1, needed)} are needed")
    failures += [f"nothing was recorded on {topic}" for topic, count in playback.counts.items() if not count]
    for object_id in job.schedule.object_ids:
        tracks = [track for scene in scenes.values() for track in scene.objects if track.id == object_id]
        if not any(track.state.visible and track.box is not None for track in tracks):
            failures.append(f"object {object_id} was never tracked with a position")
    if scores:
        mean = _mean_iou(scores)
        if not mean >= arguments.min_iou:
            failures.append(f"mean IoU is {mean:.3f}, {arguments.min_iou} is needed")
    if playback.exit_code != 0:
        failures.append(f"the node ended with code {playback.exit_code} after SIGINT")
    return failures
