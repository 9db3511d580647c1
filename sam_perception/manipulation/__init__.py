"""For the arm: grasps for a parallel gripper, from what the camera sees of an object."""

from __future__ import annotations

from sam_perception.manipulation.gripper import GRIPPERS, Gripper, GripperBox, gripper_boxes, gripper_of
from sam_perception.manipulation.space import Space, space_around
from sam_perception.manipulation.targets import grasp_targets, scene_grasps

__all__ = [
    "GRIPPERS",
    "Gripper",
    "GripperBox",
    "Space",
    "grasp_targets",
    "gripper_boxes",
    "gripper_of",
    "scene_grasps",
    "space_around",
]
