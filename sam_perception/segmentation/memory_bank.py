"""What is remembered of each object: preallocated buffers, one slot per object.

Values have 64 channels and cost little. Keys have the attention's width and there is one set per
layer: kept projected and rotated, they cost `layers * width / 64` times as much, which is worth it for
small feature maps, where projecting is a noticeable share of the work. For large ones it is about a
hundredth of the attention itself, and they are projected when they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.segmentation.attention import MemoryAttention
from sam_perception.segmentation.ledger import BankShape, Ledger, Selection
from sam_perception.segmentation.transfer import upload

Tensor = torch.Tensor

# Keys are kept where they take no more than this for one object. The published models' take 46 MiB per
# object at 512 pixels and 184 MiB at 1024, in float32.
KEY_LIMIT_BYTES = 64 << 20


class Gathered(NamedTuple):
    """What N objects attend to, as tensors of fixed shapes."""

    values: Tensor  # (N, M, hw, 64)
    keys: tuple[Tensor, ...]  # per layer (N, M, hw, d) without temporal term; none where they are not kept
    temporal: Tensor  # (N, M) row of the temporal encoding
    pointers: Tensor  # (N, P, c)
    ages: Tensor  # (N, P) frames
    mask: Tensor  # (N, M * hw + P * parts) true where there is something


class MemoryBank:
    """Memories and object pointers of up to `shape.slots` objects, and the tensors that attention reads.

    Args:
        shape: sizes.
        attention: projects keys.
        position: (1, hw, 64) spatial encoding of memories.
    """

    def __init__(self, shape: BankShape, attention: MemoryAttention, position: Tensor) -> None:
        self.shape, self.ledger = shape, Ledger(shape)
        self._attention, self._position = attention, position
        self._device = position.device
        places, width = shape.kept + shape.ring, attention.width
        layers = len(attention.layers)
        key_bytes = layers * places * shape.tokens * width * position.element_size()

        def zeros(*size: int) -> Tensor:
            return torch.zeros(*size, device=position.device, dtype=position.dtype)

        self._values = zeros(shape.slots, places, shape.tokens, shape.memory_channels)
        self._pointers = zeros(shape.slots, shape.kept + shape.pointer_ring, shape.channels)
        kept = layers if key_bytes <= KEY_LIMIT_BYTES else 0
        self._keys = [zeros(shape.slots, places, shape.tokens, width) for _ in range(kept)]
        most = (shape.kept + shape.window) * shape.tokens
        most += (shape.kept + shape.pointer_window) * shape.parts
        self._read_values = zeros(shape.slots, most, shape.memory_channels)
        self._read_keys = zeros(shape.slots, most, width)

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
        positioned = memories + self._position
        keys = [self._attention.memory_keys(layer, positioned) for layer in range(len(self._keys))]
        rows = np.arange(len(slots))
        self._store(np.asarray(slots), rows, self.ledger.enter(slots, frame), keys, memories, pointers)
        for row in np.flatnonzero(prompted).tolist():
            place = np.array([self.ledger.enter_prompted(slots[row], frame)])
            self._store(np.array([slots[row]]), np.array([row]), (place, place), keys, memories, pointers)

    def keep(self, slot: int, frame: int) -> None:
        """Keep a recent frame of one object for longer, in place of the oldest that is kept so."""
        places = self.ledger.enter_lasting(slot, frame)
        if places is None:
            return
        memory, pointer, place = places
        for bank in (*self._keys, self._values):
            bank[slot, place] = bank[slot, memory]
        self._pointers[slot, place] = self._pointers[slot, pointer]

    def _store(
        self, slots: NDArray[np.int64], rows: NDArray[np.int64], places: tuple[NDArray[np.int64], NDArray[np.int64]],
        keys: list[Tensor], memories: Tensor, pointers: Tensor,
    ) -> None:  # fmt: skip
        source = _span(rows, self._device)
        memory, pointer = (self._target(slots, p) for p in places)
        for bank, new in zip(self._keys, keys, strict=True):
            bank[memory] = new[source]
        self._values[memory] = memories[source]
        self._pointers[pointer] = pointers[source].to(self._pointers.dtype)

    def _target(self, slots: NDArray[np.int64], places: NDArray[np.int64]) -> tuple[slice | Tensor, int | Tensor]:
        """An index of one place per slot: without a copy of indices where all use the same place."""
        if _equal(places):
            return _span(slots, self._device), int(places[0])
        return upload(slots, self._device), upload(places, self._device)

    def values(self, slots: Sequence[int], selection: Selection) -> Tensor:
        """(N, S, 64) values of what was selected; memories first, then pointers. Valid until the next call."""
        read, tokens = self._read_values[: len(slots)], self.shape.tokens
        for column in range(selection.places.shape[1]):
            source = self._column(self._values, slots, selection.places[:, column])
            read[:, column * tokens : (column + 1) * tokens].copy_(source)
        pointers = self.pointers(slots, selection)
        start = selection.places.shape[1] * tokens
        end = start + pointers.shape[1] * self.shape.parts
        read[:, start:end].copy_(pointers.reshape(len(slots), -1, self.shape.memory_channels))
        return read[:, :end]

    def keys(self, layer: int, slots: Sequence[int], selection: Selection, pointer_keys: Tensor) -> Tensor:
        """(N, S, d) keys of what was selected, temporal encoding added. Valid until the next call."""
        read, tokens = self._read_keys[: len(slots)], self.shape.tokens
        table = self._attention.layers[layer].temporal_keys
        for column in range(selection.places.shape[1]):
            keys = self._column_keys(layer, slots, selection.places[:, column])
            rows = selection.temporal[:, column]
            temporal = table[int(rows[0])] if _equal(rows) else table[_span(rows, self._device)]
            torch.add(keys, temporal, out=read[:, column * tokens : (column + 1) * tokens])
        start = selection.places.shape[1] * tokens
        end = start + pointer_keys.shape[1]
        read[:, start:end].copy_(pointer_keys)
        return read[:, :end]

    def _column_keys(self, layer: int, slots: Sequence[int], places: NDArray[np.int64]) -> Tensor:
        if self._keys:
            return self._column(self._keys[layer], slots, places)
        return self._attention.memory_keys(layer, self._column(self._values, slots, places) + self._position)

    def pointers(self, slots: Sequence[int], selection: Selection) -> Tensor:
        """(N, P, c) object pointers of what was selected."""
        flat = np.asarray(slots)[:, None] * self._pointers.shape[1] + selection.pointer_places
        chosen = self._pointers.flatten(0, 1).index_select(0, upload(flat.reshape(-1), self._device))
        return chosen.view(*flat.shape, -1)

    def gather(self, slots: Sequence[int], selection: Selection) -> Gathered:
        """All of what was selected, filled up to as much as can be; for a program of fixed shapes."""
        shape = self.shape
        chosen = selection.padded(shape.kept + shape.window, shape.kept + shape.pointer_window)
        flat = upload((np.asarray(slots)[:, None] * self._values.shape[1] + chosen.places).reshape(-1), self._device)

        def rows(bank: Tensor) -> Tensor:
            kept = bank.flatten(0, 1).index_select(0, flat)
            return kept.view(*chosen.places.shape, *kept.shape[1:])

        memories = np.repeat(chosen.memory_valid, shape.tokens, axis=1)
        pointers = np.repeat(chosen.pointer_valid, shape.parts, axis=1)
        return Gathered(
            rows(self._values),
            tuple(rows(keys) for keys in self._keys),
            upload(chosen.temporal, self._device),
            self.pointers(slots, chosen),
            upload(chosen.pointer_ages, self._device),
            upload(np.concatenate([memories, pointers], axis=1), self._device),
        )

    def mask(self, selection: Selection) -> Tensor | None:
        """(N, S) true where a row has something, or None where every row has everything."""
        if selection.memory_valid.all() and selection.pointer_valid.all():
            return None
        memories = np.repeat(selection.memory_valid, self.shape.tokens, axis=1)
        pointers = np.repeat(selection.pointer_valid, self.shape.parts, axis=1)
        return upload(np.concatenate([memories, pointers], axis=1), self._device)

    def _column(self, bank: Tensor, slots: Sequence[int], places: NDArray[np.int64]) -> Tensor:
        """(N, hw, w) of `bank` (slots, places, hw, w): a view where all objects use the same place."""
        if _equal(places):
            return bank[_span(np.asarray(slots), self._device), int(places[0])]
        flat = np.asarray(slots) * bank.shape[1] + places
        return bank.flatten(0, 1).index_select(0, upload(flat, self._device))


def _equal(values: NDArray[np.int64]) -> bool:
    return bool((values == values[0]).all())


def _span(indices: NDArray[np.int64], device: torch.device) -> slice | Tensor:
    """A slice where the indices are neighbours in order, which reads without a copy."""
    first = int(indices[0])
    if (indices == np.arange(first, first + len(indices))).all():
        return slice(first, first + len(indices))
    return upload(indices, device)
