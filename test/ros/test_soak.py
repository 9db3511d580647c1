"""The real node with the shipped model under a load of requests; its slow form is two minutes long."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sam_perception.cli import main


def soak(out: Path, minutes: float) -> tuple[list[dict[str, float]], int]:
    """Samples of a run, and the command's exit code."""
    code = main(["soak", "--minutes", str(minutes), "--out", str(out), "--size", "160x120"])
    with (out / "soak.csv").open(newline="") as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)], code


def test_a_short_run_comes_to_its_end_and_opens_nothing_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    samples, _ = soak(tmp_path, 0.3)
    said = capsys.readouterr().out
    assert "the node's exit code: 0" in said
    assert (tmp_path / "soak.png").stat().st_size > 10_000
    assert samples[-1]["frames"] > 10
    warm = samples[len(samples) // 3 :]
    for quantity in ("threads", "file_handles", "dds_entities"):
        assert warm[-1][quantity] <= warm[0][quantity] + 1, said
    assert "Traceback" not in (tmp_path / "node.log").read_text()


@pytest.mark.slow
def test_in_two_minutes_nothing_grows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    samples, code = soak(tmp_path, 2.0)
    said = capsys.readouterr().out
    assert code == 0, said
    assert len(samples) > 60
    assert max(s["objects"] for s in samples) >= 2
    assert said.count("does not grow") == 4
