"""`process` with a stand-in for the model: folders and bags in, bags and reports out."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fakes_io import FakePerception, make_frame, write_folder
from rosbags.highlevel import AnyReader

from sam_perception.cli import main
from sam_perception.commands.process import process
from sam_perception.sinks.bag import BagSink
from sam_perception.sources import open_source
from sam_perception.sources.bag import BagSource
from sam_perception.sources.prompt_file import read_prompts
from sam_perception.sources.synthetic import SyntheticSource

PROMPTS = "- {object_id: 1, label: red, box: [10, 20, 30, 40]}\n- {object_id: 2, points: [[50, 30]], frame: 3}\n"


@pytest.fixture
def perceptions(monkeypatch: pytest.MonkeyPatch) -> list[FakePerception]:
    """Puts the stand-in where Perception is imported from; the ones made are listed."""
    made: list[FakePerception] = []

    def make(config: object) -> FakePerception:
        made.append(FakePerception())
        return made[-1]

    monkeypatch.setitem(sys.modules, "sam_perception.perception", SimpleNamespace(Perception=make))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prompts.yaml").write_text(PROMPTS)
    return write_folder(tmp_path / "in", 12)


def objects_in(bag: Path) -> list[list[tuple[int, int]]]:
    """(id, state) of each object, per frame."""
    with AnyReader([bag]) as reader:
        connections = [c for c in reader.connections if c.topic == "/sam_perception/objects"]
        read = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages(connections)]
    return [[(o.id, o.state) for o in message.objects] for message in read]


def run(*arguments: Path | str) -> int:
    return main(["process", *map(str, arguments)])


@pytest.mark.usefixtures("perceptions")
def test_every_frame_goes_into_the_bag_and_the_report(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.yaml"
    assert run(folder, tmp_path / "out", "--prompts", prompts, "--report", tmp_path / "report") == 0
    read = objects_in(tmp_path / "out")
    assert len(read) == 12
    assert [i for i, _ in read[0]] == [1]
    assert [i for i, _ in read[3]] == [1, 2]
    assert read[6][0] == (1, 2)
    shown = capsys.readouterr().out
    assert "1 red" in shown
    assert "12 frames, 0 rejected" in shown
    page = (tmp_path / "report/index.html").read_text()
    assert "1 red" in page
    assert (tmp_path / "report/overlay.mp4").stat().st_size > 1000


@pytest.mark.usefixtures("perceptions")
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_the_same_input_gives_the_same_bytes(folder: Path, tmp_path: Path, storage: str) -> None:
    for name in ("a", "b"):
        out = tmp_path / name / "out"
        assert run(folder, out, "--prompts", tmp_path / "prompts.yaml", "--storage", storage, "--with-inputs") == 0
    a, b = ({f.name: f.read_bytes() for f in (tmp_path / name / "out").iterdir()} for name in ("a", "b"))
    assert a == b


def test_the_real_model_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    with BagSink(tmp_path / "in", inputs=True, outputs=False) as sink:
        for frame in SyntheticSource(width=160, height=120, frames=4):
            sink.write(frame)
    (tmp_path / "p.yaml").write_text("- {object_id: 1, box: [60, 40, 100, 90]}\n- {object_id: 2, points: [[30, 60]]}")
    for name in ("a", "b"):
        arguments = [tmp_path / "in", tmp_path / name / "out", "--prompts", tmp_path / "p.yaml", "--device", "cpu"]
        assert run(*arguments) == 0
    a, b = ((tmp_path / name / "out/out.mcap").read_bytes() for name in ("a", "b"))
    assert a == b
    assert [[i for i, _ in frame] for frame in objects_in(tmp_path / "a/out")] == [[1, 2]] * 4


@pytest.mark.usefixtures("perceptions")
def test_a_folder_becomes_a_bag_and_the_bag_gives_what_the_folder_gives(folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path / "frames", "--frames-only") == 0
    for first, second in zip(open_source(folder), open_source(tmp_path / "frames"), strict=True):
        np.testing.assert_array_equal(first.rgb, second.rgb)
        np.testing.assert_array_equal(first.depth_m, second.depth_m)
        assert (first.stamp_ns, first.intrinsics) == (second.stamp_ns, second.intrinsics)
    for source, out in ((folder, "a"), (tmp_path / "frames", "b")):
        assert run(source, tmp_path / out / "out", "--prompts", tmp_path / "prompts.yaml") == 0
    assert (tmp_path / "a/out/out.mcap").read_bytes() == (tmp_path / "b/out/out.mcap").read_bytes()


@pytest.mark.usefixtures("perceptions")
def test_outputs_with_inputs_can_be_processed_again(folder: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.yaml"
    assert run(folder, tmp_path / "first", "--prompts", prompts, "--with-inputs") == 0
    assert run(tmp_path / "first", tmp_path / "second", "--prompts", prompts) == 0
    assert len(BagSource(tmp_path / "first")) == 12
    assert objects_in(tmp_path / "first") == objects_in(tmp_path / "second")


def test_a_bad_frame_costs_itself_only(
    folder: Path, tmp_path: Path, perceptions: list[FakePerception], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "depth/000001.png").write_bytes(b"cut off")
    report = tmp_path / "report"
    assert run(folder, tmp_path / "out", "--prompts", tmp_path / "prompts.yaml", "--report", report) == 0
    assert len(objects_in(tmp_path / "out")) == 11
    assert perceptions[0].ages[2] == 12 - 3  # the prompt for frame 3 still came at frame 3
    assert "rejected 1 x MalformedImage" in capsys.readouterr().out
    assert "MalformedImage" in (report / "index.html").read_text()


def test_separate_scenes_are_processed_apart(tmp_path: Path, perceptions: list[FakePerception]) -> None:
    write_folder(tmp_path / "in", 3, '{"type": "stills"}')
    (tmp_path / "prompts.yaml").write_text(
        "- {object_id: 1, box: [1, 1, 9, 9]}\n- {object_id: 2, box: [1, 1, 9, 9], frame: 2}"
    )
    assert run(tmp_path / "in", tmp_path / "out", "--prompts", tmp_path / "prompts.yaml") == 0
    assert [[i for i, _ in frame] for frame in objects_in(tmp_path / "out")] == [[1], [], [2]]
    assert perceptions[0].resets == 3


def test_repeated_stamps_are_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    class Stuttering:
        description, independent, rejected = "stuttering", False, ()

        def __len__(self) -> int:
            return 4

        def __iter__(self):  # type: ignore[no-untyped-def]
            return (make_frame(i) for i in (0, 1, 1, 2))

    (tmp_path / "p.yaml").write_text("- {object_id: 1, box: [1, 1, 9, 9]}")
    history, rejected = process(Stuttering(), read_prompts(tmp_path / "p.yaml"), FakePerception(), [])  # type: ignore[arg-type]
    assert len(history.stamps_ns) == 3
    assert [one.kind for one in rejected] == ["StampError"]


@pytest.mark.usefixtures("perceptions")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "out"], "no prompts: give --prompts FILE"),
        (["nowhere", "out", "--frames-only"], "SourceError: nowhere does not exist"),
        (["in", "in", "--prompts", "prompts.yaml"], "SinkError: in exists already"),
        (["in", "out", "--prompts", "in/info.json"], "PromptError"),
        (["in", "out", "--prompts", "late.yaml"], "line 1: frame 99 was not processed"),
        (["in", "out", "--prompts", "prompts.yaml", "--set", "geometry.min_depth_m=-1"], "min_depth_m is -1.0"),
        (["in", "out", "--prompts", "prompts.yaml", "--set", "geometry.min_points=x"], "pass a int"),
        (["in", "out", "--prompts", "prompts.yaml", "--set", "colour=red"], "unknown setting 'colour'"),
        (["in", "out", "--prompts", "prompts.yaml", "--set", "colour"], "write NAME=VALUE"),
        (["in", "out", "--prompts", "prompts.yaml", "--config", "none.yaml"], "cannot be read"),
        (["in", "out", "--prompts", "prompts.yaml", "--limit", "0"], "at least one frame"),
        (["in", "out", "--prompts", "prompts.yaml", "--color-topic", "/x"], "cannot be read as a rosbag2"),
        (["in", "out", "--prompts", "prompts.yaml", "--report", "full"], "holds other files"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    folder: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "late.yaml").write_text("- {object_id: 1, box: [1, 1, 9, 9], frame: 99}")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert main(["process", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("perceptions")
def test_no_usable_frame_is_an_error(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for picture in (folder / "depth").iterdir():
        picture.write_bytes(b"")
    assert run(folder, tmp_path / "out", "--prompts", tmp_path / "prompts.yaml") == 2
    assert "no frame could be used, 12 were rejected" in capsys.readouterr().err
    assert run(folder, tmp_path / "copy", "--frames-only") == 2
