"""What is remembered of each object, for a memory attention that projects keys by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.segmentation.ledger import BankShape, Ledger
from sam_perception.segmentation.transfer import upload

Tensor = torch.Tensor


@dataclass(frozen=True, eq=False)
class Recalled:
    """What N objects attend to: M memories and P object pointers each, padded."""

    memories: Tensor  # (N, M, hw, 64)
    rows: Tensor  # (N, M) int64, row of the temporal encoding
    memory_valid: Tensor  # (N, M) bool
    pointers: Tensor  # (N, P, c)
    ages: Tensor  # (N, P) float32, frames
    pointer_valid: Tensor  # (N, P) bool

    def inputs(self) -> dict[str, Tensor]:
        """By the names that the exported memory attention has for them."""
        return dict(vars(self))


class OnnxBank:
    """Memories and object pointers of up to `shape.slots` objects.

    Args:
        shape: sizes.
        device: where they lie.
        least: memories and object pointers that are given at least, padded; for graphs of fixed sizes.
    """

    def __init__(self, shape: BankShape, device: torch.device, least: tuple[int, int] = (1, 1)) -> None:
        self.shape, self.ledger = shape, Ledger(shape)
        self._device, self._least = device, least
        places, pointer_places = shape.kept + shape.ring, shape.kept + shape.pointer_ring
        self._values = torch.zeros(shape.slots, places, shape.tokens, shape.memory_channels, device=device)
        self._pointers = torch.zeros(shape.slots, pointer_places, shape.channels, device=device)

    def write(
        self, slots: Sequence[int], frame: int, memories: Tensor, pointers: Tensor, prompted: Sequence[bool]
    ) -> None:
        """Remember one frame of N objects.

        Args:
            slots: N, each at most once.
            frame: number of the frame in the stream.
            memories: (N, hw, 64).
            pointers: (N, c).
            prompted: for each object, whether the frame was pointed at, which makes it a conditioning frame.
        """
        to = upload(slots, self._device)
        places, pointer_places = (upload(p, self._device) for p in self.ledger.enter(slots, frame))
        self._values[to, places], self._pointers[to, pointer_places] = memories, pointers
        for row in np.flatnonzero(prompted).tolist():
            place = self.ledger.enter_prompted(slots[row], frame)
            self._values[slots[row], place], self._pointers[slots[row], place] = memories[row], pointers[row]

    def keep(self, slot: int, frame: int) -> None:
        """Keep a recent frame of one object for longer, in place of the oldest that is kept so."""
        places = self.ledger.enter_lasting(slot, frame)
        if places is not None:
            memory, pointer, place = places
            self._values[slot, place] = self._values[slot, memory]
            self._pointers[slot, place] = self._pointers[slot, pointer]

    def recall(self, slots: Sequence[int], frame: int) -> Recalled:
        """What objects attend to in a frame."""
        chosen = self.ledger.select(slots, frame)
        memories = max(self._least[0], chosen.places.shape[1])
        pointers = max(self._least[1], chosen.pointer_places.shape[1])
        return Recalled(
            memories=_gathered(self._values, slots, _widened(chosen.places, memories)),
            rows=upload(_widened(chosen.temporal, memories), self._device),
            memory_valid=upload(_widened(chosen.memory_valid, memories), self._device),
            pointers=_gathered(self._pointers, slots, _widened(chosen.pointer_places, pointers)),
            ages=upload(_widened(chosen.pointer_ages, pointers), self._device).float(),
            pointer_valid=upload(_widened(chosen.pointer_valid, pointers), self._device),
        )


def _widened(columns: NDArray[Any], width: int) -> NDArray[Any]:
    """(N, K) with zeros, or false, behind it up to `width` columns."""
    wide: NDArray[Any] = np.zeros((len(columns), width), columns.dtype)
    wide[:, : columns.shape[1]] = columns
    return wide


def _gathered(bank: Tensor, slots: Sequence[int], places: NDArray[np.int64]) -> Tensor:
    """(N, K, ...) of `bank` (slots, places, ...)."""
    flat = np.asarray(slots)[:, None] * bank.shape[1] + places
    chosen = bank.flatten(0, 1).index_select(0, upload(flat.reshape(-1), bank.device))
    return chosen.view(*flat.shape, *bank.shape[2:])
