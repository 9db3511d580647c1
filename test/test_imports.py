"""Who imports whom."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from package_facts import MODULES, PACKAGE, ROOT, ROS_MODULES, imports_of

# Each room may import those of the lines above it; only rooms of one line marked True import each other.
LAYERS: list[tuple[set[str], bool]] = [
    ({"errors"}, False),
    ({"settings"}, False),
    ({"_ros_environment", "config", "detections", "files", "frame", "prompts", "scene", "stages", "stamps"}, True),
    ({"images", "overlay", "messages", "messages_scene", "recorded"}, True),
    ({"geometry", "segmentation"}, False),
    ({"manipulation", "navigation", "discovery"}, False),
    ({"overlay_scene", "markers"}, True),
    ({"guessed_depth", "seams", "surface_labels"}, False),
    ({"perception"}, False),
    ({"sources", "sinks", "training"}, True),
    ({"benchmarks"}, False),
    ({"web"}, False),
    ({"ros"}, False),
    ({"commands"}, False),
    ({"cli"}, False),
]
# Heavy or not always installed: which rooms may import them, if only inside functions.
ONLY_IN = {
    **{module: {"ros"} for module in ROS_MODULES},
    "torch": {"segmentation", "training", "benchmarks"},
    "transformers": {"segmentation", "training", "benchmarks"},
    "safetensors": {"segmentation", "training"},
    "open3d": {"geometry"},
    "pyrealsense2": {"sources"},
    "rosbags": {"sources", "sinks"},
    "av": {"sinks"},
    "onnx": {"segmentation"},
    "onnxruntime": {"segmentation"},
    "ray": {"commands"},
    "aiohttp": {"web"},
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards_and_heavy_ones_stay_in_their_room(path: Path) -> None:
    room = room_of(path)
    level = next((i for i, (rooms, _) in enumerate(LAYERS) if room in rooms), None)
    assert level is not None, f"{room} has no place in LAYERS"
    allowed = set().union(*(rooms for rooms, _ in LAYERS[:level])) | {room}
    if LAYERS[level][1]:
        allowed |= LAYERS[level][0]
    if room == "ros":
        allowed |= {"msg", "srv"}
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "sam_perception":
            assert not rest or rest.split(".")[0] in allowed, f"{room} imports {name}"
        elif top in ONLY_IN:
            assert room in ONLY_IN[top], f"{room} imports {top}, which is for {sorted(ONLY_IN[top])}"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sam_perception, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "numpy" in loaded
    assert not loaded & {"torch", "transformers", "open3d", "rclpy", "pyrealsense2", "cv2", "scipy", "rosbags"}
