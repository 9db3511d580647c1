"""Parallel grippers as three boxes: two fingers and a palm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GraspConfig


@dataclass(frozen=True)
class Gripper:
    """Dimensions of a parallel gripper, in the frame that `GraspTarget` describes."""

    max_opening_m: float  # between the open fingers, along y
    finger_depth_m: float  # from palm to tips, along x
    finger_thickness_m: float  # along y
    finger_width_m: float  # along z
    palm_width_m: float  # along y
    palm_thickness_m: float  # along z
    palm_depth_m: float  # along x


# Nominal boxes, rounded up where in doubt; measure your own gripper and use `custom` where millimetres count.
# Franka hand: 80 mm between open fingers, tips 45 mm before the palm's face (hand_tcp lies 103.4 mm from the
# flange, the finger joints 58.4 mm). 2F-85: 85 mm between open pads of 22 x 37.5 mm; its linkage, which swings
# out to the sides, is taken as part of the palm, whose size is an estimate.
GRIPPERS = {
    "franka_hand": Gripper(0.080, 0.045, 0.015, 0.021, 0.204, 0.063, 0.066),
    "robotiq_2f85": Gripper(0.085, 0.045, 0.014, 0.022, 0.150, 0.075, 0.090),
}


def gripper_of(settings: GraspConfig) -> Gripper:
    """The gripper that the settings name, or describe where it is `custom`."""
    if settings.gripper in GRIPPERS:
        return GRIPPERS[settings.gripper]
    return Gripper(
        settings.max_opening_m,
        settings.finger_depth_m,
        settings.finger_thickness_m,
        settings.finger_width_m,
        settings.palm_width_m,
        settings.palm_thickness_m,
        settings.palm_depth_m,
    )


@dataclass(frozen=True, eq=False)
class GripperBox:
    """One part of a gripper, in the gripper's frame."""

    low_m: NDArray[np.float64]  # (3,)
    high_m: NDArray[np.float64]  # (3,)


def gripper_boxes(gripper: Gripper, width_m: float) -> tuple[GripperBox, GripperBox, GripperBox]:
    """The finger at +y, the finger at -y, and the palm, with the fingers `width_m` apart."""
    half, z = width_m / 2, gripper.finger_width_m / 2
    thick, deep = gripper.finger_thickness_m, gripper.finger_depth_m
    back = deep + gripper.palm_depth_m
    palm_y, palm_z = gripper.palm_width_m / 2, gripper.palm_thickness_m / 2
    return (
        GripperBox(np.array([-deep, half, -z]), np.array([0.0, half + thick, z])),
        GripperBox(np.array([-deep, -half - thick, -z]), np.array([0.0, -half, z])),
        GripperBox(np.array([-back, -palm_y, -palm_z]), np.array([-deep, palm_y, palm_z])),
    )
