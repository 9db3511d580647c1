"""What a person should read about a RealSense and the thread that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sam_perception.ros.diagnosis import ERROR, OK, WARN, Status
from sam_perception.sources.realsense import CameraStatus, RealSenseConfig

_SILENT_S = 3.0  # without a frame: an error; more at rates below 1 Hz


@dataclass(frozen=True)
class Reading:
    """What the node knows of its camera's pictures that the camera itself may not."""

    rate_hz: float
    silent_s: float  # since the last frame, or since the start
    alive: bool  # the thread that reads
    fault: str = ""  # what failed outside of the camera, last
    transforms: str = ""


def diagnose_camera(status: CameraStatus, reading: Reading, config: RealSenseConfig, *, simulated: bool) -> Status:
    """What a person should read about the camera."""
    values = {
        "frames": str(status.frames),
        "rate Hz": f"{reading.rate_hz:.1f}",
        "seconds since the last": f"{reading.silent_s:.1f}",
        "lost and opened again": str(status.losses),
        "transforms": reading.transforms,
    }
    values |= {f"rejected: {kind}": str(count) for kind, count in sorted(status.rejected.items())}
    values |= {f"color {name}": str(value) for name, value in status.metadata.items()}
    if config.rosbag_filename:
        values["recording"] = config.rosbag_filename
    if status.camera is not None:
        camera = status.camera
        values |= {"name": camera.name, "serial": camera.serial, "firmware": camera.firmware, "usb": camera.usb}
    problems = [*_faults(status, reading, config), *_doubts(status, reading, config)]
    if simulated and not config.rosbag_filename:
        problems.append((WARN, "use_sim_time is set, but a camera's stamps are the host's time: unset it"))
    level = max((level for level, _ in problems), default=OK)
    return Status("camera", level, "; ".join(text for _, text in problems) or f"{reading.rate_hz:.1f} Hz", values)


def _faults(status: CameraStatus, reading: Reading, config: RealSenseConfig) -> Iterator[tuple[int, str]]:
    """Why nothing comes."""
    if not reading.alive:
        yield ERROR, "the thread that reads the camera has ended: start the node again; its log says why"
    if reading.fault:
        yield ERROR, reading.fault
    if status.problem:
        yield WARN if status.ended else ERROR, status.problem
    elif status.camera is None and not (config.rosbag_loop and reading.silent_s < _SILENT_S):  # it begins again
        yield ERROR, "no camera is open: plug one into a USB 3 port, and see the log"
    elif reading.silent_s > max(_SILENT_S, 3.0 / (config.fps or 1)):
        cure = "see that the file is whole" if config.rosbag_filename else (
            "the SDK may be waiting for a camera that hangs; check cable, USB 3 port and power, plug it in again, and "
            "start the node again if that does not help"
        )  # fmt: skip
        yield ERROR, f"no frame for {reading.silent_s:.1f} s: {cure}"


def _doubts(status: CameraStatus, reading: Reading, config: RealSenseConfig) -> Iterator[tuple[int, str]]:
    """What should be better."""
    camera = status.camera
    if camera is None or config.rosbag_filename:
        return
    if camera.usb and not camera.usb.startswith("3"):
        yield WARN, f"connected by USB {camera.usb}: use a USB 3 port and cable, or small images"
    if not status.problem and config.fps and reading.rate_hz < 0.7 * config.fps:
        yield (
            WARN,
            f"{reading.rate_hz:.1f} Hz instead of {config.fps}: more light, a better cable, or a smaller image",
        )
