"""A camera carried over a real table, with poses from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.geometry.moved import moved_plane
from sam_perception.navigation import ObstacleMap
from sam_perception.scene import PlaneKind


@pytest.fixture(scope="module")
def table(shared_data: Path) -> dict[str, NDArray[np.float64]]:
    """Normals (N, 3) and heights (N,) of the table in the world: as each frame sees it, and averaged."""
    folder = shared_data / "seq_kitchen_7scenes"
    k = json.loads((folder / "intrinsics.json").read_text())
    camera = CameraIntrinsics(k["width"], k["height"], k["fx"], k["fy"], k["cx"], k["cy"])
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 4, 4)
    obstacles, rgb = ObstacleMap(), np.zeros((480, 640, 3), np.uint8)
    single, averaged, ids, middles = [], [], set(), []
    for index in range(0, len(poses), 4):
        depth = cv2.imread(str(folder / "depth" / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED).astype(np.float32) / 1000
        frame = RgbdFrame(rgb, depth, camera, index, "camera")
        around = obstacles.update(frame, fixed_from_camera=poses[index])
        assert around.ground is not None, index
        (fixed,) = [p for p in around.fixed_planes if p.kind is PlaneKind.GROUND]
        single.append(np.array([*moved_plane(around.ground.normal, around.ground.offset_m, poses[index])], object))
        averaged.append(np.array([fixed.normal, fixed.offset_m], object))
        middles.append(fixed.outline_m.mean(axis=0))
        ids.add((around.ground.id, fixed.id))
    assert len(ids) == 1  # one plane is the ground throughout
    middle = np.mean(middles, axis=0)
    out = {}
    for name, rows in (("single", single), ("averaged", averaged)):
        normals = np.array([row[0] for row in rows], np.float64)
        out[f"{name} normals"] = normals
        out[f"{name} heights"] = normals @ middle + np.array([row[1] for row in rows], np.float64)
    return out


def tilts_deg(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = normals.mean(axis=0) / np.linalg.norm(normals.mean(axis=0))
    return np.degrees(np.arccos(np.clip(normals @ mean, -1, 1)))


def test_averaged_by_the_cameras_poses_the_table_stays_within_a_degree_and_a_centimetre(
    table: dict[str, NDArray[np.float64]],
) -> None:
    heights = table["averaged heights"]
    assert tilts_deg(table["averaged normals"]).max() < 1.0
    assert np.abs(heights - heights.mean()).max() < 0.010


def test_in_each_frame_by_itself_it_moves_as_much_as_the_recordings_poses_do(
    table: dict[str, NDArray[np.float64]],
) -> None:
    # Whatever the weights of the fit (none, depth noise squared, robust ones, near points alone), it is
    # 1.4 to 1.6 degrees, and Open3D's plane on the same points scatters by 1.6. Table and wall tilt together where
    # the recording's poses differ by a degree and more from those that image features and depth give; and
    # the angle between the two, which poses do not touch, varies by 1.7 degrees: the warped depth is bent.
    heights = table["single heights"]
    assert tilts_deg(table["single normals"]).max() < 1.6
    assert np.abs(heights - heights.mean()).max() < 0.0105
