"""A real recording through `process`, whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam_perception.cli import main
from sam_perception.sources.results import read_scenes


@pytest.mark.slow
def test_every_frame_of_a_recording_goes_through_as_a_bag(shared_data: Path, tmp_path: Path) -> None:
    kitchen = shared_data / "seq_kitchen_7scenes"
    prompts = Path(__file__).parents[1] / "data" / "kitchen_prompts.yaml"
    assert main(["process", str(kitchen), str(tmp_path / "in"), "--frames-only"]) == 0
    report = tmp_path / "report"
    arguments = ["--prompts", str(prompts), "--report", str(report)]
    assert main(["process", str(tmp_path / "in"), str(tmp_path / "out"), *arguments]) == 0
    scenes = list(read_scenes(tmp_path / "out", 640, 480))
    assert len(scenes) == 140
    assert all([track.id for track in scene.objects] == [1, 2, 3] for scene in scenes)
    assert "white mug" in (report / "index.html").read_text()
