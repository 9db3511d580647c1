"""What README.md says is there, is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from package_facts import PACKAGE, ROOT

from sam_perception import PerceptionConfig
from sam_perception.cli import make_parser
from sam_perception.settings import settings_of
from sam_perception.sinks.bag import BagSink
from sam_perception.sources.synthetic import SyntheticSource

README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TABLE = re.findall(r"^\| (in|out|srv) \| `([~\w/]+)` \| (\w+)/(\w+) \|", README, re.MULTILINE)


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    table = SyntheticSource(frames=3, width=640, height=480)
    with BagSink(tmp_path / "recording.bag", inputs=True, outputs=False) as bag:
        for frame in table:
            bag.write(frame)
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[0], "README.md", "exec"), {})  # noqa: S102  (our own README)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("mug ") for line in lines)


def test_the_other_python_parses() -> None:
    assert len(PYTHON) > 1
    for text in PYTHON[1:]:
        ast.parse(text)


def test_the_table_has_every_topic_and_service() -> None:
    pytest.importorskip("sam_perception.msg")
    publishers = pytest.importorskip("sam_perception.ros.publishers")
    named = {way: {name: kind for w, name, *kind in TABLE if w == way} for way in ("in", "out", "srv")}
    # The policy is compared with the running node by a test of its own.
    policy = (ROOT / "config" / "sros2_policy.xml").read_text()
    read = set(
        re.findall(r"<topic>([^<]*)</topic>", policy.partition('subscribe="ALLOW"')[2].partition("</topics>")[0])
    )
    elsewhere = {"clock", "parameter_events", "tf", "tf_static"} | {name for name in read if name.startswith("camera/")}
    assert (read - elsewhere) | {"color/image_raw", "depth/image_raw", "color/camera_info", "imu"} == set(named["in"])
    outputs = {topic: spec.kind.split("/") for topic, spec in publishers.OUTPUTS.items()}
    assert {**outputs, "/diagnostics": ["diagnostic_msgs", "DiagnosticArray"]} == named["out"]
    code = "".join((PACKAGE / "ros" / f"{name}.py").read_text() for name in ("services", "regions"))
    assert dict(re.findall(r'create_service\(\s*(\w+), "(~/\w+)"', code)) == {
        kind: name for name, (_, kind) in named["srv"].items()
    }


def test_commands_are_those_of_the_command_line() -> None:
    shown = set(re.findall(r"^\| `sam-perception (\w+)", README, re.MULTILINE))
    text = make_parser().format_help()
    assert shown == set(re.findall(r"^    (\w+) {2,}\S", text, re.MULTILINE))


def test_parameters_that_are_named_exist() -> None:
    node = pytest.importorskip("sam_perception.ros.settings")
    known = {setting.name for config in (PerceptionConfig(), node.NodeConfig()) for setting in settings_of(config)}
    named = set(re.findall(r"\b(?:geometry|tracker|grasps|navigation|input|sync|output)\.[a-z_]+", README))
    assert named
    assert named <= known


def test_files_that_are_linked_exist() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_files_that_are_named_exist() -> None:
    for name in re.findall(r"`((?:requirements|config|launch|docs|sam_perception)/[\w./-]+)`", README):
        assert (ROOT / name).exists(), name
