"""What the tracker says about one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import UnknownObject
from sam_perception.scene import ObjectState

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Tracks:
    """All objects in one frame, in order of id; also those not visible, whose mask is empty."""

    ids: NDArray[np.int64]  # (N,)
    masks: NDArray[np.bool_]  # (N, H, W), the colour image's size
    logits: torch.Tensor  # (N, h, w) float, the model's own resolution, on its device; about -1024: not there
    scores: NDArray[np.float32]  # (N,) probability that the object is in the picture
    mask_scores: NDArray[np.float32]  # (N,) the model's estimate of the mask's IoU
    states: tuple[ObjectState, ...]  # N
    labels: tuple[str, ...]  # N
    last_seen_ns: NDArray[np.int64]  # (N,) stamp of the last frame with the object visible; -1: never
    rejected: tuple[tuple[int, str], ...] = ()  # (object id, why) of prompts that could not be applied
    notes: tuple[str, ...] = ()  # prompts that were applied otherwise than asked, and how
    resting: tuple[int, ...] = ()  # ids whose rows are those of an earlier frame: it was not their turn

    def index(self, object_id: int) -> int:
        """The object's row.

        Raises:
            UnknownObject: it has none.
        """
        rows = np.flatnonzero(self.ids == object_id)
        if rows.size == 0:
            raise UnknownObject(f"no object {object_id} in this frame, it has {self.ids.tolist()}")
        return int(rows[0])
