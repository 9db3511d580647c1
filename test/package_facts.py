"""What the tests of the package as a whole share: where it lies, and what its modules import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sam_perception"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")

ROS_MODULES = {
    *("rclpy", "message_filters", "tf2_ros", "tf2_geometry_msgs", "rcl_interfaces", "builtin_interfaces"),
    *("std_msgs", "sensor_msgs", "geometry_msgs", "visualization_msgs", "diagnostic_msgs", "vision_msgs"),
    *("lifecycle_msgs", "std_srvs", "rosgraph_msgs", "launch", "launch_ros", "launch_testing", "ament_index_python"),
}


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names of all modules that a file imports, on top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
