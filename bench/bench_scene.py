"""What the depth-only part of a frame costs, on one core: planes, obstacles, the scene without targets, grasps.

    python bench/bench_scene.py [--frames N] [--folder RECORDING]

Times are of the process' own CPU, so that other work on the machine counts less; compare them with each
other and with Open3D's plane search in the same run. A recording's folder has color/, depth/ and
intrinsics.json; without one, scenes are rendered.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before numpy is loaded: one core.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from sam_perception.config import PerceptionConfig  # noqa: E402
from sam_perception.frame import RgbdFrame  # noqa: E402
from sam_perception.geometry import lift  # noqa: E402
from sam_perception.geometry.grid import pixel_grid  # noqa: E402
from sam_perception.geometry.planes import find_planes, plane_tolerance_m  # noqa: E402
from sam_perception.manipulation import scene_grasps  # noqa: E402
from sam_perception.navigation import ObstacleMap  # noqa: E402
from sam_perception.scene import ObjectState, Track  # noqa: E402

TARGETS = 3
CONFIG = PerceptionConfig()


def rendered(count: int) -> list[tuple[RgbdFrame, list[Any]]]:
    from sam_perception.training.scenes import SceneOptions, random_clip

    out: list[tuple[RgbdFrame, list[Any]]] = []
    options = SceneOptions(width=640, height=480, frames=1, depth=True, difficulty=0.5)
    for seed in range(100 * count):
        clip = random_clip(np.random.default_rng(seed), options)
        areas = np.bincount(clip.ids[0].ravel(), minlength=2)
        ids = [i for i in np.argsort(-areas) if i > 0 and areas[i] > 1500][:TARGETS]
        if len(ids) == TARGETS:
            depth = np.zeros((480, 640), np.float32) if clip.depth_m is None else clip.depth_m[0]
            frame = RgbdFrame(clip.rgb[0], depth, clip.intrinsics, seed, "camera")
            out.append((frame, [clip.ids[0] == i for i in ids]))
        if len(out) == count:
            break
    return out


def recorded(folder: Path, count: int) -> list[tuple[RgbdFrame, list[Any]]]:
    import json

    from sam_perception.frame import CameraIntrinsics

    k = json.loads((folder / "intrinsics.json").read_text())
    camera = CameraIntrinsics(k["width"], k["height"], k["fx"], k["fy"], k["cx"], k["cy"])
    out: list[tuple[RgbdFrame, list[Any]]] = []
    for path in sorted((folder / "labels").glob("*.png"))[:count]:
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        depth = cv2.imread(str(folder / "depth" / path.name), cv2.IMREAD_UNCHANGED).astype(np.float32) / 1000
        areas = np.bincount(labels.ravel())
        ids = [i for i in np.argsort(-areas) if i > 1][:TARGETS]
        frame = RgbdFrame(np.zeros((*depth.shape, 3), np.uint8), depth, camera, len(out), "camera")
        out.append((frame, [labels == i for i in ids]))
    return out


def cpu_ms(work: Callable[[], Any], repeat: int = 7) -> float:
    """Median of the CPU time of a call, after one that warms up."""
    work()
    times = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1e3 * float(np.median(times))


def open3d_plane(points: Any) -> Callable[[], Any]:
    import open3d

    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.astype(np.float64)))
    return lambda: cloud.segment_plane(0.008, 3, 200)


def measure(frame: RgbdFrame, masks: list[Any]) -> dict[str, float]:
    obstacles = ObstacleMap(CONFIG.navigation, CONFIG.geometry)
    tracks = [
        Track(i, "", ObjectState.TRACKED, 1.0, 1.0, mask, 0, lift(frame, mask, CONFIG.geometry))
        for i, mask in enumerate(masks, 1)
    ]
    around = obstacles.update(frame, masks)
    grid = pixel_grid(frame, CONFIG.geometry, CONFIG.navigation.pixel_step)
    points = grid.points[grid.valid]
    tolerance = plane_tolerance_m(points, CONFIG.navigation.plane_tolerance_m, CONFIG.geometry)
    row = {
        "thin out": cpu_ms(lambda: pixel_grid(frame, CONFIG.geometry, CONFIG.navigation.pixel_step)),
        "planes": cpu_ms(lambda: find_planes(points, tolerance, min_share=0.08, max_planes=4)),
        "ObstacleMap.update": cpu_ms(lambda: obstacles.update(frame, masks)),
        "grasps of up to 3 objects": cpu_ms(
            lambda: scene_grasps(tracks, around.grid, frame.intrinsics, around.planes, CONFIG)
        ),
    }
    row["together"] = row["ObstacleMap.update"] + row["grasps of up to 3 objects"]
    try:
        row["Open3D: one plane of the same points"] = cpu_ms(open3d_plane(points))
    except ImportError:
        print("open3d is not installed: no comparison")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=6, help="frames measured (default 6)")
    parser.add_argument("--folder", type=Path, help="a recording with labels/")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    frames = recorded(arguments.folder, arguments.frames) if arguments.folder else rendered(arguments.frames)
    rows = [measure(frame, masks) for frame, masks in frames]
    print(f"{len(rows)} frames of {frames[0][0].width} x {frames[0][0].height}, CPU milliseconds on one core")
    for name in rows[0]:
        times = [row[name] for row in rows]
        print(f"{name:40s} median {np.median(times):6.1f}   most {max(times):6.1f}")


if __name__ == "__main__":
    main()
