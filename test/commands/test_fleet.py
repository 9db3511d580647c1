"""Many recordings: in processes and on Ray as one after the other, resumable, a broken one costs itself."""

from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sam_perception.cli import main
from sam_perception.commands.fleet_job import Job, is_done, run_job
from sam_perception.commands.fleet_worker import Worker, run_in_processes
from sam_perception.config import PerceptionConfig
from sam_perception.settings import settings_of
from sam_perception.sinks.bag import BagSink
from sam_perception.sources import open_source
from sam_perception.sources.synthetic import SyntheticSource

pytest.importorskip("torch", reason="torch is not installed")

PROMPTS = "- {object_id: 1, label: left, box: [60, 40, 100, 90]}\n- {object_id: 2, points: [[30, 60]]}\n"
FRAMES = 2


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six small bags and prompts for them."""
    folder = tmp_path_factory.mktemp("bags")
    (folder / "prompts.yaml").write_text(PROMPTS)
    for number in range(6):
        with BagSink(folder / f"bag{number}", inputs=True, outputs=False) as sink:
            for frame in SyntheticSource(seed=number, width=160, height=120, frames=FRAMES):
                sink.write(frame)
    return folder


def process(bags: Path, out: Path, *options: str, count: int = 6) -> int:
    sources = [str(bags / f"bag{number}") for number in range(count)]
    prompts = ["--prompts", str(bags / "prompts.yaml"), "--device", "cpu"]
    return main(["process", *sources, str(out), *prompts, *options])


@pytest.fixture(scope="module")
def one_by_one(bags: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fleet") / "one_by_one"
    assert process(bags, out, "--workers", "1") == 0
    return out


def results(out: Path) -> dict[str, bytes]:
    """Every file but the marks, which hold times."""
    return {str(f.relative_to(out)): f.read_bytes() for f in out.rglob("*") if f.is_file() and f.name != "done.json"}


def test_one_by_one_equals_the_command_for_one_recording(bags: Path, one_by_one: Path, tmp_path: Path) -> None:
    out = tmp_path / "bag"
    prompts = ["--prompts", str(bags / "prompts.yaml"), "--device", "cpu"]
    assert main(["process", str(bags / "bag3"), str(out), *prompts]) == 0
    assert (out / "bag.mcap").read_bytes() == (one_by_one / "bag3/bag/bag.mcap").read_bytes()
    assert json.loads((one_by_one / "bag3/summary.json").read_text())["frames"] == FRAMES


def test_two_processes_give_the_same_bytes(bags: Path, one_by_one: Path, tmp_path: Path) -> None:
    assert process(bags, tmp_path / "out", "--workers", "2") == 0
    assert results(tmp_path / "out") == results(one_by_one)


@pytest.mark.slow
def test_two_workers_of_a_ray_cluster_give_the_same_bytes(bags: Path, one_by_one: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'sam_perception[ray]'")
    assert process(bags, tmp_path / "out", "--workers", "2", "--ray", "local") == 0
    assert results(tmp_path / "out") == results(one_by_one)


@pytest.mark.slow
def test_real_recordings_in_two_processes_and_on_ray_equal_one_by_one(shared_data: Path, tmp_path: Path) -> None:
    """Two scenes of each of three recordings: a moving camera, cluttered tables, a RealSense."""
    folder = tmp_path / "bags"
    for name in ("seq_kitchen_7scenes", "stills_osd", "stills_realsense_table"):
        frames = list(open_source(shared_data / name))[:4]
        for half in (0, 1):
            with BagSink(folder / f"bag{len(list(folder.glob('bag*')))}", inputs=True, outputs=False) as sink:
                for frame in frames[2 * half : 2 * half + 2]:
                    sink.write(frame)
    (folder / "prompts.yaml").write_text("- {object_id: 1, box: [250, 200, 330, 290]}\n")
    for name, options in (("a", ["--workers", "1"]), ("b", ["--workers", "2"]), ("c", ["--ray", "local"])):
        assert process(folder, tmp_path / name, *options) == 0
        assert results(tmp_path / name) == results(tmp_path / "a")
    assert len(results(tmp_path / "a")) == 6 * 4 + 3


def test_the_table_has_every_object_and_the_page_links_to_the_results(one_by_one: Path) -> None:
    with (one_by_one / "fleet.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["recording"], row["object"]) for row in rows] == [
        (f"bag{number}", name) for number in range(6) for name in ("1 left", "2")
    ]
    assert {row["state"] for row in rows} == {"done"}
    page = (one_by_one / "index.html").read_text()
    for number in range(6):
        assert f'href="bag{number}/bag"' in page
        assert (one_by_one / f"bag{number}/bag").is_dir()
    with (one_by_one / "bag0/objects.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * FRAMES


def test_only_what_is_missing_or_changed_is_done_again(
    bags: Path, one_by_one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, sources = tmp_path / "out", tmp_path / "bags"
    shutil.copytree(bags, sources)
    assert process(sources, out, count=3) == 0
    marks = {number: (out / f"bag{number}/done.json").stat().st_mtime_ns for number in range(3)}
    shutil.rmtree(out / "bag1")  # as if it had never been finished
    metadata = sources / "bag2/metadata.yaml"
    os.utime(metadata, ns=(1, 1))  # another recording
    assert process(sources, out, count=3) == 0
    assert "1 of 3 recordings are done already" in capsys.readouterr().err
    again = {n for n, mark in marks.items() if (out / f"bag{n}/done.json").stat().st_mtime_ns != mark}
    assert again == {1, 2}
    same, other = results(out), results(one_by_one)
    assert {name: same[name] for name in same if name.startswith("bag")} == {
        name: other[name] for name in other if name.startswith(("bag0", "bag1", "bag2"))
    }
    known = {**job(sources, out, 0).settings}
    assert is_done(job(sources, out, 0))
    assert not is_done(replace(job(sources, out, 0), settings={**known, "geometry.max_depth_m": 3.0}))
    (sources / "prompts.yaml").write_text("- {object_id: 1, box: [61, 40, 100, 90]}")
    assert not is_done(job(sources, out, 0))


def test_a_broken_recording_is_reported_and_the_others_are_done(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources, out = tmp_path / "bags", tmp_path / "out"
    shutil.copytree(bags, sources)
    for file in (sources / "bag1").glob("*.mcap"):
        file.write_bytes(b"cut off")
    assert process(sources, out, count=3) == 1
    shown = capsys.readouterr()
    assert "failed: bag1: SourceError" in shown.out
    assert "1 of 3 failed" in shown.out
    assert not (out / "bag1").exists()
    assert len(list(out.glob("*/done.json"))) == 2
    assert "SourceError" in (out / "index.html").read_text()
    with (out / "fleet.csv").open() as file:
        assert [row["recording"] for row in csv.DictReader(file) if row["state"] == "failed"] == ["bag1"]
    shutil.rmtree(sources / "bag1")
    shutil.copytree(bags / "bag1", sources / "bag1")
    assert process(sources, out, count=3) == 0
    assert "2 of 3 recordings are done already" in capsys.readouterr().err


def test_no_cluster_is_said_in_one_line(bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'sam_perception[ray]'")

    def refuse(**options: object) -> None:
        raise ConnectionError(f"nobody at {options['address']}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "init", refuse)
        assert process(bags, tmp_path / "out", "--ray", "10.0.0.9:6379") == 2
    error = capsys.readouterr().err
    assert "no Ray cluster at '10.0.0.9:6379' (nobody at 10.0.0.9:6379): start one with `ray start --head`" in error
    assert error.count("\n") == 1


def job(bags: Path, out: Path, number: int) -> Job:
    settings = {s.name: s.default for s in settings_of(PerceptionConfig(device="cpu"))}
    return Job(str(bags / f"bag{number}"), str(out / f"bag{number}"), str(bags / "prompts.yaml"), settings)


def test_a_worker_that_dies_costs_its_recording_only(bags: Path, tmp_path: Path) -> None:
    broken = Worker({"PYTHONHASHSEED": "no number"})  # Python refuses to start
    outcome = broken.run(job(bags, tmp_path, 0))
    assert outcome.name == "bag0"
    assert outcome.error.startswith("WorkerDied: the worker ended with exit code 1")
    broken._environment.pop("PYTHONHASHSEED")
    assert broken.run(job(bags, tmp_path, 0)).error == ""  # another process takes the next one
    assert broken._process is not None
    broken._process.kill()
    assert broken._reason() == "the worker was ended by signal 9; was it out of memory?"
    broken.close()


def test_a_job_survives_its_way_to_a_worker(bags: Path, tmp_path: Path) -> None:
    sent = job(bags, tmp_path, 0)
    assert Job.from_json(sent.to_json()) == sent
    assert Job.from_json(sent.to_json()).digest() == sent.digest()


def test_an_interrupted_run_leaves_nothing_that_counts(bags: Path, tmp_path: Path, one_by_one: Path) -> None:
    half = job(bags, tmp_path, 0)
    partial = tmp_path / "bag0.partial"
    (partial / "bag").mkdir(parents=True)
    (partial / "bag/bag.mcap").write_bytes(b"half")
    assert "holds other files, no job.json" in run_job(half).error  # not known to be ours: left alone
    (partial / "job.json").write_text("{}")
    assert run_job(half).error == ""
    assert not partial.exists()
    assert (tmp_path / "bag0/bag/bag.mcap").read_bytes() == (one_by_one / "bag0/bag/bag.mcap").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0", "--prompts", "p.yaml"], "--workers is 0: give at least 1"),
        (["--threads", "0", "--prompts", "p.yaml"], "--threads is 0: give at least 1"),
        ([], "no prompts: give --prompts FILE for all recordings"),
        (["--frames-only"], "--frames-only is for one recording"),
        (["--prompts", "p.yaml", "--report", "r"], "write --reports"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["process", "a", "b", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["x/run", "y/x/run"], "several recordings would be called x_run"),
        (["run", "realsense:"], "realsense: is a camera"),
    ],
)
def test_recordings_need_names_of_their_own(
    sources: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["process", *sources, str(tmp_path / "out"), "--prompts", "p.yaml"]) == 2
    assert message in capsys.readouterr().err


def test_other_peoples_folders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["process", "a", "b", str(tmp_path), "--prompts", "p.yaml"]) == 2
    assert "holds other files" in capsys.readouterr().err


def test_processes_take_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(
        "sam_perception.commands.fleet_worker.Worker", lambda environment: seen.append(environment) or _Idle()
    )
    assert list(run_in_processes([], 3, gpus=2)) == []
    assert seen == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}, {"CUDA_VISIBLE_DEVICES": "0"}]


class _Idle:
    def close(self) -> None:
        """Nothing was started."""
