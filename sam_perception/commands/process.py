"""`sam-perception process`: a recording in, a bag with all results out, every frame processed."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from sam_perception.commands import fleet
from sam_perception.commands.settings import add_settings_arguments, config_from
from sam_perception.config import PerceptionConfig
from sam_perception.errors import FrameError, PromptError, SourceError
from sam_perception.frame import RgbdFrame
from sam_perception.prompts import AnyPrompt
from sam_perception.scene import Scene
from sam_perception.sinks.history import RunHistory
from sam_perception.sinks.text_table import text_table
from sam_perception.sources import FrameSource, Rejection, open_source
from sam_perception.sources.prompt_file import PromptSchedule, read_prompts
from sam_perception.sources.source import ENDLESS

EPILOG = """
examples:
  sam-perception process recording.bag out.bag --prompts prompts.yaml --report report
  sam-perception process folder out.bag --prompts prompts.yaml --set geometry.max_depth_m=2
  sam-perception process folder frames.bag --frames-only       turn a folder of pictures into a bag
  sam-perception process realsense:recording.bag out.bag --prompts prompts.yaml
  sam-perception process realsense: live.bag --frames-only     record a RealSense until Ctrl-C
  sam-perception process run1.bag run2.bag results --prompts prompts.yaml --workers 2 --reports
  sam-perception process bags/* results --prompts prompts/ --ray auto      prompts/NAME.yaml for bags/NAME

prompts.yaml:
  - object_id: 1
    label: mug
    frame: 0                     # index in the recording, or stamp_ns
    box: [250, 200, 330, 290]    # x_min y_min x_max y_max in pixels
  - object_id: 2
    points: [[120, 310]]         # with point_labels: [1, 0] for clicks on and beside it
  - object_id: 3
    mask: mask.png               # beside this file; with value: 3 for pixels of that value
  - object_id: 4
    text: a red mug              # needs --set words.model=..., see docs/words.md
"""


class Processor(Protocol):
    """What `process` needs of `Perception`."""

    def prompt(self, prompt: AnyPrompt) -> Any:
        """Point at an object in the next frame."""

    def step(self, frame: RgbdFrame) -> Scene:
        """Process one frame."""

    def reset(self) -> Any:
        """Forget everything."""


class Sink(Protocol):
    """Takes results."""

    def write(self, frame: RgbdFrame, scene: Scene) -> None:
        """Take one frame's."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "process",
        help="run a recording (rosbag2 or folder) through perception into a rosbag2, without ROS",
        description="Process every frame of a recording and write all outputs of the node into a rosbag2.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "input",
        type=Path,
        metavar="IN",
        nargs="+",
        help="rosbag2 (sqlite3 or mcap), a folder with color/ depth/, realsense:FILE (librealsense's .bag or .db3), "
        "realsense:SERIAL or realsense: (a camera, until Ctrl-C or --limit); may be several recordings",
    )
    parser.add_argument(
        "output", type=Path, metavar="OUT", help="rosbag2 folder to create; of several recordings, the folder for all"
    )
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="which objects to follow, see below")
    parser.add_argument("--report", type=Path, metavar="DIR", help="also write index.html, a video and pictures")
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="of OUT (default %(default)s)")
    parser.add_argument("--with-inputs", action="store_true", help="also write colour, depth and camera_info")
    parser.add_argument("--frames-only", action="store_true", help="write only these; needs no prompts and no model")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N frames")
    fleet.add_fleet_arguments(parser)
    for role in ("color", "depth", "info"):
        parser.add_argument(f"--{role}-topic", metavar="NAME", help="in IN, where it cannot be told by itself")
    add_settings_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the subcommand; returns the exit code."""
    if fleet.is_fleet(arguments):
        fleet.check_arguments(arguments)
        return fleet.run_fleet(arguments)
    (arguments.input,) = arguments.input
    if arguments.prompts is None and not arguments.frames_only:
        raise PromptError("no prompts: give --prompts FILE, or --frames-only to turn the recording into a bag")
    if arguments.limit is not None and arguments.limit < 1:
        raise SourceError(f"--limit is {arguments.limit}: process at least one frame")
    schedule = PromptSchedule([]) if arguments.frames_only else read_prompts(arguments.prompts)
    config = config_from(arguments)
    topics = (arguments.color_topic, arguments.depth_topic, arguments.info_topic)
    with open_input(arguments.input, topics) as source, _ended_by_interrupt(source):
        if arguments.frames_only:
            return _copy(source, arguments)
        from sam_perception.perception import Perception

        if arguments.threads is not None:
            from sam_perception.segmentation.hardware import use_threads

            use_threads(arguments.threads)
        return _process(source, schedule, Perception(config), arguments, config)


def open_input(path: Path, topics: tuple[str | None, str | None, str | None]) -> FrameSource:
    """A recording or a camera; topics of colour, depth and camera_info where they cannot be told."""
    if not any(topics):
        return open_source(path)
    from sam_perception.sources.bag import BagSource

    return BagSource(path, color_topic=topics[0], depth_topic=topics[1], info_topic=topics[2])


@contextmanager
def _ended_by_interrupt(source: FrameSource) -> Iterator[None]:
    """Ctrl-C is how a live camera's recording ends, and what was recorded is finished; a second one interrupts."""
    if not getattr(source, "live", False) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        del number, frame
        signal.signal(signal.SIGINT, before)
        source.stop()  # type: ignore[attr-defined]  # live sources have it

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _process(
    source: FrameSource,
    schedule: PromptSchedule,
    perception: Processor,
    arguments: argparse.Namespace,
    config: PerceptionConfig,
) -> int:
    from sam_perception.sinks.bag import BagSink
    from sam_perception.sinks.report import ReportSink

    with ExitStack() as stack:
        grasps = config.grasps
        bag = BagSink(arguments.output, storage=arguments.storage, inputs=arguments.with_inputs, grasps=grasps)
        sinks: list[Sink] = [stack.enter_context(bag)]
        if arguments.report is not None:
            title = f"sam_perception: {arguments.input.name}"
            about = f"{source.description}; model {config.model}"
            independent = source.independent
            report = ReportSink(arguments.report, title=title, source=about, independent=independent, grasps=grasps)
            sinks.append(stack.enter_context(report))
        history, rejected = process(source, schedule, perception, sinks, limit=arguments.limit, progress=True)
        if arguments.report is not None:
            for one in rejected:
                report.note(f"rejected frame at {one.stamp_ns} ns: {one.kind}: {one.reason}")
    _summarise(history, rejected, arguments)
    check_prompts(schedule, history)
    return 0


def process(
    source: FrameSource,
    schedule: PromptSchedule,
    perception: Processor,
    sinks: Sequence[Sink],
    *,
    limit: int | None = None,
    progress: bool = False,
) -> tuple[RunHistory, list[Rejection]]:
    """Every frame of `source` through `perception` into `sinks`, prompts at their frames.

    Separate scenes are processed each on its own. Frames that cannot be used are collected and left out.

    Raises:
        SourceError: the source breaks, or has no usable frame.
        SinkError: a sink cannot write.
        PerceptionError: a prompt or the model cannot be used.
    """
    history, refused = RunHistory(), list[Rejection]()
    for handed_out, frame in enumerate(_with_progress(source, limit, shown=progress)):
        if source.independent:
            perception.reset()
        for prompt in schedule.due(handed_out + len(source.rejected), frame.stamp_ns):
            perception.prompt(prompt)
        try:
            scene = perception.step(frame)
        except FrameError as error:
            refused.append(Rejection.of(frame.stamp_ns, error))
            continue
        for sink in sinks:
            sink.write(frame, scene)
        history.add(scene)
    rejected = [*source.rejected, *refused]
    if not history.stamps_ns:
        first = f": {rejected[0].reason}" if rejected else ""
        raise SourceError(f"{source.description}: no frame could be used, {len(rejected)} were rejected{first}")
    return history, rejected


def _with_progress(source: FrameSource, limit: int | None, *, shown: bool) -> Iterable[RgbdFrame]:
    from itertools import islice

    from tqdm import tqdm

    length = len(source) if limit is None else min(limit, len(source))
    total = None if length == ENDLESS else length
    # disable=None: only on terminals.
    disable = None if shown else True
    frames: Iterable[RgbdFrame] = tqdm(islice(source, limit), total=total, unit="frame", disable=disable)
    return frames


def _copy(source: FrameSource, arguments: argparse.Namespace) -> int:
    from sam_perception.sinks.bag import BagSink

    count = 0
    with BagSink(arguments.output, storage=arguments.storage, inputs=True, outputs=False) as sink:
        for frame in _with_progress(source, arguments.limit, shown=True):
            sink.write(frame)
            count += 1
        if not count:
            raise SourceError(f"{source.description}: no frame could be used, {len(source.rejected)} were rejected")
    sys.stdout.write(f"{arguments.output}: {count} frames, {len(source.rejected)} rejected\n")
    _write_rejections(source.rejected)
    return 0


def _summarise(history: RunHistory, rejected: Sequence[Rejection], arguments: argparse.Namespace) -> None:
    sys.stdout.write(f"{text_table(*history.rows())}\n")
    sys.stdout.write(f"{arguments.output}: {len(history.stamps_ns)} frames, {len(rejected)} rejected\n")
    if arguments.report is not None:
        sys.stdout.write(f"{arguments.report / 'index.html'}\n")
    for note in history.notes:
        sys.stdout.write(f"note: {note}\n")
    _write_rejections(rejected)


def _write_rejections(rejected: Sequence[Rejection]) -> None:
    """The first message of each kind with its count: a broken camera says the same thousands of times."""
    kinds: dict[str, list[Rejection]] = {}
    for one in rejected:
        kinds.setdefault(one.kind, []).append(one)
    for kind, ones in kinds.items():
        sys.stdout.write(f"rejected {len(ones)} x {kind}, first at {ones[0].stamp_ns} ns: {ones[0].reason}\n")


def check_prompts(schedule: PromptSchedule, history: RunHistory) -> None:
    """Raise PromptError where an object that was asked for is in no result."""
    if schedule.unused:
        first = schedule.unused[0]
        frame = f"frame {first.frame}" if first.stamp_ns is None else f"a frame at {first.stamp_ns} ns"
        raise PromptError(f"{first.where}: {frame} was not processed; give a frame of the recording")
    missing = [i for i in schedule.object_ids if i not in history.objects]
    if missing:
        raise PromptError(f"objects {missing} were never tracked: {'; '.join(history.notes) or 'see the prompts'}")
