"""The demo: live against the real node, and what it says when something is wrong."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import psutil
import pytest
from fakes_io import make_frame, write_folder

from sam_perception.cli import main
from sam_perception.commands import demo
from sam_perception.commands.score import ObjectScore
from sam_perception.errors import NodeFailed
from sam_perception.scene import Lifted, ObjectState, OrientedBox, Scene, Track
from sam_perception.sinks.bag import OUTPUTS
from sam_perception.sources import open_source
from sam_perception.sources.first_prompts import prompts_of_labels
from sam_perception.sources.frames import FrameList
from sam_perception.sources.prompt_file import PromptSchedule
from sam_perception.sources.results import read_scenes


@pytest.fixture(scope="module")
def ros() -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    pytest.importorskip("sam_perception.msg", reason="the messages are not built")


@pytest.mark.usefixtures("ros")
def test_a_short_table_goes_through_the_live_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    code = main(["demo", "--out", str(out), "--frames", "6", "--size", "320x240", "--min-iou", "0"])
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert "frames processed: 6" in shown
    assert "the node did its job" in shown
    scenes = list(read_scenes(out / "bag", 320, 240))
    assert [[track.id for track in scene.objects] for scene in scenes] == [[1, 2, 3, 4]] * 6
    assert scenes[0].objects[1].mask.sum() > 500
    page = (out / "report/index.html").read_text()
    assert "Against the truth" in page
    assert "Diagnostics: /sam_perception: latency" in page


@pytest.mark.usefixtures("ros")
def test_a_node_that_cannot_work_is_reported_in_its_own_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["demo", "--out", str(tmp_path / "out"), "--frames", "1", "--size", "64x64", "--model", "nowhere"])
    assert code == 2
    error = capsys.readouterr().err
    assert "NodeFailed" in error
    assert "no model 'nowhere'" in error


@pytest.mark.usefixtures("ros")
def test_a_node_that_ends_by_itself_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sam_perception.ros import node_process

    dying = [sys.executable, "-c", "import sys; sys.exit('no such device')"]
    monkeypatch.setattr(node_process, "node_command", lambda _: dying)
    assert main(["demo", "--out", str(tmp_path / "out"), "--frames", "1", "--size", "64x64"]) == 2
    assert "NodeFailed: the node ended with code 1: no such device" in capsys.readouterr().err
    assert not (tmp_path / "out/bag/metadata.yaml").exists()


@pytest.mark.usefixtures("ros")
def test_a_node_that_is_killed_while_frames_are_played_is_noticed_at_once(tmp_path: Path) -> None:
    from sam_perception._ros_environment import ensure_ros_environment

    ensure_ros_environment()
    from sam_perception.ros.demo import play

    frames = FrameList([make_frame(i) for i in range(50)], "fifty frames")

    def kill() -> None:
        for child in psutil.Process().children():
            if "sam_perception.ros.node" in child.cmdline():
                child.kill()

    started = time.monotonic()
    with pytest.raises(NodeFailed, match="code -9"):
        play(frames, PromptSchedule([]), bag=tmp_path / "bag", log=tmp_path / "log", settings={}, on_frame=kill)
    assert time.monotonic() - started < 60
    assert not (tmp_path / "bag/metadata.yaml").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("ros")
def test_a_recording_is_played_as_folder_and_as_bag(shared_data: Path, tmp_path: Path) -> None:
    kitchen = shared_data / "seq_kitchen_7scenes"
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("- {object_id: 1, label: mug, box: [388, 368, 425, 415]}")
    assert main(["process", str(kitchen), str(tmp_path / "bag"), "--frames-only", "--limit", "20"]) == 0
    for option, path in (("--data", kitchen), ("--bag", tmp_path / "bag")):
        out = tmp_path / f"played{option}"
        assert main(["demo", option, str(path), "--out", str(out), "--frames", "20", "--prompts", str(prompts)]) == 0
        assert len(list(read_scenes(out / "bag", 640, 480))) == 20


@pytest.mark.usefixtures("ros")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "SourceError: nowhere does not exist"),
        (["--data", "stills"], "there is nothing to follow between them"),
        (["--frames", "0"], "play at least one"),
        (["--size", "large"], "write it as 640x480"),
        (["--rate", "0"], "give frames per second"),
        (["--data", "in", "--prompts", "none.yaml"], "cannot be read"),
        (["--data", "in", "--out", "full"], "holds other files"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "in", 2)
    write_folder(tmp_path / "stills", 2, '{"type": "stills"}')
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis").touch()
    assert main(["demo", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    out = demo._fresh_folder(tmp_path / "out")
    (out / "bag").mkdir()
    (out / "bag/bag.mcap").touch()
    (out / "notes.txt").touch()
    demo._fresh_folder(out)
    assert not (out / "bag").exists()
    assert (out / "notes.txt").exists()


def test_without_prompts_labels_or_the_middle_are_followed(tmp_path: Path) -> None:
    import cv2

    folder = write_folder(tmp_path / "in", 2)
    (middle,) = prompts_of_labels(open_source(folder), folder)
    assert middle.prompt.points.tolist() == [[40.0, 30.0]]  # type: ignore[union-attr]
    (folder / "labels").mkdir()
    labels = np.zeros((60, 80), np.uint8)
    labels[:9], labels[50:] = 4, 7
    cv2.imwrite(str(folder / "labels/000000.png"), labels)
    assert [one.prompt.object_id for one in prompts_of_labels(open_source(folder), folder)] == [4, 7]


def playback(**changes: object) -> object:
    from types import SimpleNamespace

    values = {
        "stamps_ns": (1, 2),
        "latency_ms": {1: 5.0, 2: 6.0},
        "counts": dict.fromkeys((*OUTPUTS, "/diagnostics"), 2),
        "refusals": (),
        "exit_code": 0,
    }
    return SimpleNamespace(**{**values, **changes})


def tracked(stamp: int, *, position: bool = True) -> Scene:
    box = OrientedBox(np.zeros(3), np.eye(3), np.ones(3)) if position else None
    track = Track(1, "", ObjectState.TRACKED, 1.0, 1.0, np.ones((4, 4), bool), stamp, Lifted(box=box))
    return Scene(stamp, "optical", 4, 4, (track,))


@pytest.mark.parametrize(
    ("changes", "scenes", "iou", "rate", "failure"),
    [
        ({}, (1, 2), 0.9, None, None),
        ({}, (1,), 0.9, None, "1 of 2 frames have a result, 2 are needed"),
        ({"stamps_ns": tuple(range(100))}, (1, 2, 3, 4, 5), 0.9, 30.0, None),
        ({"stamps_ns": tuple(range(100))}, (1, 2, 3, 4), 0.9, 30.0, "4 of 100 frames"),
        ({}, (1, 2), 0.2, None, "mean IoU is 0.200, 0.5 is needed"),
        ({"refusals": ("object 1: no slot",)}, (1, 2), 0.9, None, "a prompt was refused: object 1: no slot"),
        ({"counts": {"/sam_perception/mask": 0}}, (1, 2), 0.9, None, "nothing was recorded on /sam_perception/mask"),
        ({"exit_code": -9}, (1, 2), 0.9, None, "ended with code -9"),
    ],
)
def test_what_counts_as_a_job_not_done(
    changes: dict[str, object], scenes: tuple[int, ...], iou: float, rate: float | None, failure: str | None
) -> None:
    job = demo.Job(FrameList([], "none"), PromptSchedule([]))
    scores = [ObjectScore(1, "cup", ious=[iou])]
    found = {stamp: tracked(stamp) for stamp in scenes}
    arguments = Namespace(rate=rate, min_iou=0.5)
    failures = demo._failures(job, playback(**changes), found, scores, arguments)  # type: ignore[arg-type]
    assert len(failures) == (failure is not None)
    assert failure is None or failure in failures[0]


def test_an_object_without_a_position_is_a_job_not_done(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in", 1)
    schedule = PromptSchedule(prompts_of_labels(open_source(folder), folder))
    list(schedule.due(0, 0))
    job = demo.Job(FrameList([], "none"), schedule)
    found = {stamp: tracked(stamp, position=False) for stamp in (1, 2)}
    failures = demo._failures(job, playback(), found, [], Namespace(rate=None, min_iou=0.5))  # type: ignore[arg-type]
    assert failures == ["object 1 was never tracked with a position"]
