"""`sam-perception doctor`: what is wrong with this machine, and what to do about it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sam_perception.commands import doctor_machine, doctor_ros, doctor_runtimes, doctor_topics
from sam_perception.commands.doctor_helpers import HELPERS, check_helper, check_vision_msgs
from sam_perception.commands.doctor_machine import FAIL, OK, WARN, Finding, Machine
from sam_perception.errors import SourceError
from sam_perception.sources.topics import KNOWN, CameraTopics

EPILOG = """
examples:
  sam-perception doctor                            the machine, and the ROS topics of three seconds
  sam-perception doctor --listen 0                 without listening to topics
  sam-perception doctor --words-model IDEA-Research/grounding-dino-tiny      and is that model here?
  sam-perception doctor --color /left/color/image_raw --depth /left/depth --info /left/color/camera_info

Exit code 0 where nothing is wrong (warnings are not), 1 where something is.
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="check ROS, GPU, models, camera and topics, and say what to do",
        description="Check this machine: ROS 2, its middleware, GPU, models, camera, topics and clocks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--listen", type=float, default=3.0, metavar="SECONDS", help="to ROS topics; 0: do not (default %(default)s)"
    )
    parser.add_argument("--model", default="nano", help="that has to be here (default %(default)s)")
    for group, name in HELPERS.items():
        parser.add_argument(f"--{group}-model", default="", metavar="MODEL", help=f"{name} that has to be here too")
    for role in ("color", "depth", "info"):
        parser.add_argument(f"--{role}", metavar="TOPIC", help=f"the camera's {role} topic, where it has another name")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the subcommand; returns the exit code."""
    if not 0 <= arguments.listen <= 3600:
        raise SourceError(f"--listen is {arguments.listen}: listen for 0 to 3600 seconds")
    findings = list[Finding]()
    helpers = {group: getattr(arguments, f"{group}_model") for group in HELPERS}
    for finding in examine(Machine(), arguments.model, arguments.listen, _asked(arguments), helpers):
        findings.append(finding)
        sys.stdout.write(shown(finding))
        sys.stdout.flush()
    counts = {status: sum(finding.status == status for finding in findings) for status in (FAIL, WARN)}
    sys.stdout.write(f"{counts[FAIL]} problems, {counts[WARN]} warnings\n")
    return 1 if counts[FAIL] else 0


def _asked(arguments: argparse.Namespace) -> CameraTopics | None:
    given = (arguments.color, arguments.depth, arguments.info)
    if not any(given):
        return None
    defaults = (KNOWN[0].color, KNOWN[0].depth, KNOWN[0].info)
    return CameraTopics(*(name or default for name, default in zip(given, defaults, strict=True)))


def examine(
    machine: Machine,
    model: str,
    listen_s: float,
    asked: CameraTopics | None,
    helpers: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Finding]:
    """Every check, one after the other; a check that breaks is a finding too.

    `helpers` names models beside the tracker's that have to be here, by group of settings.
    """
    checks: list[tuple[str, Callable[[Machine], Finding]]] = [
        ("python", doctor_machine.check_python),
        ("clock", doctor_machine.check_clock),
        ("numpy", doctor_ros.check_numpy),
        ("ros", doctor_ros.check_ros),
        ("messages", doctor_ros.check_messages),
        ("middleware", doctor_ros.check_rmw),
        ("dds profile", doctor_ros.check_profile),
        ("shared memory", doctor_ros.check_shared_memory),
        ("gpu", _check_gpu),
        ("models", partial(_check_models, model=model)),
        ("runtimes", _check_runtimes),
        *(
            (name, partial(_check_helper, group=group, wanted=helpers.get(group, "")))
            for group, name in HELPERS.items()
        ),
        ("detections", check_vision_msgs),
        ("camera", _check_camera),
    ]
    for name, check in checks:
        try:
            yield check(machine)
        except Exception as error:  # the others are to be seen all the same
            yield Finding(name, FAIL, f"could not be checked: {type(error).__name__}: {error}", "report this")
    if listen_s and machine.can_import("rclpy") and machine.can_import("sam_perception.msg"):
        yield from check_topics(listen_s, asked)


def check_topics(listen_s: float, asked: CameraTopics | None) -> list[Finding]:
    """Listen, and judge what came."""
    candidates = [asked] if asked is not None else list(KNOWN)
    names = [name for one in candidates for name in (one.color, one.depth, one.info)]
    report = doctor_topics.probe(listen_s, names)
    if isinstance(report, str):
        return [Finding("topics", FAIL, f"could not be listened to: {report}", "see the findings about ROS above")]
    topics = doctor_topics.camera_topics(asked, report["types"])
    return doctor_topics.judge(report, topics, listen_s)


def shown(finding: Finding) -> str:
    """One or two lines for a terminal."""
    mark = {OK: "  ok", WARN: "warn", FAIL: "FAIL"}[finding.status]
    cure = f"{' ' * 21}-> {finding.cure}\n" if finding.cure and finding.status != OK else ""
    return f"{mark}  {finding.name:<13}  {finding.text}\n{cure}"


def _check_gpu(machine: Machine) -> Finding:
    def facts() -> Any:
        from sam_perception.segmentation.hardware import torch_facts

        return torch_facts()

    return doctor_machine.check_torch(machine, facts)


def _check_models(machine: Machine, model: str) -> Finding:
    del machine
    from sam_perception.segmentation.export.manifest import is_exported
    from sam_perception.segmentation.export.onnx_model import verify_exported
    from sam_perception.segmentation.models import find_checkpoint, verify_checksums
    from sam_perception.segmentation.pictures.image_models import IMAGE_MODEL_NAMES, find_image_checkpoint

    names: Sequence[str] = IMAGE_MODEL_NAMES  # those for single pictures too

    def find(name: str) -> Path:
        folder = Path(name).expanduser()
        if name != model:
            return find_image_checkpoint(name)
        return folder if is_exported(folder) else find_checkpoint(name)  # the wanted one must be able to track

    def verify(folder: Path) -> None:
        (verify_exported if is_exported(folder) else verify_checksums)(folder)

    return doctor_machine.check_models(model, names, find, verify)


def _check_helper(machine: Machine, group: str, wanted: str) -> Finding:
    del machine
    from sam_perception.segmentation.hub import KINDS, find_folder

    kind = KINDS[group]
    return check_helper(group, wanted, kind.suggestion, kind.how_to_get, lambda name: find_folder(name, kind))


def _check_runtimes(machine: Machine) -> Finding:
    def providers() -> Sequence[str]:
        from sam_perception.segmentation.export.onnx_runtime import available_providers

        return available_providers()

    return doctor_runtimes.check_runtimes(machine, providers)


def _check_camera(machine: Machine) -> Finding:
    from sam_perception.sources.realsense import list_cameras

    return doctor_machine.check_camera(machine, list_cameras)
