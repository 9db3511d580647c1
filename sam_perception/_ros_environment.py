"""What has to be in the environment before rclpy is imported."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from sam_perception.errors import PerceptionError

_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # Fast DDS 2, Fast DDS 3


def ensure_ros_environment() -> None:
    """Make rclpy importable and ready for images; every entry point calls this first.

    A sourced ROS 2 has set everything but the DDS profile. With ROS 2 as wheels, nobody has: they
    are installed under the interpreter's own prefix, so that is where the package index lies. What
    the user has set is left alone. Calling it again changes nothing.

    Raises:
        PerceptionError: no rclpy, or no messages of this package.
    """
    for module, cure in (
        ("rclpy", "source /opt/ros/<distro>/setup.bash, or run make setup"),
        ("sam_perception.msg", "build the package (colcon build, then source install/setup.bash), or run make setup"),
    ):
        if importlib.util.find_spec(module) is None:
            raise PerceptionError(f"{module} is not importable from {sys.executable}: {cure}")
    if (Path(sys.prefix) / "share" / "ament_index").is_dir():
        os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
        os.environ.setdefault("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    if not any(os.environ.get(name) for name in _PROFILE_VARIABLES):
        profile = shared_file("config/fastdds_images.xml")
        if profile is not None:
            os.environ.update(dict.fromkeys(_PROFILE_VARIABLES, str(profile)))
    profile = shared_file("config/cyclonedds_images.xml")
    if profile is not None:
        os.environ.setdefault("CYCLONEDDS_URI", profile.as_uri())


def shared_file(name: str) -> Path | None:
    """A file of launch/ or config/, from the source tree or from where it was installed; None if neither has it."""
    root = Path(__file__).resolve().parent.parent
    prefixes = [sys.prefix, *os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    candidates = [root / name, *(Path(prefix) / "share" / "sam_perception" / name for prefix in prefixes if prefix)]
    return next((path for path in candidates if path.is_file()), None)
