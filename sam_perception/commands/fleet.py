"""`sam-perception process` for many recordings: in processes or on a Ray cluster, resumable, one table at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sam_perception.commands.fleet_job import DONE, SUMMARY, Job, Outcome, is_done, run_job
from sam_perception.commands.fleet_ray import run_on_ray
from sam_perception.commands.fleet_worker import run_in_processes
from sam_perception.commands.settings import config_from
from sam_perception.errors import ConfigError, PromptError, SinkError, SourceError
from sam_perception.files import parsed_json
from sam_perception.settings import settings_of
from sam_perception.sinks.fleet_report import Recording, write_csv, write_page
from sam_perception.sinks.text_table import text_table

_MARK = "fleet.json"


def add_fleet_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is for several recordings."""
    group = parser.add_argument_group("several recordings")
    group.add_argument("--workers", type=int, metavar="N", help="processes at once, on one GPU each if there are any")
    group.add_argument("--ray", metavar="ADDRESS", help="work on a Ray cluster: HOST:PORT, auto, or local")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads of each (default 1; of one alone: all)")
    group.add_argument("--reports", action="store_true", help="a report for each, beside its bag")


def run_fleet(arguments: argparse.Namespace) -> int:
    """Process all recordings; returns 0, or 1 where one of them failed."""
    out = _prepared(arguments.output)
    jobs = make_jobs(arguments)
    waiting = [job for job in jobs if not is_done(job)]
    if len(waiting) < len(jobs):
        sys.stderr.write(f"{len(jobs) - len(waiting)} of {len(jobs)} recordings are done already\n")
    outcomes = {job.name: Outcome(job.name, 0.0, skipped=True) for job in jobs}
    for outcome in _with_progress(_carried_out(waiting, arguments), len(waiting)):
        outcomes[outcome.name] = outcome
        if outcome.error:
            sys.stderr.write(f"{outcome.name}: {outcome.error}\n")
    recordings = [_recording(job, outcomes[job.name]) for job in jobs]
    write_csv(out / "fleet.csv", recordings)
    write_page(out / "index.html", recordings)
    return _told(recordings, out)


def make_jobs(arguments: argparse.Namespace) -> list[Job]:
    """One job for each recording, each with a folder of its own.

    Raises:
        SourceError: two recordings of one name, or a camera among them.
        PromptError: no prompts.
    """
    settings = {setting.name: setting.default for setting in settings_of(config_from(arguments))}
    prompts = arguments.prompts
    if prompts is None:
        raise PromptError("no prompts: give --prompts FILE for all recordings, or a folder with NAME.yaml for each")
    jobs = []
    for source, name in zip(arguments.input, _names(arguments.input), strict=True):
        own = prompts / f"{name}.yaml" if prompts.is_dir() else prompts
        jobs.append(
            Job(
                source=str(source) if str(source).startswith("realsense:") else str(source.absolute()),
                folder=str(arguments.output.absolute() / name),
                prompts=str(own.absolute()),
                settings=settings,
                topics=(arguments.color_topic, arguments.depth_topic, arguments.info_topic),
                storage=arguments.storage,
                with_inputs=arguments.with_inputs,
                report=arguments.reports,
                limit=arguments.limit,
                threads=arguments.threads or 1,
            )
        )
    return jobs


def _names(sources: Sequence[Path]) -> list[str]:
    """The last part of each path; of those that are alike, the last two."""
    for source in sources:
        text = str(source)
        if text.startswith("realsense:") and not Path(text.partition(":")[2]).is_file():
            raise SourceError(f"{text} is a camera: give recordings, or process the camera alone")
    last = [_name(source) for source in sources]
    names = [n if last.count(n) == 1 else f"{s.absolute().parent.name}_{n}" for s, n in zip(sources, last, strict=True)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SourceError(f"several recordings would be called {', '.join(twice)}: rename their folders")
    return names


def _name(source: Path) -> str:
    path = Path(str(source).removeprefix("realsense:")).absolute()
    return path.stem if path.is_file() else path.name


def _prepared(out: Path) -> Path:
    """The folder for all results.

    Raises:
        SinkError: it holds something else, or cannot be written.
    """
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / _MARK).is_file():
            raise SinkError(f"{out} holds other files: give a new folder for the results of several recordings")
        out.mkdir(parents=True, exist_ok=True)
        (out / _MARK).write_text('{"made by": "sam-perception process"}\n', encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{out} cannot be written ({error.strerror})") from error
    return out


def _carried_out(jobs: Sequence[Job], arguments: argparse.Namespace) -> Iterator[Outcome]:
    if not jobs:
        return iter(())
    workers, device = arguments.workers, str(jobs[0].settings["device"])
    if arguments.ray is not None:
        return run_on_ray(jobs, arguments.ray, workers, gpus=device == "auto")
    if (workers or 1) == 1:
        return map(run_job, jobs)
    return run_in_processes(jobs, min(workers, len(jobs)), _gpus() if device == "auto" else 0)


def _gpus() -> int:
    from sam_perception.segmentation.hardware import torch_facts

    return len(torch_facts().gpus)


def _with_progress(outcomes: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    from tqdm import tqdm

    shown: Iterator[Outcome] = iter(tqdm(outcomes, total=total, unit="recording", disable=None))
    return shown


def _recording(job: Job, outcome: Outcome) -> Recording:
    if outcome.error:
        return Recording(job.name, error=outcome.error)
    folder = Path(job.folder)
    summary = parsed_json((folder / SUMMARY).read_text(encoding="utf-8"))
    report = f"{job.name}/report/index.html" if (folder / "report/index.html").is_file() else ""
    return Recording(
        name=job.name,
        frames=summary["frames"],
        rejected=sum(summary["rejected"].values()),
        objects=tuple(summary["objects"]),
        report=report,
    )


def _told(recordings: Sequence[Recording], out: Path) -> int:
    header = ("recording", "frames", "rejected", "objects", "state")
    rows = [
        (r.name, str(r.frames), str(r.rejected), str(len(r.objects)), "failed" if r.error else "done")
        for r in recordings
    ]
    failed = [r for r in recordings if r.error]
    sys.stdout.write(f"{text_table(header, rows)}\n{out / 'index.html'}\n{out / 'fleet.csv'}\n")
    for one in failed:
        sys.stdout.write(f"failed: {one.name}: {one.error}\n")
    if failed:
        sys.stdout.write(f"{len(failed)} of {len(recordings)} failed; the same command again does only these\n")
    return 1 if failed else 0


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ConfigError where the numbers make no sense, or options that are for a single recording are given."""
    for name in ("workers", "threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} is {value}: give at least 1")
    if arguments.frames_only:
        raise ConfigError("--frames-only is for one recording: leave it out, or run it once for each")
    if arguments.report is not None:
        raise ConfigError("--report DIR is for one recording: write --reports, and each gets one beside its results")


def is_fleet(arguments: argparse.Namespace) -> bool:
    """Whether several recordings, or the means for several, were given."""
    return len(arguments.input) > 1 or arguments.workers is not None or arguments.ray is not None


__all__ = ["DONE", "check_arguments", "is_fleet", "make_jobs", "run_fleet"]
