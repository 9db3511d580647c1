"""`sam-perception bench`: what it is asked, prints and writes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from sam_perception.benchmarks import memory
from sam_perception.benchmarks.memory import Growth
from sam_perception.cli import main, make_parser
from sam_perception.commands import bench
from sam_perception.commands.bench_parts import PARTS, Part, Table


def arguments(*words: str) -> argparse.Namespace:
    return make_parser().parse_args(["bench", *words])


def test_tracker_and_stages_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def grown(side: str, model: str, objects: int, at: tuple[int, ...], **_: Any) -> Growth:
        return Growth(side, model, objects, at, tuple(100.0 + n for n in at))  # measured in its own test

    monkeypatch.setattr(memory, "measure_growth", grown)
    found, picture = tmp_path / "b.json", tmp_path / "b.svg"
    command = ["bench", "--quick", "--parts", "tracker", "stages", "--models", "small@64", "--objects", "2"]
    assert main([*command, "--frames", "1", "--json", str(found), "--plot", str(picture)]) == 0
    shown = capsys.readouterr().out
    for wanted in ("times faster", "memory attention", "GFLOP", "operations of a step that wait for the device: none"):
        assert wanted in shown
    numbers = json.loads(found.read_text())
    assert [race["objects"] for race in numbers["tracker"]["races"]] == [2]
    assert numbers["tracker"]["races"][0]["ratio"] > 0
    assert [growth["side"] for growth in numbers["tracker"]["growth"]] == ["ours", "transformers"]
    assert numbers["stages"]["waits"] == {"small@64": {}}
    assert "processor" in numbers["machine"]
    assert picture.read_text().startswith("<svg")


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
        def part(plan: Any, bar: Any) -> Part:
            ran.append(name)
            return Part(name, [Table(name, ("a", "b"), [("1", "2")])], {"plan": plan.frames})

        return part

    for name in PARTS:
        monkeypatch.setitem(PARTS, name, fake(name))
    found = tmp_path / "b.json"
    assert main(["bench", "--parts", "memory", "tracker", "memory", "--frames", "9", "--json", str(found)]) == 0
    assert ran == ["memory", "tracker"]
    assert json.loads(found.read_text())["memory"] == {"plan": 9}
    assert main(["bench", "--parts", "pipeline", "--plot", str(tmp_path / "p.svg")]) == 2


def test_a_cpu_is_spared_two_hundred_frames_of_the_largest_pictures() -> None:
    plan = bench.plan_of(arguments())
    assert plan.memory_at("tiny@512") == (20, 200)
    assert plan.memory_at("tiny@1024") == (20, 60)
    assert bench.plan_of(arguments("--device", "cuda")).memory_at("tiny@1024") == (20, 200)
    assert plan.soak_at[-1] == 10_000
    assert bench.plan_of(arguments("--quick")).objects == [1, 4]
