"""`sam-perception doctor`: the models beside the tracker's, which are all optional."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sam_perception.commands.doctor_machine import FAIL, OK, Finding, Machine
from sam_perception.errors import ModelNotFound, PerceptionError

# By the group of settings: what a person would call it.
HELPERS = {"words": "words", "detector": "detector", "semantic": "semantic", "depth": "depth model"}


def check_helper(group: str, wanted: str, suggestion: str, how_to_get: str, find: Callable[[str], Path]) -> Finding:
    """One kind of model: the one that is wanted has to be here; without a wish, whether the usual one is.

    Args:
        group: of `HELPERS`.
        wanted: directory or name; empty: nothing is wanted.
        suggestion: the usual one.
        how_to_get: the command for it.
        find: as segmentation.hub.find_folder, of a name.
    """
    name = HELPERS[group]
    try:
        folder = find(wanted or suggestion)
    except ModelNotFound as error:
        if wanted:
            return Finding(name, FAIL, str(error), f"docs: {group}.model")
        return Finding(name, OK, f"none here, and none needed; {how_to_get} gets one for {group}.model")
    except PerceptionError as error:
        return Finding(name, FAIL, str(error), "get its files again")
    missing = [part for part in ("preprocessor_config.json",) if not _has(folder, part, "processor_config.json")]
    if missing:
        cure = "get all of its .json and .txt files, not the weights alone"
        return Finding(name, FAIL, f"{folder} has no {missing[0]}", cure)
    return Finding(name, OK, f"{wanted or suggestion} in {folder}")


def check_vision_msgs(machine: Machine) -> Finding:
    """Whether ~/detections can be listened to."""
    if machine.can_import("vision_msgs.msg"):
        return Finding("detections", OK, "vision_msgs is installed: ~/detections is listened to")
    cure = "apt install ros-$ROS_DISTRO-vision-msgs"
    return Finding("detections", OK, f"vision_msgs is not installed, so that nothing listens to ~/detections; {cure}")


def _has(folder: Path, *names: str) -> bool:
    return any((folder / name).is_file() for name in names)
