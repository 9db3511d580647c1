"""Labelled scenes through `process`, against places computed from the recording's own XYZ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from sam_perception.cli import main
from sam_perception.sources.results import read_scenes

POINT = np.dtype([("xyz", "<f4", 3), ("rgb", "<u4"), ("object_id", "<u4")])


@pytest.fixture(scope="module")
def desk(shared_data: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The labelled table scenes, and per scene the objects' centroids and boxes from the recording's own XYZ."""
    folder = shared_data / "stills_osd"
    scenes = json.loads((folder / "info.json").read_text())["frame_list"]
    return folder, [
        {k: v for k, v in scene["reference_from_source_xyz"].items() if v["name"] != "table"} for scene in scenes
    ]


def clouds_in(bag: Path) -> list[np.ndarray]:
    with AnyReader([bag]) as reader:
        connections = [c for c in reader.connections if c.topic == "/sam_perception/object_points"]
        read = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages(connections)]
    return [np.frombuffer(cloud.data, POINT) for cloud in read]


@pytest.mark.slow  # sixteen objects at once
@pytest.mark.parametrize(("filters", "centroid_m", "box_m"), [("false", 0.001, 0.003), ("true", 0.001, 0.003)])
def test_labels_as_mask_prompts_give_the_recordings_own_places(
    desk: tuple[Path, list[dict[str, Any]]], tmp_path: Path, filters: str, centroid_m: float, box_m: float
) -> None:
    folder, reference = desk
    prompts = [
        f"- {{object_id: {k}, frame: {i}, mask: {folder}/labels/{i:06d}.png, value: {k}}}"
        for i, objects in enumerate(reference)
        for k in objects
    ]
    (tmp_path / "prompts.yaml").write_text("\n".join(prompts))
    arguments = ["--prompts", str(tmp_path / "prompts.yaml"), "--set", "max_objects=20"]
    for name in ("remove_outliers", "remove_flying_pixels"):
        arguments += ["--set", f"geometry.{name}={filters}"]
    assert main(["process", str(folder), str(tmp_path / "out"), *arguments]) == 0
    scenes, clouds = list(read_scenes(tmp_path / "out", 640, 480)), clouds_in(tmp_path / "out")
    errors = []
    for scene, cloud, objects in zip(scenes, clouds, reference, strict=True):
        assert {str(track.id) for track in scene.objects} == set(objects)
        for track in scene.objects:
            known, points = objects[str(track.id)], cloud["xyz"][cloud["object_id"] == track.id]
            assert track.centroid is not None
            ends = np.abs([points.min(axis=0) - known["min"], points.max(axis=0) - known["max"]])
            errors.append((np.linalg.norm(track.centroid - known["centroid"]), ends.max()))
    assert len(errors) == 33
    worst = np.max(errors, axis=0)
    assert worst[0] < centroid_m
    assert worst[1] < box_m
