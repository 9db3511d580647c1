"""Bags in both storages: pairing, choice of topics, and damage of many kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer

from sam_perception import messages
from sam_perception.errors import SourceError
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.sinks.bag import INPUTS, BagSink
from sam_perception.sinks.bag_types import BagTypes, full_name, typestore
from sam_perception.sources import open_source
from sam_perception.sources.bag import BagSource
from sam_perception.sources.pairing import pair_stamps

CAMERA = CameraIntrinsics(8, 6, 10.0, 11.0, 3.5, 2.5)
COLOR, DEPTH, INFO = INPUTS
TYPES = BagTypes()
MS = 10**6


def frame(index: int) -> RgbdFrame:
    rng = np.random.default_rng(index)
    depth = (rng.integers(400, 3000, (6, 8)) / 1000).astype(np.float32)
    return RgbdFrame(rng.integers(0, 256, (6, 8, 3), np.uint8), depth, CAMERA, 10**9 + index * 33 * MS, "optical")


FRAMES = [frame(i) for i in range(4)]


def write_bag(path: Path, written: Sequence[tuple[str, str, Any]], storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """A bag of (topic, type, message), logged a millisecond apart in this order."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connections: dict[str, Any] = {}
        for index, (topic, name, message) in enumerate(written):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, full_name(name), typestore=typestore())
            writer.write(connections[topic], index * MS, TYPES.serialize(message, name))
    return path


def triple(f: RgbdFrame, **changes: Any) -> list[tuple[str, str, Any]]:
    """One frame's messages; `color=`, `depth=`, `info=` change fields of one of them."""
    built = {
        "color": (COLOR, "sensor_msgs/Image", messages.color_image(TYPES, f)),
        "depth": (DEPTH, "sensor_msgs/Image", messages.depth_image(TYPES, f)),
        "info": (INFO, "sensor_msgs/CameraInfo", messages.camera_info(TYPES, f)),
    }
    for role, fields in changes.items():
        for name, value in fields.items():
            setattr(built[role][2], name, value)
    return list(built.values())


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_frames_survive_a_bag(tmp_path: Path, storage: str) -> None:
    with BagSink(tmp_path / "bag", storage=storage, inputs=True, outputs=False) as sink:
        for f in FRAMES:
            sink.write(f)
    with open_source(tmp_path / "bag") as source:
        assert len(source) == len(FRAMES)
        for _ in range(2):  # may be read again
            read = list(source)
            assert [f.stamp_ns for f in read] == [f.stamp_ns for f in FRAMES]
    for got, want in zip(read, FRAMES, strict=True):
        np.testing.assert_array_equal(got.rgb, want.rgb)
        np.testing.assert_array_equal(got.depth_m, want.depth_m)
        assert (got.intrinsics, got.frame_id) == (CAMERA, "optical")
    assert source.rejected == []


