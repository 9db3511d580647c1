"""`sam-perception bench`: what it is asked, prints and writes."""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from sam_perception.benchmarks import memory
from sam_perception.benchmarks.busy import Busy
from sam_perception.benchmarks.memory import Growth
from sam_perception.cli import main, make_parser
from sam_perception.commands import bench
from sam_perception.commands.bench_parts import PARTS, node_part
from sam_perception.commands.bench_plan import Part, Progress, Table
from sam_perception.commands.bench_stages import busy_table
from sam_perception.errors import PerceptionError
from sam_perception.segmentation import current_device


def arguments(*words: str) -> argparse.Namespace:
    return make_parser().parse_args(["bench", *words])


def test_tracker_and_stages_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def grown(side: str, model: str, objects: int, at: tuple[int, ...], **_: Any) -> Growth:
        return Growth(side, model, objects, at, tuple(100.0 + n for n in at))  # measured in its own test

    monkeypatch.setattr(memory, "measure_growth", grown)
    found, picture = tmp_path / "b.json", tmp_path / "b.svg"
    command = ["bench", "--quick", "--parts", "tracker", "stages", "--models", "small@64", "--objects", "3", "1", "2"]
    assert main([*command, "--frames", "1", "--json", str(found), "--plot", str(picture)]) == 0
    shown = capsys.readouterr().out
    for wanted in (
        "times faster", "by CPU time", "memory attention", "GFLOP", "number format: float32",
        "operations of a step that wait for the device: none",
    ):  # fmt: skip
        assert wanted in shown
    numbers = json.loads(found.read_text())
    assert [race["objects"] for race in numbers["tracker"]["races"]] == [3, 1, 2]
    assert numbers["tracker"]["races"][0]["ratio"] > 0
    assert numbers["tracker"]["races"][0]["cpu_ratio"] > 0
    for measured in ("stages", "limits"):
        assert [one["objects"] for one in numbers["stages"][measured]] == [1, 2, 3]
    assert numbers["stages"]["busy"] == []  # there is no device to idle
    assert [growth["side"] for growth in numbers["tracker"]["growth"]] == ["ours", "transformers"]
    assert numbers["stages"]["waits"] == {"small@64": {}}
    assert "processor" in numbers["machine"]
    assert "small@64, 2 objects: memory of the process" in picture.read_text()


def test_what_is_measured_is_told_at_once_and_kept_if_the_rest_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any, **__: Any) -> Growth:
        raise PerceptionError("it may have run out of memory")

    monkeypatch.setattr(memory, "measure_growth", dies)
    monkeypatch.setitem(
        PARTS, "pipeline", lambda *_: Part("pipeline", [Table("p", ("a",), [("1",)])], {"bound_ms": float("nan")})
    )
    monkeypatch.setattr("sam_perception._ros_environment.ensure_ros_environment", lambda: None)
    found = tmp_path / "b.json"
    command = ["bench", "--quick", "--parts", "pipeline", "tracker", "--models", "small@64", "--objects", "1", "2"]
    assert main([*command, "--frames", "1", "--json", str(found)]) == 2
    told = capsys.readouterr()
    for count in (1, 2):
        assert f"tracker small@64, objects {count}: ours " in told.out
    assert "out of memory" in told.err
    assert json.loads(found.read_text())["pipeline"] == {"bound_ms": None}  # JSON has no NaN


def test_everything_is_measured_in_the_format_and_on_the_device_that_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, Any]] = []
    entered: list[str] = []

    def grown(side: str, model: str, objects: int, at: tuple[int, ...], **options: Any) -> Growth:
        asked.append(options)
        return Growth(
            side, model, objects, at, tuple(100.0 for _ in at), tuple(3.0 for _ in at), tuple(7.0 for _ in at)
        )

    monkeypatch.setattr(memory, "measure_growth", grown)
    monkeypatch.setattr(current_device, "on_device", lambda device: entered.append(str(device)) or nullcontext())
    monkeypatch.setattr("torch.compile", lambda function, **_: function)
    command = ["bench", "--quick", "--parts", "tracker", "stages", "memory", "--models", "small@64"]
    assert main([*command, "--objects", "1", "--frames", "1", "--dtype", "bfloat16", "--compile"]) == 0
    assert entered == ["cpu"]
    assert len(asked) == 4
    assert {(a["device"], a["dtype"], a["compile"]) for a in asked} == {("cpu", "bfloat16", True)}
    shown = capsys.readouterr().out
    for wanted in ("before anything is timed: compiled", "ours compiled", "number format: bfloat16", "GPU: tensors"):
        assert wanted in shown


def test_the_device_busy_share_is_shown() -> None:
    (row,) = busy_table([Busy("tiny@1024", 4, step_ms=20.0, busy_ms=15.0)]).rows
    assert list(row) == ["tiny@1024", "4", "20.00", "15.00", "75 %"]


