"""What has to be in the environment before rclpy is imported."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from sam_perception.errors import PerceptionError

# The variable that names the profiles; Fast DDS 2 does not look at the other one, nor Fast DDS 3.
FAST_DDS_2, FAST_DDS_3 = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"
_WITH_FAST_DDS_2 = ("foxy", "galactic", "humble", "iron", "jazzy")


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
    variable = fast_dds_variable(os.environ.get("ROS_DISTRO", ""), sys.prefix)
    if not os.environ.get(variable):
        profile = shared_file("config/fastdds_images.xml")
        if profile is not None:
            os.environ[variable] = str(profile)
    profile = shared_file("config/cyclonedds_images.xml")
    if profile is not None:
        os.environ.setdefault("CYCLONEDDS_URI", profile.as_uri())


def fast_dds_variable(distribution: str, prefix: Path | str) -> str:
    """The variable by which this ROS' Fast DDS finds its profiles.

    Args:
        distribution: `$ROS_DISTRO`; empty with ROS 2 as wheels.
        prefix: the interpreter's, where the wheels are.
    """
    if distribution:
        return FAST_DDS_2 if distribution in _WITH_FAST_DDS_2 else FAST_DDS_3
    # The library was called fastrtps up to Fast DDS 2.
    return FAST_DDS_3 if any((Path(prefix) / "lib").glob("libfastdds.so*")) else FAST_DDS_2


def shared_file(name: str) -> Path | None:
    """A file of launch/ or config/, from the source tree or from where it was installed; None if neither has it."""
    root = Path(__file__).resolve().parent.parent
    prefixes = [sys.prefix, *os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    candidates = [root / name, *(Path(prefix) / "share" / "sam_perception" / name for prefix in prefixes if prefix)]
    return next((path for path in candidates if path.is_file()), None)
