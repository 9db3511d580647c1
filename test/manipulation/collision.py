"""Whether a grasp would work on the true shapes: written for the tests, shares nothing with the code under test.

The gripper is filled with points 3 mm apart, which are asked whether they are inside a shape; the closing
fingers are lines 3 mm apart, which are met with the shapes by formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from worlds import Shape, World

from sam_perception.scene import GraspTarget

_SPACING = 0.003


@dataclass(frozen=True)
class Hand:
    """A gripper's measures in metres, from its data sheet."""

    opening: float = 0.080
    depth: float = 0.045
    thickness: float = 0.015
    width: float = 0.021
    palm_width: float = 0.204
    palm_thickness: float = 0.063
    palm_depth: float = 0.066


FRANKA = Hand()


@dataclass(frozen=True)
class Verdict:
    """What happens when the gripper goes to the target and closes."""

    touches: str  # what the open gripper is inside of, empty if nothing
    closes_on_target: bool  # both fingers meet the target, and nothing else before it
    slant_deg: float  # largest angle between closing direction and true surface normal at the first contacts

    @property
    def good(self) -> bool:
        return not self.touches and self.closes_on_target


def _fill(low: tuple[float, ...], high: tuple[float, ...]) -> NDArray[np.float64]:
    axes = [np.linspace(a, b, max(2, int((b - a) / _SPACING) + 1)) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 3)


def judge(world: World, target: Shape, grasp: GraspTarget, hand: Hand = FRANKA) -> Verdict:
    world_from_gripper = world.world_from_camera @ grasp.camera_from_gripper
    rotation, origin = world_from_gripper[:3, :3], world_from_gripper[:3, 3]
    half, z = grasp.width_m / 2, hand.width / 2
    parts = [
        _fill((-hand.depth, half, -z), (0, half + hand.thickness, z)),
        _fill((-hand.depth, -half - hand.thickness, -z), (0, -half, z)),
        _fill(
            (-hand.depth - hand.palm_depth, -hand.palm_width / 2, -hand.palm_thickness / 2),
            (-hand.depth, hand.palm_width / 2, hand.palm_thickness / 2),
        ),
    ]
    touches = "" if grasp.width_m <= hand.opening + 1e-9 else "opens wider than it can; "
    for name, part in zip(("finger", "finger", "palm"), parts, strict=True):
        points = part @ rotation.T + origin
        if (points[:, 2] < 0).any():
            touches += f"{name} in the ground; "
        for i, shape in enumerate((*world.shapes, *world.extra)):
            if shape.contains(points).any():
                touches += f"{name} in {'target' if shape is target else f'shape {i}'}; "
    closes, slant = _close(world, target, rotation, origin, half, hand)
    return Verdict(touches, closes, slant)


def _close(
    world: World, target: Shape, rotation: NDArray[np.float64], origin: NDArray[np.float64], half: float, hand: Hand
) -> tuple[bool, float]:
    x, z = np.linspace(-hand.depth, 0, 16), np.linspace(-hand.width / 2, hand.width / 2, 8)
    pads = np.stack(np.meshgrid(x, z), axis=-1).reshape(-1, 2)
    closes, worst = True, 0.0
    for side in (1.0, -1.0):
        starts = np.column_stack([pads[:, 0], np.full(len(pads), side * half), pads[:, 1]]) @ rotation.T + origin
        direction = -side * rotation[:, 1]
        firsts = {}
        for shape in (*world.shapes, *world.extra):
            firsts[id(shape)] = shape.hit(starts, direction)
        mine = firsts[id(target)]
        others = min((v.min() for k, v in firsts.items() if k != id(target)), default=np.inf)
        if not np.isfinite(mine.min()) or mine.min() > 2 * half or others < mine.min():
            closes = False
            continue
        # The pad is flat: it meets the target where that reaches farthest, all over the places within 0.5 mm.
        contact = np.flatnonzero(mine < mine.min() + 0.0005)
        points = starts[contact] + mine[contact, None] * direction
        angles = [np.degrees(np.arccos(np.clip(-target.normal(p) @ direction, -1, 1))) for p in points]
        worst = max(worst, float(np.median(angles)))
    return closes, worst