def test_the_node_runs_as_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    pytest.importorskip("sam_perception.msg", reason="the messages are not built")
    from sam_perception.ros import bench_node

    asked: list[dict[str, Any]] = []

    def latency(objects: int, rate_hz: float, frames: int, settings: dict[str, Any], *_: Any, **__: Any) -> Any:
        asked.append(settings)
        return [bench_node.NodeLatency(rate_hz, objects, frames, frames, 1.0, 2.0, 3.0)] * 2

    monkeypatch.setattr(bench_node, "node_latency", latency)
    plan = bench.plan_of(arguments("--dtype", "float16", "--compile", "--device", "cuda:1"))
    node_part(plan, Progress(lambda _: lambda *_: None, lambda _: None))
    (settings,) = asked
    assert (settings["device"], settings["dtype"], settings["compile"]) == ("cuda:1", "float16", True)


def test_pipeline_names_every_part_and_their_sum(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    pytest.importorskip("sam_perception.msg", reason="the messages are not built")
    assert main(["bench", "--quick", "--parts", "pipeline"]) == 0
    shown = capsys.readouterr().out
    for wanted in ("synchroniser", "points, centroids, boxes", "~/object_points serialised", "is to stay under 15"):
        assert wanted in shown


@pytest.mark.slow
def test_node_is_measured_over_dds(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    pytest.importorskip("sam_perception.msg", reason="the messages are not built")
    monkeypatch.chdir(tmp_path)
    found = tmp_path / "b.json"
    assert main(["bench", "--quick", "--parts", "node", "--objects", "1", "--json", str(found)]) == 0
    node = json.loads(found.read_text())["node"]
    assert node["calm"]["answered"] == 10
    assert 0 < node["calm"]["p50_ms"] <= node["calm"]["p99_ms"]
    assert node["rushed"]["answered"] > 0
    assert "frame by frame" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--objects", "0"], "--objects is 0"),
        (["--frames", "0"], "--frames is 0"),
        (["--threads", "-1"], "--threads is -1"),
        (["--models", "tiny@33", "--parts", "tracker"], "multiple of 32"),
        (["--parts", "node", "--models", "tiny@64"], "put a model with weights first"),
    ],
)
def test_what_cannot_be_measured_is_said(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "node" in words:
        pytest.importorskip("rclpy", reason="rclpy is not installed")
    assert main(["bench", "--quick", *words]) == 2
    assert message in capsys.readouterr().err


def test_only_what_is_named_is_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []

    def fake(name: str) -> Any:
        def part(plan: Any, progress: Progress) -> Part:
            ran.append(name)
            progress.tell(name)
            return Part(name, [Table(name, ("a", "b"), [("1", "2")])], {"plan": plan.frames})

        return part

    for name in PARTS:
        monkeypatch.setitem(PARTS, name, fake(name))
    found = tmp_path / "b.json"
    assert main(["bench", "--parts", "memory", "tracker", "memory", "--frames", "9", "--json", str(found)]) == 0
    assert ran == ["memory", "tracker"]
    assert json.loads(found.read_text())["memory"] == {"plan": 9}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--parts", "pipeline", "--plot", "{}/p.svg"], "--plot shows the parts"),
        (["--parts", "memory", "--plot", "{}/none/p.svg"], "cannot be written"),
        (["--parts", "memory", "--json", "{}"], "cannot be written"),
        (["--parts", "memory", "tracker", "--models", "nano", "tiny@33"], "multiple of 32"),
        (["--parts", "memory", "tracker", "--models", "nano", "nowhere"], "no model 'nowhere'"),
        (["--parts", "memory", "node", "--models", "tiny@64"], "put a model with weights first"),
        (["--parts", "memory", "--dtype", "int8"], "dtype is 'int8'"),
        (["--parts", "memory", "--device", "cuda:99"], "device is 'cuda:99'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_measured(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    for name in PARTS:
        monkeypatch.setitem(PARTS, name, lambda *_: ran.append("a part"))
    assert main(["bench", *(word.format(tmp_path) for word in words)]) == 2
    assert message in capsys.readouterr().err
    assert ran == []
    assert list(tmp_path.iterdir()) == []  # a look at whether it can be written leaves nothing


def test_a_cpu_is_spared_two_hundred_frames_of_the_largest_pictures() -> None:
    plan = bench.plan_of(arguments())
    assert plan.memory_at("tiny@512") == (20, 200)
    assert plan.memory_at("tiny@1024") == (20, 60)
    assert bench.plan_of(arguments("--device", "cuda")).memory_at("tiny@1024") == (20, 200)
    assert plan.soak_at[-1] == 10_000
    assert bench.plan_of(arguments("--quick")).objects == [1, 4]