def test_the_bags_file_is_as_good_as_its_folder(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", triple(FRAMES[0]))
    assert len(open_source(tmp_path / "bag" / "bag.mcap")) == 1


def test_depth_of_another_time_is_paired_with_the_nearest(tmp_path: Path) -> None:
    late = [replace(f, stamp_ns=f.stamp_ns + 6 * MS) for f in FRAMES]
    written = []
    for index, f in enumerate(FRAMES):
        written += [triple(f)[0], triple(f)[2]]
        if index != 2:
            written.append(triple(late[index])[1])
    source = BagSource(write_bag(tmp_path / "bag", written))
    read = list(source)
    assert [f.stamp_ns for f in read] == [FRAMES[i].stamp_ns for i in (0, 1, 3)]
    np.testing.assert_array_equal(read[2].depth_m, FRAMES[3].depth_m)
    assert [(r.kind, r.stamp_ns) for r in source.rejected] == [("Unpaired", FRAMES[2].stamp_ns)]


def test_depth_recorded_long_after_its_colour_is_found(tmp_path: Path) -> None:
    built = [triple(f) for f in FRAMES]
    written = [b[0] for b in built] + [b[2] for b in built] + [b[1] for b in reversed(built)]
    read = list(BagSource(write_bag(tmp_path / "bag", written)))
    for got, want in zip(read, FRAMES, strict=True):
        np.testing.assert_array_equal(got.depth_m, want.depth_m)


@given(
    st.lists(st.integers(0, 300), max_size=12, unique=True).map(sorted),
    st.lists(st.integers(0, 300), max_size=12, unique=True).map(sorted),
    st.integers(0, 20),
)
def test_pairing_is_one_to_one_within_the_slop_and_leaves_no_possible_pair(
    color: list[int], depth: list[int], slop: int
) -> None:
    pairs = pair_stamps(color, depth, slop)
    assert len(set(pairs.values())) == len(pairs)
    assert all(abs(color[c] - depth[d]) <= slop for c, d in pairs.items())
    assert all(color.index(stamp) in pairs for stamp in set(color) & set(depth))
    free_color = [c for i, c in enumerate(color) if i not in pairs]
    free_depth = [d for j, d in enumerate(depth) if j not in pairs.values()]
    assert not any(abs(c - d) <= slop for c in free_color for d in free_depth)


def test_repeated_stamps_of_a_looped_bag_are_paired_in_order() -> None:
    assert pair_stamps([5, 6, 5, 6], [5, 6, 5, 6], 0) == {0: 0, 1: 1, 2: 2, 3: 3}


def other_names(f: RgbdFrame, color: str, depth: str, info: str) -> list[tuple[str, str, Any]]:
    return [(name, kind, message) for name, (_, kind, message) in zip((color, depth, info), triple(f), strict=True)]


def test_unknown_names_are_told_apart_by_encoding(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", other_names(FRAMES[0], "/eye/picture", "/eye/distance", "/somewhere/info"))
    topics = BagSource(path).topics
    assert (topics.color, topics.depth, topics.info) == ("/eye/picture", "/eye/distance", "/somewhere/info")


def test_two_cameras_need_a_choice_and_camera_info_beside_the_colour_is_taken(tmp_path: Path) -> None:
    left = other_names(FRAMES[0], "/left/image", "/left/depth", "/left/camera_info")
    right = other_names(FRAMES[1], "/right/image", "/right/depth", "/right/camera_info")
    path = write_bag(tmp_path / "bag", left + right)
    with pytest.raises(SourceError, match=r"more than one .* --color-topic.*/left/image \(rgb8\)"):
        BagSource(path)
    source = BagSource(path, color_topic="/right/image", depth_topic="/right/depth")
    assert source.topics.info == "/right/camera_info"
    assert next(iter(source)).stamp_ns == FRAMES[1].stamp_ns
    with pytest.raises(SourceError, match="no topic /up"):
        BagSource(path, color_topic="/up")


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_topic_is_named_with_what_there_is(tmp_path: Path, missing: int) -> None:
    kept = [m for i, m in enumerate(triple(FRAMES[0])) if i != missing]
    option = ("--color-topic", "--depth-topic", "--info-topic")[missing]
    with pytest.raises(SourceError, match=f"no topic .* {option}; it has /camera"):
        BagSource(write_bag(tmp_path / "bag", kept))


def test_no_pair_at_all_is_an_error(tmp_path: Path) -> None:
    far = replace(FRAMES[0], stamp_ns=FRAMES[0].stamp_ns + 10**10)
    color, _, info = triple(FRAMES[0])
    with pytest.raises(SourceError, match="none of 1 colour images has depth within"):
        BagSource(write_bag(tmp_path / "bag", [color, triple(far)[1], info]))


OTHER_HEADER = TYPES("std_msgs/Header", stamp=messages.time(TYPES, FRAMES[1].stamp_ns), frame_id="elsewhere")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"color": {"encoding": "bayer_rggb8"}}, "UnsupportedEncoding"),
        ({"depth": {"encoding": "rgb8"}}, "UnsupportedEncoding"),
        ({"color": {"data": np.zeros(5, np.uint8)}}, "MalformedImage"),
        ({"color": {"height": 3, "data": np.zeros(72, np.uint8)}}, "DepthNotAligned"),
        ({"depth": {"header": OTHER_HEADER}}, "FrameIdMismatch"),
        ({"info": {"k": np.zeros(9)}}, "InvalidIntrinsics"),
        ({"info": {"width": 80}}, "InvalidIntrinsics"),
    ],
)
def test_a_bad_frame_is_rejected_and_the_next_one_read(tmp_path: Path, changes: Any, kind: str) -> None:
    written = triple(FRAMES[0]) + triple(FRAMES[1], **changes) + triple(FRAMES[2])
    source = BagSource(write_bag(tmp_path / "bag", written))
    assert [f.stamp_ns for f in source] == [FRAMES[0].stamp_ns, FRAMES[2].stamp_ns]
    assert [(r.kind, r.stamp_ns) for r in source.rejected] == [(kind, FRAMES[1].stamp_ns)]


def test_camera_info_that_changes_applies_from_its_stamp_on(tmp_path: Path) -> None:
    zoomed = replace(CAMERA, fx=20.0)
    written = triple(FRAMES[0]) + triple(replace(FRAMES[1], intrinsics=zoomed)) + triple(FRAMES[2])[:2]
    assert [f.intrinsics.fx for f in BagSource(write_bag(tmp_path / "bag", written))] == [10.0, 20.0, 20.0]


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("kept", [0, 20, 0.3, 0.9])
def test_a_truncated_bag_is_an_error_that_says_so(tmp_path: Path, storage: StoragePlugin, kept: float) -> None:
    path = write_bag(tmp_path / "bag", [m for f in FRAMES for m in triple(f)], storage)
    (file,) = [p for p in path.iterdir() if p.suffix != ".yaml"]
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept if kept >= 1 else kept * len(whole))])
    with pytest.raises(SourceError, match="cannot be read as a rosbag2"):
        list(BagSource(path))


@pytest.mark.parametrize("content", ["", "just: text\n", "[1, 2\n", None])
def test_bad_metadata_is_an_error(tmp_path: Path, content: str | None) -> None:
    path = write_bag(tmp_path / "bag", triple(FRAMES[0]))
    if content is None:
        (path / "metadata.yaml").unlink()
    else:
        (path / "metadata.yaml").write_text(content)
    with pytest.raises(SourceError, match="reindex"):
        open_source(path if content is not None else path / "bag.mcap")


def test_a_closed_bag_says_so(tmp_path: Path) -> None:
    with BagSource(write_bag(tmp_path / "bag", triple(FRAMES[0]))) as source:
        pass
    with pytest.raises(SourceError, match="closed"):
        next(iter(source))
