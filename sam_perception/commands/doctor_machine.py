"""Checks of the machine for `sam-perception doctor`, each a small function from what is there to what to do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam_perception.errors import ModelNotFound, PerceptionError

OK, WARN, FAIL = "ok", "warn", "fail"

DEFAULT_RMW = "rmw_fastrtps_cpp"
_INTEL = "8086"  # USB vendor of RealSense cameras
_EARLIEST_S = 1_700_000_000.0  # of November 2023: earlier is a clock that was never set


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    status: str  # ok, warn or fail
    text: str
    cure: str = ""  # what to do; empty where nothing is to be done


def _can_import(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Machine:
    """The machine that is looked at; tests make their own."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    root: Path = Path("/")
    prefix: Path = field(default_factory=lambda: Path(sys.prefix))
    python: tuple[int, int] = field(default_factory=lambda: sys.version_info[:2])
    can_import: Callable[[str], bool] = _can_import
    version: Callable[[str], str | None] = _version
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    now_s: Callable[[], float] = time.time

    @property
    def from_wheels(self) -> bool:
        """Whether ROS 2 is installed in the interpreter's own prefix."""
        return (self.prefix / "share" / "ament_index").is_dir()

    @property
    def ros_prefixes(self) -> list[Path]:
        """Where packages of ROS are registered."""
        given = [Path(entry) for entry in self.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
        return given or ([self.prefix] if self.from_wheels else [])

    @property
    def rmw(self) -> str:
        """The middleware that nodes will use."""
        return self.environ.get("RMW_IMPLEMENTATION") or DEFAULT_RMW

    def read(self, path: str) -> str | None:
        """The text of a file under the root, or None."""
        try:
            return (self.root / path).read_text().strip()
        except OSError:
            return None


def check_python(machine: Machine) -> Finding:
    """The interpreter's version."""
    text = "Python {}.{}".format(*machine.python)
    if (3, 10) <= machine.python <= (3, 12):
        return Finding("python", OK, text)
    return Finding("python", WARN, f"{text}, tested are 3.10 to 3.12", "make setup PYTHON=python3.12")


def check_torch(machine: Machine, facts: Callable[[], Any]) -> Finding:
    """Torch, and whether it uses the GPU that is there; `facts` as segmentation.hardware.torch_facts."""
    try:
        torch = facts()
    except ImportError as error:
        return Finding("gpu", FAIL, f"torch cannot be imported ({error})", "make setup")
    has_gpu = machine.read("proc/driver/nvidia/version") is not None or machine.read("etc/nv_tegra_release") is not None
    if torch.gpus:
        return Finding("gpu", OK, f"torch {torch.version} on {', '.join(torch.gpus)}")
    if has_gpu:
        build = f"built for CUDA {torch.cuda}" if torch.cuda else "a CPU build"
        return Finding(
            "gpu",
            FAIL,
            f"there is an NVIDIA GPU, but torch {torch.version}, {build}, does not see it",
            "look at nvidia-smi, then install the torch build for this driver's CUDA",
        )
    return Finding("gpu", OK, f"none; torch {torch.version} on the CPU, {torch.threads} threads: fast enough for nano")


def check_models(
    wanted: str, names: Sequence[str], find: Callable[[str], Path], verify: Callable[[Path], None]
) -> Finding:
    """The wanted model whole, and which others are here."""
    try:
        folder = find(wanted)
        verify(folder)
    except PerceptionError as error:
        return Finding("models", FAIL, f"{wanted}: {error}", "see the README's section on models")
    whole = "checksums match" if (folder / "SHA256SUMS").is_file() else "no checksums to compare"
    others, damaged = [], []
    for name in names:
        if name == wanted:
            continue
        try:
            verify(find(name))
            others.append(name)
        except ModelNotFound:
            continue
        except PerceptionError as error:
            damaged.append(str(error))
    text = f"{wanted} in {folder} ({whole}); also here: {', '.join(others) or 'none'}"
    if damaged:
        return Finding("models", WARN, f"{text}; {'; '.join(damaged)}", "get the damaged ones again")
    return Finding("models", OK, text)


def check_camera(machine: Machine, cameras: Callable[[], Sequence[Any]]) -> Finding:
    """RealSense cameras; `cameras` as sources.realsense.list_cameras."""
    try:
        seen = cameras()
    except PerceptionError as error:
        return Finding("camera", WARN, str(error), "needed for realsense_node only, not for realsense2_camera")
    plugged = _plugged_in(machine)
    if not seen and plugged:
        return Finding(
            "camera",
            FAIL,
            f"{', '.join(plugged)} is plugged in, but librealsense may not open it",
            "install librealsense's udev rules (99-realsense-libusb.rules) and plug it in again; in a container pass "
            "--privileged -v /dev:/dev",
        )
    if not seen:
        return Finding("camera", WARN, "no RealSense is plugged in here", "plug it into a USB 3 port, if it should be")
    slow = [str(camera) for camera in seen if camera.usb and not camera.usb.startswith("3")]
    if slow:
        return Finding(
            "camera", WARN, f"{', '.join(slow)}: not USB 3", "use a USB 3 port (blue) and the camera's cable"
        )
    old = [
        f"{camera} has firmware {camera.firmware}, recommended is {camera.recommended_firmware}"
        for camera in seen
        if camera.recommended_firmware and _numbers(camera.firmware) < _numbers(camera.recommended_firmware)
    ]
    if old:
        return Finding("camera", WARN, "; ".join(old), "update it in realsense-viewer")
    return Finding("camera", OK, "; ".join(str(camera) for camera in seen))


def _plugged_in(machine: Machine) -> list[str]:
    """RealSenses that the kernel sees on USB."""
    found = []
    for vendor in sorted((machine.root / "sys/bus/usb/devices").glob("*/idVendor")):
        product = vendor.parent / "product"
        if vendor.read_text().strip() == _INTEL and product.is_file() and "RealSense" in product.read_text():
            found.append(product.read_text().strip())
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def check_clock(machine: Machine) -> Finding:
    """The host's clock has been set."""
    now_s = machine.now_s()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    if now_s < _EARLIEST_S:
        return Finding("clock", FAIL, f"the clock says {shown}", "set it: timedatectl set-ntp true, or start chrony")
    return Finding("clock", OK, shown)
