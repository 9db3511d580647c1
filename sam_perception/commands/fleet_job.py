"""One recording of many: what is to be done with it, doing it, and knowing later that it is done.

A recording's results lie in a folder that appears, whole, when they are complete; `done.json` in it says
what they were made from. The same job gives the same bytes in any process on any machine of one kind:
times are kept apart, in `done.json`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sam_perception.config import PerceptionConfig
from sam_perception.errors import PerceptionError, SinkError
from sam_perception.files import parsed_json
from sam_perception.frame import RgbdFrame
from sam_perception.scene import Scene
from sam_perception.settings import Value, with_settings
from sam_perception.sinks.history import RunHistory
from sam_perception.sources import Rejection

DONE, SUMMARY, OBJECTS, PARTIAL = "done.json", "summary.json", "objects.csv", ".partial"
_JOB = "job.json"

_COLUMNS = ("stamp_ns", "id", "label", "state", "score", "area_px", "x_m", "y_m", "z_m")


@dataclass(frozen=True)
class Job:
    """One recording and all that decides its results."""

    source: str
    folder: str  # of its results
    prompts: str | None
    settings: Mapping[str, Value]  # every one of them, by dotted name
    topics: tuple[str | None, str | None, str | None] = (None, None, None)  # colour, depth, camera_info
    storage: str = "mcap"
    with_inputs: bool = False
    report: bool = False
    limit: int | None = None
    threads: int = 1

    @property
    def name(self) -> str:
        """What the recording is called in tables."""
        return Path(self.folder).name

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Job:
        """The job that `to_json` wrote."""
        entries = parsed_json(text)
        return Job(**{**entries, "topics": tuple(entries["topics"])})

    def digest(self) -> str:
        """SHA-256 of what the results depend on; files count with name, size and time of change."""
        known: dict[str, Any] = {**asdict(self), "folder": "", "version": _version()}
        known["source files"] = _listing(Path(self.source))
        model = Path(str(self.settings["model"]))
        known["model files"] = _listing(model) if model.is_dir() else ""
        if self.prompts is not None:
            known["prompt files"] = _prompt_files(Path(self.prompts))
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    name: str
    seconds: float
    error: str = ""  # empty: done
    skipped: bool = False  # was done before


def _version() -> str:
    try:
        return metadata.version("sam_perception")
    except metadata.PackageNotFoundError:
        return "source tree"


def _listing(path: Path) -> list[tuple[str, int, int]]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [(str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


def _prompt_files(path: Path) -> list[tuple[str, int, int]]:
    """The prompts and, since masks lie there too, the pictures below their folder."""
    pictures = sorted(path.parent.rglob("*.png")) if path.is_file() else []
    return [entry for file in (path, *pictures) for entry in _listing(file)]


# ---------------------------------------------------------------------- is it done


def is_done(job: Job) -> bool:
    """Whether the job's results are there, complete and made from the same."""
    file = Path(job.folder) / DONE
    try:
        return bool(parsed_json(file.read_text(encoding="utf-8"))["digest"] == job.digest())
    except (OSError, ValueError, KeyError, TypeError):
        return False


# ---------------------------------------------------------------------- doing it


def run_job(job: Job) -> Outcome:
    """Process one recording; whatever goes wrong with it is in the outcome, so that the others go on."""
    start = time.perf_counter()
    try:
        if is_done(job):
            return Outcome(job.name, 0.0, skipped=True)
        _run(job, start)
    except Exception as error:  # a recording that breaks a library is one broken recording
        kind = error.kind if isinstance(error, PerceptionError) else type(error).__name__
        return Outcome(job.name, time.perf_counter() - start, f"{kind}: {' '.join(str(error).split())}")
    return Outcome(job.name, time.perf_counter() - start)


def _run(job: Job, start: float) -> None:
    from sam_perception.segmentation.hardware import use_threads

    use_threads(job.threads)
    final, digest = Path(job.folder), job.digest()
    partial = _fresh(final.with_name(final.name + PARTIAL), job)
    history, rejected = _process(job, partial)
    summary = _summary(job, history, rejected)
    (partial / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    (partial / _JOB).unlink()
    done = {"digest": digest, "seconds": round(time.perf_counter() - start, 3)}
    (partial / DONE).write_text(json.dumps(done) + "\n", encoding="utf-8")
    if final.exists():
        _remove(final, DONE)
    partial.rename(final)


def _fresh(folder: Path, job: Job) -> Path:
    """An empty folder in place of what a run that was interrupted has left there."""
    if folder.exists():
        _remove(folder, _JOB)
    folder.mkdir(parents=True)
    (folder / _JOB).write_text(job.to_json() + "\n", encoding="utf-8")
    return folder


def _remove(folder: Path, mark: str) -> None:
    """Remove a folder that was made here.

    Raises:
        SinkError: it was not.
    """
    if any(folder.iterdir()) and not (folder / mark).is_file():
        raise SinkError(f"{folder} holds other files, no {mark}: give another OUT")
    shutil.rmtree(folder)


def _process(job: Job, folder: Path) -> tuple[RunHistory, Sequence[Rejection]]:
    from contextlib import ExitStack

    from sam_perception.commands.process import Sink, check_prompts, open_input, process
    from sam_perception.perception import Perception
    from sam_perception.sinks.bag import BagSink
    from sam_perception.sinks.report import ReportSink
    from sam_perception.sources.prompt_file import PromptSchedule, read_prompts

    config = with_settings(PerceptionConfig(), job.settings)
    schedule = PromptSchedule([]) if job.prompts is None else read_prompts(job.prompts)
    with open_input(Path(job.source), job.topics) as source, ExitStack() as stack:
        perception = Perception(config)
        bag = BagSink(folder / "bag", storage=job.storage, inputs=job.with_inputs, grasps=config.grasps)
        sinks: list[Sink] = [stack.enter_context(bag), stack.enter_context(_ObjectTable(folder / OBJECTS))]
        if job.report:
            about = f"{source.description}; model {config.model}"
            report = ReportSink(
                folder / "report",
                title=f"sam_perception: {job.name}",
                source=about,
                independent=source.independent,
                grasps=config.grasps,
            )
            sinks.append(stack.enter_context(report))
        history, rejected = process(source, schedule, perception, sinks, limit=job.limit)
    check_prompts(schedule, history)
    return history, rejected


class _ObjectTable:
    """objects.csv: one line per object and frame."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _ObjectTable:
        self._file = self._path.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(_COLUMNS)
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def write(self, frame: RgbdFrame, scene: Scene) -> None:
        """Append one frame's objects."""
        del frame
        for track in scene.objects:
            place = ("", "", "") if track.centroid is None else tuple(f"{float(x):.6f}" for x in track.centroid)
            about = (scene.stamp_ns, track.id, track.label, track.state.name, f"{track.score:.6f}")
            self._rows.writerow((*about, int(track.mask.sum()), *place))


def _summary(job: Job, history: RunHistory, rejected: Sequence[Rejection]) -> dict[str, Any]:
    kinds: dict[str, int] = {}
    for one in rejected:
        kinds[one.kind] = kinds.get(one.kind, 0) + 1
    header, rows = history.rows()
    return {
        "recording": job.name,
        "frames": len(history.stamps_ns),
        "rejected": kinds,
        "objects": [dict(zip(header, row, strict=True)) for row in rows],
        "notes": history.notes,
    }
