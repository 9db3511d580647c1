"""Checks of ROS 2 on this machine for `sam-perception doctor`; nothing of ROS is imported for them."""

from __future__ import annotations

from xml.etree import ElementTree

from sam_perception._ros_environment import shared_file
from sam_perception.commands.doctor_machine import FAIL, OK, WARN, Finding, Machine

_FAST_DDS = ("rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp")
_PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
_SEGMENT_BYTES = 8 * 2**20  # a few images of 1280x720
_SHARED_MEMORY_BYTES = 256 * 2**20
_SOCKET_BYTES = 8 * 2**20


def check_ros(machine: Machine) -> Finding:
    """ROS 2 itself."""
    installed = sorted(path.parent.name for path in (machine.root / "opt/ros").glob("*/setup.bash"))
    if machine.can_import("rclpy"):
        origin = "wheels" if machine.from_wheels else machine.environ.get("ROS_DISTRO") or "of unknown origin"
        return Finding("ros", OK, f"rclpy found, ROS 2 {origin}")
    if installed:
        version = "{}.{}".format(*machine.python)
        return Finding(
            "ros",
            FAIL,
            f"ROS 2 {', '.join(installed)} is installed, but rclpy is not importable by Python {version}",
            f"source /opt/ros/{installed[-1]}/setup.bash, with the Python that it was built for; virtual environments "
            "need --system-site-packages",
        )
    return Finding(
        "ros", WARN, "no ROS 2: nodes and the demo do not run, `process` does", "make setup, or install ROS 2"
    )


def check_messages(machine: Machine) -> Finding:
    """This package's own messages."""
    if not machine.can_import("rclpy"):
        return Finding("messages", OK, "not needed without ROS 2")
    if machine.can_import("sam_perception.msg"):
        return Finding("messages", OK, "sam_perception's messages are built")
    return Finding(
        "messages",
        FAIL,
        "sam_perception.msg is not importable",
        "colcon build and source install/setup.bash, or make setup",
    )


def check_numpy(machine: Machine) -> Finding:
    """NumPy's version against what ROS 2 was compiled with."""
    version = machine.version("numpy")
    if version is None:
        return Finding("numpy", FAIL, "NumPy is missing", "make setup")
    distribution = machine.environ.get("ROS_DISTRO", "")
    if distribution in ("humble", "jazzy") and not machine.from_wheels and not version.startswith("1."):
        return Finding(
            "numpy",
            FAIL,
            f"NumPy {version} beside ROS 2 {distribution}, whose messages are compiled for NumPy 1",
            "pip install -r requirements/runtime-ros.txt",
        )
    return Finding("numpy", OK, f"NumPy {version}")


def check_rmw(machine: Machine) -> Finding:
    """The middleware: named, and installed."""
    registered = {
        entry.name
        for prefix in machine.ros_prefixes
        for entry in (prefix / "share/ament_index/resource_index/rmw_typesupport").glob("rmw_*")
    } - {"rmw_implementation"}
    domain = machine.environ.get("ROS_DOMAIN_ID", "0")
    if not machine.ros_prefixes:
        return Finding("middleware", OK, "not needed without ROS 2")
    if machine.rmw not in registered:
        return Finding(
            "middleware",
            FAIL,
            f"{machine.rmw} is not installed; here are {', '.join(sorted(registered)) or 'none'}",
            f"install ros-<distro>-{machine.rmw.replace('_', '-')}, or unset RMW_IMPLEMENTATION",
        )
    return Finding("middleware", OK, f"{machine.rmw}, domain {domain}")


def check_profile(machine: Machine) -> Finding:
    """Room for images in the middleware, where this terminal starts a camera or a bag."""
    if machine.rmw in _FAST_DDS:
        return _check_fast_dds(machine)
    if machine.rmw != "rmw_cyclonedds_cpp":
        return Finding("dds profile", OK, f"nothing is known to be needed for {machine.rmw}")
    held = int(machine.read("proc/sys/net/core/rmem_max") or 0)
    if held >= _SOCKET_BYTES:
        return Finding("dds profile", OK, f"Cyclone DDS, receive buffers up to {held // 1024} KiB")
    return Finding(
        "dds profile",
        WARN,
        f"Cyclone DDS with receive buffers up to {held // 1024} KiB: images in many pieces get lost",
        f"sudo sysctl -w net.core.rmem_max={2**31 - 1}",
    )


def _check_fast_dds(machine: Machine) -> Finding:
    ours = shared_file("config/fastdds_images.xml")
    cure = f"export FASTRTPS_DEFAULT_PROFILES_FILE={ours or 'sam_perception/config/fastdds_images.xml'}"
    given = next((machine.environ[name] for name in _PROFILES if machine.environ.get(name)), None)
    if given is None:
        return Finding(
            "dds profile",
            WARN,
            "this package's nodes set their own, but a camera driver or `ros2 bag play` started in this terminal has "
            "512 KiB of shared memory, less than an image",
            cure,
        )
    try:
        tree = ElementTree.parse(given)  # noqa: S314  (the user's own file)
        sizes = [int(e.text or 0) for e in tree.iter() if e.tag.rpartition("}")[2] == "segment_size"]
    except (OSError, ElementTree.ParseError, ValueError) as error:
        return Finding("dds profile", FAIL, f"{given} cannot be read ({error}), and Fast DDS ignores it", cure)
    if max(sizes, default=0) < _SEGMENT_BYTES:
        return Finding(
            "dds profile",
            WARN,
            f"{given} gives {max(sizes, default=0) // 1024} KiB of shared memory: too little for images",
            cure,
        )
    return Finding("dds profile", OK, f"{given}: {max(sizes) // 2**20} MiB of shared memory")


def check_shared_memory(machine: Machine) -> Finding:
    """Space where Fast DDS keeps images."""
    if machine.rmw not in _FAST_DDS:
        return Finding("shared memory", OK, f"not used by {machine.rmw}")
    free = machine.free_bytes(machine.root / "dev/shm")
    if free >= _SHARED_MEMORY_BYTES:
        return Finding("shared memory", OK, f"{free // 2**20} MiB free in /dev/shm")
    return Finding(
        "shared memory",
        WARN,
        f"{free // 2**20} MiB free in /dev/shm",
        "remove what ended nodes left there (fastrtps_*), or start the container with --shm-size=1g",
    )
