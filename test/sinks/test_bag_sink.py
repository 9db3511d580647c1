"""Bags that are written: what is in them, byte for byte the same twice, and what is said when they cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import Reader
from tabletop import frame_at, scene_with_all

from sam_perception.errors import SinkError
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.scene import Lifted, ObjectState, Scene, Track
from sam_perception.sinks import bag_types
from sam_perception.sinks.bag import INPUTS, OUTPUTS, BagSink
from sam_perception.sinks.bag_types import typestore

CAMERA = CameraIntrinsics(40, 30, 50.0, 50.0, 19.5, 14.5)


def frame_and_scene(index: int) -> tuple[RgbdFrame, Scene]:
    rng = np.random.default_rng(index)
    stamp = 10**9 * (index + 1)
    mask = np.zeros((30, 40), bool)
    mask[5:20, 5 + index : 25] = True
    lifted = Lifted(rng.random((5, 3), np.float32), rng.integers(0, 256, (5, 3), np.uint8))
    track = Track(3, "box", ObjectState.TRACKED, 0.9, 0.9, mask, stamp, lifted)
    frame = RgbdFrame(
        rng.integers(0, 256, (30, 40, 3), np.uint8), rng.random((30, 40), np.float32), CAMERA, stamp, "optical"
    )
    return frame, Scene(stamp, "optical", 40, 30, (track,))


def write(path: Path, storage: str = "mcap", *, inputs: bool = False) -> Path:
    with BagSink(path, storage=storage, inputs=inputs) as sink:
        for index in range(3):
            sink.write(*frame_and_scene(index))
    return path


def files_of(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_the_same_scenes_give_the_same_bytes(tmp_path: Path, storage: str) -> None:
    first, second = (files_of(write(tmp_path / run / "bag", storage, inputs=True)) for run in ("a", "b"))
    assert len(first) == 2
    assert first == second


@pytest.mark.parametrize("inputs", [False, True])
def test_topics_are_the_nodes_and_stamps_the_frames(tmp_path: Path, inputs: bool) -> None:
    with Reader(write(tmp_path / "bag", inputs=inputs)) as reader:
        topics = {c.topic: (c.msgtype, c.msgcount) for c in reader.connections}
        logged = {stamp for _, stamp, _ in reader.messages()}
    expected = {**(INPUTS if inputs else {}), **OUTPUTS}
    assert topics == {name: (kind.replace("/", "/msg/"), 3) for name, kind in expected.items()}
    assert logged == {10**9, 2 * 10**9, 3 * 10**9}


def test_objects_can_be_read_back_with_the_bags_own_definitions(tmp_path: Path) -> None:
    from rosbags.highlevel import AnyReader

    with AnyReader([write(tmp_path / "bag")]) as reader:
        connections = [c for c in reader.connections if c.topic == "/sam_perception/objects"]
        read = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages(connections)]
    assert [len(message.objects) for message in read] == [1, 1, 1]
    assert read[1].objects[0].label == "box"
    assert read[1].objects[0].roi.x_offset == 6
    assert read[1].header.stamp.sec == 2


def test_grasps_and_obstacles_can_be_read_back(tmp_path: Path) -> None:
    from rosbags.highlevel import AnyReader

    scene = scene_with_all()
    with BagSink(tmp_path / "bag") as sink:
        sink.write(frame_at(scene.stamp_ns), scene)
    with AnyReader([tmp_path / "bag"]) as reader:
        read = {c.topic: reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages()}
    assert [t.score for t in read["/sam_perception/grasp_targets"].targets] == pytest.approx(
        [t.score for t in scene.grasp_targets]
    )
    assert len(read["/sam_perception/grasp_poses"].poses) == len(scene.grasp_targets)
    obstacles = read["/sam_perception/obstacles"]
    assert [s.id for s in obstacles.segments] == [o.id for o in scene.obstacles]
    assert obstacles.has_ground
    assert read["/sam_perception/obstacle_points"].width == sum(len(o.points) for o in scene.obstacles)
    assert read["/sam_perception/scene_points"].width == len(scene.scene_points)


def test_type_hash_is_that_of_the_built_messages() -> None:
    built = [f / "TrackedObjectArray.json" for f in bag_types.interface_folders()]
    described = [path for path in built if path.is_file()]
    if not described:
        pytest.skip("the messages are not built")
    hashes = json.loads(described[0].read_text())["type_hashes"]
    wanted = next(h["hash_string"] for h in hashes if h["type_name"] == "sam_perception/msg/TrackedObjectArray")
    assert typestore().hash_rihs01("sam_perception/msg/TrackedObjectArray") == wanted


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    with pytest.raises(SinkError, match="exists already"):
        BagSink(tmp_path / "bag")


def test_unknown_storage_and_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="mcap, sqlite3"):
        BagSink(tmp_path / "bag", storage="rosbag1")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SinkError, match="cannot be written"):
        BagSink(tmp_path / "file" / "bag")


def test_a_run_that_fails_leaves_no_metadata(tmp_path: Path) -> None:
    def fail_halfway() -> None:
        with BagSink(tmp_path / "bag") as sink:
            sink.write(*frame_and_scene(0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert not (tmp_path / "bag" / "metadata.yaml").exists()


def test_outputs_need_a_scene(tmp_path: Path) -> None:
    with BagSink(tmp_path / "bag") as sink, pytest.raises(SinkError, match="outputs=False"):
        sink.write(frame_and_scene(0)[0])


def test_missing_message_definitions_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bag_types, "interface_folders", lambda: [tmp_path])
    bag_types.typestore.cache_clear()
    try:
        with pytest.raises(SinkError, match="make setup"):
            BagSink(tmp_path / "bag")
    finally:
        monkeypatch.undo()
        bag_types.typestore.cache_clear()
