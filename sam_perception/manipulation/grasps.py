"""Grasps under examination, as columns."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Grasps:
    """K grasps under examination; every array has one row per grasp."""

    kinds: NDArray[np.intp]  # values of GraspKind
    rotations: Array  # (K, 3, 3)
    tips: Array  # (K, 3)
    object_widths: Array  # (K,) visible extent of what is held
    widths: Array  # (K,) opening
    depths: Array  # (K,) how far the object reaches in from the tips
    filled: Array  # (K,)
    slants: Array  # (K,)
    away: Array  # (K,) see `checks.unseen_ends`
    unseen: Array  # (K,) share of the fingers' volume
    palm_unseen: Array  # (K,) share of the palm's
    rims: Mask  # (K,) whether a wall is held, with one finger inside of the object

    def only(self, keep: Mask) -> Grasps:
        """Those to keep."""
        return Grasps(**{name: value[keep] for name, value in vars(self).items()})

    def joined(self, others: Grasps) -> Grasps:
        """These and the others."""
        return Grasps(
            **{f.name: np.concatenate([getattr(self, f.name), getattr(others, f.name)]) for f in fields(self)}
        )

    @property
    def pose(self) -> tuple[Array, Array, Array]:
        """Rotations, tips and openings."""
        return self.rotations, self.tips, self.widths

    def __len__(self) -> int:
        return len(self.tips)
