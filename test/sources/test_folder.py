"""Folders of pictures: what is read from them, and what is said of broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sam_perception.errors import SourceError
from sam_perception.sources import open_source
from sam_perception.sources.folder import FIRST_STAMP_NS, FolderSource

INTRINSICS = {"width": 8, "height": 6, "fx": 10.0, "fy": 11.0, "cx": 3.5, "cy": 2.5, "depth_scale": 0.001}


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for name in ("color", "depth"):
        (tmp_path / name).mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"color/{index:06d}.png"), rng.integers(0, 256, (6, 8, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f"depth/{index:06d}.png"), np.full((6, 8), 1000 + index, np.uint16))
    write_json(tmp_path / "intrinsics.json", INTRINSICS)
    write_json(tmp_path / "info.json", {"fps_nominal": 15})
    return tmp_path


def test_frames_have_red_first_metres_and_nominal_stamps(folder: Path) -> None:
    with FolderSource(folder) as source:
        frames = list(source)
    assert len(source) == len(frames) == 3
    bgr = cv2.imread(str(folder / "color/000001.png"))
    np.testing.assert_array_equal(frames[1].rgb, bgr[..., ::-1])
    assert frames[1].depth_m[0, 0] == np.float32(1.001)
    assert [f.stamp_ns - FIRST_STAMP_NS for f in frames] == [0, 66_666_667, 133_333_333]
    assert frames[0].intrinsics.fy == 11.0
    assert not source.independent
    assert list(source)[2].stamp_ns == frames[2].stamp_ns  # may be read again


def test_stills_are_separate_scenes(folder: Path) -> None:
    write_json(folder / "info.json", {"type": "stills", "frames_independent": True})
    assert FolderSource(folder).independent
    assert "separate scenes" in FolderSource(folder).description


@pytest.mark.parametrize(
    ("broken", "content", "kind"),
    [
        ("depth/000001.png", None, "MalformedImage"),
        ("depth/000001.png", b"\x89PNG", "MalformedImage"),
        ("color/000001.png", b"", "MalformedImage"),
        ("depth/000001.png", np.zeros((6, 8), np.uint8), "MalformedImage"),
        ("depth/000001.png", np.zeros((5, 8), np.uint16), "DepthNotAligned"),
        ("color/000001.png", np.zeros((3, 4, 3), np.uint8), "DepthNotAligned"),
    ],
)
def test_a_bad_picture_is_rejected_and_the_next_one_read(folder: Path, broken: str, content: Any, kind: str) -> None:
    path = folder / broken
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        cv2.imwrite(str(path), content)
    source = FolderSource(folder)
    assert len(list(source)) == 2
    (rejection,) = source.rejected
    assert (rejection.kind, rejection.stamp_ns) == (kind, source.stamp_ns(1))


def test_labels_and_poses_are_optional(folder: Path) -> None:
    source = FolderSource(folder)
    assert source.labels(0) is None
    assert source.world_from_camera() is None
    (folder / "labels").mkdir()
    cv2.imwrite(str(folder / "labels/000001.png"), np.full((6, 8), 7, np.uint8))
    np.savetxt(folder / "poses.txt", np.tile(np.eye(4).reshape(1, 16), (3, 1)))
    labels, poses = source.labels(1), source.world_from_camera()
    assert labels is not None
    assert poses is not None
    assert (labels == 7).all()
    np.testing.assert_array_equal(poses[2], np.eye(4))


@pytest.mark.parametrize("text", ["1 2 3\n", "a b\n", "1 2\n1 2 3\n"])
def test_bad_poses_are_refused(folder: Path, text: str) -> None:
    (folder / "poses.txt").write_text(text)
    with pytest.raises(SourceError, match="16 numbers"):
        FolderSource(folder).world_from_camera()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("intrinsics.json", None, "the folder needs it"),
        ("intrinsics.json", "not json", "not JSON"),
        ("intrinsics.json", [1], "holds a list"),
        ("intrinsics.json", {"width": 8}, "lacks height, fx"),
        ("intrinsics.json", {**INTRINSICS, "fx": 0}, "must be positive"),
        ("intrinsics.json", {**INTRINSICS, "fx": "wide"}, "wrong kind"),
        ("intrinsics.json", {**INTRINSICS, "depth_scale": 0.0001}, "convert depth/ to millimetres"),
        ("intrinsics.json", {**INTRINSICS, "depth_aligned_to_color": False}, "register depth"),
        ("info.json", {"fps_nominal": -3}, "positive number"),
        ("info.json", {"fps_nominal": "fast"}, "positive number"),
    ],
)
def test_a_broken_layout_says_what_to_do(folder: Path, name: str, content: Any, message: str) -> None:
    if content is None:
        (folder / name).unlink()
    elif isinstance(content, str):
        (folder / name).write_text(content)
    else:
        write_json(folder / name, content)
    with pytest.raises(SourceError, match=message):
        FolderSource(folder)


def test_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    for picture in (folder / "depth").iterdir():
        picture.unlink()
    (folder / "depth").rmdir()
    with pytest.raises(SourceError, match="no depth/ folder"):
        open_source(folder)
    with pytest.raises(SourceError, match="does not exist"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"neither a metadata\.yaml"):
        open_source(tmp_path / "empty")


def test_a_real_recording(shared_data: Path) -> None:
    source = open_source(shared_data / "seq_kitchen_7scenes")
    assert len(source) == 140
    assert not source.independent
    first = next(iter(source))
    assert (first.width, first.height) == (640, 480)
    valid = first.depth_m[first.depth_m > 0]
    assert 0.5 < np.median(valid) < 4
    assert open_source(shared_data / "stills_osd").independent
