"""Processes are killed while they write: what lies on the disk then is whole, or readable up to there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from sam_perception.errors import SourceError
from sam_perception.files import replaced

HERE = Path(__file__).parent


def kill_while_writing(what: str, folder: Path, after_s: float) -> None:
    """Start a writer, and kill it some time after it has begun."""
    paths = [str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    with subprocess.Popen(
        [sys.executable, str(HERE / "reliability_writer.py"), what, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"writing\n"
            threading.Event().wait(after_s)
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.parametrize("after_s", [0.03, 0.11, 0.17])
def test_a_file_is_the_one_before_or_the_one_after(tmp_path: Path, after_s: float) -> None:
    kill_while_writing("file", tmp_path, after_s)
    lines = (tmp_path / "numbers.txt").read_text().splitlines()
    first = lines[0].split()[0]
    assert lines == [f"{first} {number}" for number in range(2000)]


def test_objects_kept_for_a_restart_are_whole(tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    from sam_perception.ros.resume import ObjectStore

    kill_while_writing("resume", tmp_path, 0.1)
    pairs = ObjectStore(tmp_path / "objects.npz", 60.0)._read()
    assert [(p.label, int(p.mask.sum())) for _, prompts in pairs for p in prompts] == [("mug", 400)]


def test_a_checkpoint_is_one_of_the_last_two(tmp_path: Path) -> None:
    from sam_perception.training.checkpoint import load_run

    kill_while_writing("checkpoint", tmp_path, 0.13)
    state, tensors = load_run(tmp_path / "run")
    assert state.step >= 2
    assert float(tensors["weights"].min()) == float(tensors["weights"].max()) == float(state.step)


def test_a_bag_is_readable_up_to_where_it_was_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sam_perception.cli import main
    from sam_perception.sources import open_source

    kill_while_writing("bag", tmp_path, 0.3)
    bag = tmp_path / "bag"
    assert not (bag / "metadata.yaml").exists()
    with pytest.raises(SourceError, match="was cut off: `sam-perception recover"):
        open_source(bag)
    assert main(["recover", str(bag)]) == 0
    assert "messages and can be read" in capsys.readouterr().out
    with open_source(bag) as source:
        frames = list(source)
    assert len(frames) > 10
    for index, frame in enumerate(frames):  # exactly what was written, from the first one on
        assert frame.stamp_ns == 10**9 + index * 33_000_000
        expected = np.random.default_rng(index).integers(0, 255, (240, 320, 3), np.uint8)
        np.testing.assert_array_equal(frame.rgb, expected)


def test_any_cut_through_a_bag_leaves_its_beginning(tmp_path: Path) -> None:
    import shutil

    from reliability_writer import frame

    from sam_perception.sinks.bag import BagSink
    from sam_perception.sources import open_source
    from sam_perception.sources.bag_recovery import recover_bag

    with BagSink(tmp_path / "whole", inputs=True, outputs=False) as sink:
        for index in range(12):
            sink.write(frame(index, 320, 240))
    whole = (tmp_path / "whole" / "whole.mcap").read_bytes()
    counts = []
    for part in np.linspace(1.0, 0.05, 9):
        bag = tmp_path / f"cut_{part:.2f}"
        shutil.copytree(tmp_path / "whole", bag)
        (bag / "metadata.yaml").unlink()
        (bag / "whole.mcap").write_bytes(whole[: int(len(whole) * part)])
        try:
            recover_bag(bag)
            with open_source(bag) as source:
                counts.append(len(list(source)))
        except SourceError:
            counts.append(0)
    assert counts[0] == 12
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) > 3


def test_what_was_never_a_recording_is_said(tmp_path: Path) -> None:
    from sam_perception.sources.bag_recovery import recover_bag

    with pytest.raises(SourceError, match="holds 0 mcap files"):
        recover_bag(tmp_path)
    (tmp_path / "x.mcap").write_bytes(b"\x89MCAP0\r\n")
    with pytest.raises(SourceError, match="no whole record"):
        recover_bag(tmp_path)
    (tmp_path / "x.mcap").write_bytes(b"")
    with pytest.raises(SourceError, match="nothing was written"):
        recover_bag(tmp_path)


def test_a_block_that_raises_leaves_the_file_before(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("before")

    def write_half() -> None:
        with replaced(tmp_path / "a.txt") as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "before")]
