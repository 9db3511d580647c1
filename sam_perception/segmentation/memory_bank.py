"""What is remembered of each object: preallocated ring buffers, one slot per object.

Per slot there are `conditioning` places for prompted frames (the first one and the latest ones) and
a ring for the most recent frames; frame `f` lies at place `f % ring`. A prompted frame is written
to both, and the ring's copy counts only once the conditioning place has been given to another frame:
that is SAM 2's rule for conditioning frames that are not selected any more. The ring is longer than
what is attended to by as many frames as a late prompt may lie in the past.

Which place holds which frame is known to the host, so that choosing what is attended to, padding and
masking need no synchronisation with the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.segmentation.attention import MemoryAttention
from sam_perception.segmentation.transfer import upload

Tensor = torch.Tensor

EMPTY = -1  # no frame


@dataclass(frozen=True)
class BankShape:
    """Sizes of the buffers; all counts are per object."""

    slots: int
    conditioning: int  # places for prompted frames
    window: int  # recent frames attended to
    pointer_window: int  # recent frames whose object pointers are attended to
    history: int  # frames that a late prompt may lie in the past
    tokens: int  # of one memory: h * w of the feature map
    channels: int  # hidden size; pointers have this many
    memory_channels: int  # 64


@dataclass(frozen=True, eq=False)
class Selection:
    """What N objects attend to in one frame, in columns; rows that have less are padded and masked."""

    places: NDArray[np.int64]  # (N, M) place of each memory
    temporal: NDArray[np.int64]  # (N, M) row of the temporal encoding
    memory_valid: NDArray[np.bool_]  # (N, M)
    pointer_places: NDArray[np.int64]  # (N, P)
    pointer_ages: NDArray[np.int64]  # (N, P) frames
    pointer_valid: NDArray[np.bool_]  # (N, P)


class MemoryBank:
    """Memories and object pointers of up to `shape.slots` objects, and the tensors that attention reads."""

    def __init__(self, shape: BankShape, attention: MemoryAttention, device: torch.device, dtype: torch.dtype) -> None:
        self.shape = shape
        self._ring = shape.window + shape.history
        self._pointer_ring = shape.pointer_window + shape.history
        self._attention = attention
        places, pointer_places = shape.conditioning + self._ring, shape.conditioning + self._pointer_ring
        self.parts = shape.channels // shape.memory_channels  # tokens of one pointer

        def zeros(*size: int) -> Tensor:
            return torch.zeros(*size, device=device, dtype=dtype)

        self._values = zeros(shape.slots, places, shape.tokens, shape.memory_channels)
        self._keys = [zeros(shape.slots, places, shape.tokens, attention.width) for _ in attention.layers]
        self._pointers = zeros(shape.slots, pointer_places, shape.channels)
        most = (shape.conditioning + shape.window) * shape.tokens
        most += (shape.conditioning + shape.pointer_window) * self.parts
        self._read_keys = zeros(shape.slots, most, attention.width)
        self._read_values = zeros(shape.slots, most, shape.memory_channels)
        self._device = device
        self._frames = np.full((shape.slots, places), EMPTY, np.int64)
        self._pointer_frames = np.full((shape.slots, pointer_places), EMPTY, np.int64)

    # ------------------------------------------------------------------ what is there

    def clear(self, slot: int) -> None:
        """Forget everything of a slot."""
        self._frames[slot] = EMPTY
        self._pointer_frames[slot] = EMPTY

    def clear_recent(self) -> None:
        """Forget the recent frames of all slots; prompted frames stay."""
        self._frames[:, self.shape.conditioning :] = EMPTY
        self._pointer_frames[:, self.shape.conditioning :] = EMPTY

    def discard(self, slot: int, frame: int) -> None:
        """Forget what was written of a recent frame; a prompted frame stays."""
        kept = self.shape.conditioning
        for frames in (self._frames, self._pointer_frames):
            frames[slot, kept:][frames[slot, kept:] == frame] = EMPTY

    def conditioning_frames(self, slot: int) -> tuple[int, ...]:
        """Numbers of the prompted frames that are remembered, oldest first."""
        frames = self._frames[slot, : self.shape.conditioning]
        return tuple(sorted(int(f) for f in frames[frames != EMPTY]))

    # ------------------------------------------------------------------ writing

    def write(
        self, slots: Sequence[int], frame: int, memories: Tensor, positioned: Tensor, pointers: Tensor,
        prompted: Sequence[bool],
    ) -> None:  # fmt: skip
        """Remember one frame of N objects.

        Args:
            slots: N, each at most once.
            frame: number of the frame in the stream.
            memories: (N, hw, 64).
            positioned: the same with the spatial encoding added.
            pointers: (N, c).
            prompted: for each object, whether the frame was pointed at, which makes it a conditioning frame.
        """
        keys = [self._attention.memory_keys(layer, positioned) for layer in range(len(self._keys))]
        everywhere = np.arange(len(slots))
        place = self.shape.conditioning + frame % self._ring
        pointer_place = self.shape.conditioning + frame % self._pointer_ring
        self._store(np.asarray(slots), everywhere, place, pointer_place, keys, memories, pointers)
        self._frames[slots, place] = frame
        self._pointer_frames[slots, pointer_place] = frame
        for row in np.flatnonzero(prompted).tolist():
            slot = slots[row]
            place = self._conditioning_place(slot, frame)
            self._store(np.array([slot]), np.array([row]), place, place, keys, memories, pointers)
            self._frames[slot, place] = self._pointer_frames[slot, place] = frame

    def _conditioning_place(self, slot: int, frame: int) -> int:
        """The frame's own place, a free one, or that of the oldest frame but the very first."""
        frames = self._frames[slot, : self.shape.conditioning]
        own = np.flatnonzero(frames == frame)
        free = np.flatnonzero(frames == EMPTY)
        if own.size or free.size:
            return int((own if own.size else free)[0])
        by_age = np.argsort(frames)
        return int(by_age[min(1, len(by_age) - 1)])

    def _store(
        self, slots: NDArray[np.int64], rows: NDArray[np.int64], place: int, pointer_place: int,
        keys: list[Tensor], memories: Tensor, pointers: Tensor,
    ) -> None:  # fmt: skip
        to, source = _span(slots, self._device), _span(rows, self._device)
        for bank, new in zip(self._keys, keys, strict=True):
            bank[to, place] = new[source]
        self._values[to, place] = memories[source]
        self._pointers[to, pointer_place] = pointers[source].to(self._pointers.dtype)

    # ------------------------------------------------------------------ reading

    def select(self, slots: Sequence[int], frame: int) -> Selection:
        """Choose what objects attend to in a frame: prompted frames, the last ones, and pointers.

        As in SAM 2, memories of prompted frames count even if they lie ahead (a late prompt may lie
        before a correction), pointers only from the past. The frame itself never counts, so that clicks
        that come one by one give what they give together.
        """
        kept, window = self.shape.conditioning, self.shape.window
        memories, pointers = [], []
        for slot in slots:
            prompted = self._frames[slot, :kept].tolist()
            recent = self._recent(self._frames[slot], self._ring, frame, window, prompted)
            # Row age - 1 of the temporal encodings for a recent frame, the last row for a prompted one.
            memories.append(
                [(place, age - 1) for place, age in recent]
                + [(place, window) for place, f in enumerate(prompted) if f not in (EMPTY, frame)]
            )
            pointers.append(
                self._recent(self._pointer_frames[slot], self._pointer_ring, frame, self.shape.pointer_window, prompted)
                + [(place, frame - f) for place, f in enumerate(prompted) if EMPTY != f < frame]
            )
        return Selection(*_columns(memories), *_columns(pointers))

    def _recent(
        self, frames: NDArray[np.int64], ring: int, frame: int, window: int, prompted: list[int]
    ) -> list[tuple[int, int]]:
        """Place and age of the remembered recent frames, youngest first; not those that are conditioning frames."""
        held = frames.tolist()
        places = [(self.shape.conditioning + (frame - age) % ring, age) for age in range(1, min(window, frame) + 1)]
        return [(place, age) for place, age in places if held[place] == frame - age and frame - age not in prompted]

    def values(self, slots: Sequence[int], selection: Selection) -> Tensor:
        """(N, S, 64) values of what was selected; memories first, then pointers. Valid until the next call."""
        read = self._read_values[: len(slots)]
        for column in range(selection.places.shape[1]):
            source = self._column(self._values, slots, selection.places[:, column])
            read[:, self._tokens(column)].copy_(source)
        pointers = self.pointers(slots, selection)
        start = selection.places.shape[1] * self.shape.tokens
        end = start + pointers.shape[1] * self.parts
        read[:, start:end].copy_(pointers.reshape(len(slots), -1, self.shape.memory_channels))
        return read[:, :end]

    def keys(self, layer: int, slots: Sequence[int], selection: Selection, pointer_keys: Tensor) -> Tensor:
        """(N, S, d) keys of what was selected, temporal encoding added. Valid until the next call."""
        read, table = self._read_keys[: len(slots)], self._attention.layers[layer].temporal_keys
        for column in range(selection.places.shape[1]):
            source = self._column(self._keys[layer], slots, selection.places[:, column])
            rows = selection.temporal[:, column]
            temporal = table[int(rows[0])] if _equal(rows) else table[_span(rows, self._device)]
            torch.add(source, temporal, out=read[:, self._tokens(column)])
        start = selection.places.shape[1] * self.shape.tokens
        read[:, start : start + pointer_keys.shape[1]].copy_(pointer_keys)
        return read[:, : start + pointer_keys.shape[1]]

    def pointers(self, slots: Sequence[int], selection: Selection) -> Tensor:
        """(N, P, c) object pointers of what was selected."""
        flat = np.asarray(slots)[:, None] * self._pointers.shape[1] + selection.pointer_places
        chosen = self._pointers.flatten(0, 1).index_select(0, upload(flat.reshape(-1), self._device))
        return chosen.view(*flat.shape, -1)

    def mask(self, selection: Selection) -> Tensor | None:
        """(N, S) true where a row has something, or None where every row has everything."""
        if selection.memory_valid.all() and selection.pointer_valid.all():
            return None
        memories = np.repeat(selection.memory_valid, self.shape.tokens, axis=1)
        pointers = np.repeat(selection.pointer_valid, self.parts, axis=1)
        return upload(np.concatenate([memories, pointers], axis=1), self._device)

    def _tokens(self, column: int) -> slice:
        return slice(column * self.shape.tokens, (column + 1) * self.shape.tokens)

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


def _columns(
    rows: list[list[tuple[int, int]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Rows of pairs as two (N, longest) arrays and what of them is not padding."""
    longest = max(len(row) for row in rows)
    padded = np.zeros((len(rows), longest, 2), np.int64)
    valid = np.zeros((len(rows), longest), bool)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
        valid[number, : len(row)] = True
    return padded[:, :, 0], padded[:, :, 1], valid
