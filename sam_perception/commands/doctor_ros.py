"""Checks of ROS 2 on this machine for `sam-perception doctor`; nothing of ROS is imported for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from sam_perception._ros_environment import FAST_DDS_2, FAST_DDS_3, fast_dds_variable, shared_file
from sam_perception.commands.doctor_machine import FAIL, OK, WARN, Finding, Machine

_FAST_DDS = ("rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp")
_SEGMENT_BYTES = 8 * 2**20  # a few images of 1280x720
_SHARED_MEMORY_BYTES = 256 * 2**20
_SOCKET_BYTES = 8 * 2**20
_CYCLONE_ASKS = 2**20  # for a socket's receive buffer, unless told otherwise
# As Cyclone DDS has them.
_UNITS = {"b": 1, "kb": 2**10, "kib": 2**10, "mb": 2**20, "mib": 2**20, "gb": 2**30, "gib": 2**30}


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
    return _check_cyclone(machine)


def _check_cyclone(machine: Machine) -> Finding:
    """What is asked for by $CYCLONEDDS_URI, and what of it the kernel grants."""
    held = int(machine.read("proc/sys/net/core/rmem_max") or 0)
    ours = shared_file("config/cyclonedds_images.xml")
    cure = f"export CYCLONEDDS_URI=file://{ours or '/path/to/sam_perception/config/cyclonedds_images.xml'}"
    uri = machine.environ.get("CYCLONEDDS_URI", "")
    try:
        least, most = _cyclone_buffer(uri)
    except (OSError, ElementTree.ParseError, ValueError) as error:
        text = f"CYCLONEDDS_URI={uri} cannot be read ({error}), and no node starts with it"
        return Finding("dds profile", FAIL, text, cure)
    if least > held:
        text = (
            f"CYCLONEDDS_URI demands a receive buffer of {_kib(least)}, the kernel grants {_kib(held)}: no node starts"
        )
        return Finding("dds profile", FAIL, text, f"sudo sysctl -w net.core.rmem_max={least}, or leave the minimum out")
    if max(least, most) < _SOCKET_BYTES:
        by = "CYCLONEDDS_URI asks" if uri else "without CYCLONEDDS_URI Cyclone DDS asks"
        text = (
            f"{by} for receive buffers of {_kib(max(least, most))} only, in a camera driver or `ros2 bag play` started "
            "in this terminal (this package's nodes set their own where none is set): images in many pieces get lost"
        )
        return Finding("dds profile", WARN, text, cure)
    if held < _SOCKET_BYTES:
        text = (
            f"Cyclone DDS asks for receive buffers of {_kib(max(least, most))}, the kernel grants {_kib(held)}: images "
            "in many pieces get lost"
        )
        return Finding("dds profile", WARN, text, f"sudo sysctl -w net.core.rmem_max={2**31 - 1}")
    return Finding("dds profile", OK, f"Cyclone DDS, receive buffers of {_kib(min(max(least, most), held))}")


def _kib(size: int) -> str:
    return f"{size // 1024} KiB"


def _cyclone_buffer(uri: str) -> tuple[int, int]:
    """Bytes of receive buffer that are demanded and asked for; later parts of the list have the last word.

    Raises:
        OSError: a file cannot be read.
        ParseError: it is no XML.
        ValueError: a size that is none.
    """
    least, most = 0, _CYCLONE_ASKS
    for text in _cyclone_parts(uri):
        plain = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
        for match in re.finditer(r"<MinimumSocketReceiveBufferSize\s*>([^<]*)<", plain, re.IGNORECASE):
            least = _bytes(match[1], least)  # up to Cyclone DDS 0.9
        for match in re.finditer(r"<SocketReceiveBufferSize\b([^>]*)>", plain, re.IGNORECASE):
            given = dict(re.findall(r"""\b(min|max)\s*=\s*["']([^"']*)""", match[1], re.IGNORECASE))
            least, most = _bytes(given.get("min", ""), least), _bytes(given.get("max", ""), most)
    return least, most


def _cyclone_parts(uri: str) -> Iterator[str]:
    """The configurations of a list of files and of XML written out, with commas between.

    What is written out may leave out tags' names and whole closing tags, so that no parser of XML takes it.
    """
    rest = uri.strip(", \t\n")
    while rest:
        if rest.startswith("<"):
            end = re.search(r">\s*,\s*(?=[^<\s,])", rest)
            part, rest = (rest[: end.start() + 1], rest[end.end() :]) if end else (rest, "")
        else:
            name, _, rest = rest.partition(",")
            part = Path(name.strip().removeprefix("file://")).read_text(encoding="utf-8")
            ElementTree.fromstring(part)  # noqa: S314  (the user's own file)
        yield part
        rest = rest.strip(", \t\n")


def _bytes(text: str, default: int) -> int:
    """A size as Cyclone DDS writes it: `32MiB`, `65500 B`, `default`."""
    if text.strip().lower() in ("", "default"):
        return default
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*", text)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"{text!r} is no size")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _check_fast_dds(machine: Machine) -> Finding:
    ours = shared_file("config/fastdds_images.xml")
    variable = fast_dds_variable(machine.environ.get("ROS_DISTRO", ""), machine.prefix)
    cure = f"export {variable}={ours or 'sam_perception/config/fastdds_images.xml'}"
    given = machine.environ.get(variable)
    if not given:
        other = FAST_DDS_3 if variable == FAST_DDS_2 else FAST_DDS_2
        what = f"{other} is set, which this ROS' Fast DDS does not read: " if machine.environ.get(other) else ""
        return Finding(
            "dds profile",
            WARN,
            f"{what}this package's nodes set their own, but a camera driver or `ros2 bag play` started in this "
            "terminal has 512 KiB of shared memory, less than an image",
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
