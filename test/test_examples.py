"""What lies under examples/ works as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from package_facts import ROOT

from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.scene import Lifted, ObjectState, OrientedBox, Scene, Track
from sam_perception.sinks.bag import BagSink
from sam_perception.sources.extrinsics import read_extrinsics

TWO_CAMERAS = ROOT / "examples" / "two_cameras"
ON_THE_TABLE = {"mug": (0.05, 0.02, 0.05), "box": (-0.2, 0.1, 0.04)}


def record(path: Path, table_from_camera: np.ndarray, ids: dict[str, int], stamp_ns: int) -> None:
    """One frame of a camera that sees the things on the table under its own ids."""
    camera_from_table = np.linalg.inv(table_from_camera)
    tracks = []
    for name, object_id in ids.items():
        center = camera_from_table[:3, :3] @ np.array(ON_THE_TABLE[name]) + camera_from_table[:3, 3]
        assert center[2] > 0.5  # in front of the camera
        box = OrientedBox(center, np.eye(3), np.full(3, 0.08))
        lifted = Lifted(centroid=center, covariance=np.eye(3) * 1e-6, box=box, valid_depth_share=1.0)
        mask = np.zeros((48, 64), bool)
        mask[5:15, 10:20] = True
        tracks.append(Track(object_id, name, ObjectState.TRACKED, 0.9, 0.9, mask, stamp_ns, lifted))
    rgb, depth_m = np.zeros((48, 64, 3), np.uint8), np.ones((48, 64), np.float32)
    frame = RgbdFrame(rgb, depth_m, CameraIntrinsics(64, 48, 60.0, 60.0, 32.0, 24.0), stamp_ns, "camera")
    with BagSink(path) as sink:
        sink.write(frame, Scene(stamp_ns, "camera", 64, 48, tuple(tracks)))


def test_two_cameras_see_one_mug_and_one_box(tmp_path: Path) -> None:
    known = read_extrinsics(TWO_CAMERAS / "extrinsics.yaml").common_from_camera
    record(tmp_path / "left", known["left"], {"mug": 1, "box": 2}, 10**9)
    record(tmp_path / "right", known["right"], {"box": 1, "mug": 2}, 10**9 + 10**7)
    done = subprocess.run(
        [sys.executable, str(TWO_CAMERAS / "merge_bags.py"), str(tmp_path / "left"), str(tmp_path / "right"),
         "--extrinsics", str(TWO_CAMERAS / "extrinsics.yaml"), "--size", "64x48"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 4  # the left camera's frame alone, then both
    for line in lines[2:]:
        name = "mug" if " mug " in line else "box"
        assert line.endswith("(left 1, right 2)" if name == "mug" else "(left 2, right 1)")
        place = [float(x) for x in line.partition("(")[0].split()[-3:]]
        assert place == pytest.approx(ON_THE_TABLE[name], abs=0.002)
