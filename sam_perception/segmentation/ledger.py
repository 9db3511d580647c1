"""Which place of the memory bank holds which frame, and what of it an object attends to.

Per slot there are `conditioning` places for prompted frames (the first one and the latest ones) and
behind them a ring for the most recent frames; frame `f` lies at place `conditioning + f % ring`. A
prompted frame is written to both, and the ring's copy counts only once the conditioning place has been
given to another frame: that is SAM 2's rule for conditioning frames that are not selected any more. The
ring is longer than what is attended to by as many frames as a late prompt may lie in the past.

All this is known to the host, so that choosing what is attended to, padding and masking need no
synchronisation with the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EMPTY = -1  # no frame


@dataclass(frozen=True)
class BankShape:
    """Sizes of the memory bank; all counts are per object."""

    slots: int
    conditioning: int  # places for prompted frames
    window: int  # recent frames attended to
    pointer_window: int  # recent frames whose object pointers are attended to
    history: int  # frames that a late prompt may lie in the past
    tokens: int  # of one memory: h * w of the feature map
    channels: int  # hidden size; pointers have this many
    memory_channels: int  # 64

    @property
    def ring(self) -> int:
        """Places for recent frames."""
        return self.window + self.history

    @property
    def pointer_ring(self) -> int:
        """Places for recent frames' object pointers."""
        return self.pointer_window + self.history

    @property
    def parts(self) -> int:
        """Tokens of one object pointer."""
        return self.channels // self.memory_channels


@dataclass(frozen=True, eq=False)
class Selection:
    """What N objects attend to in one frame, in columns; rows that have less are padded."""

    places: NDArray[np.int64]  # (N, M) place of each memory
    temporal: NDArray[np.int64]  # (N, M) row of the temporal encoding
    memory_valid: NDArray[np.bool_]  # (N, M)
    pointer_places: NDArray[np.int64]  # (N, P)
    pointer_ages: NDArray[np.int64]  # (N, P) frames
    pointer_valid: NDArray[np.bool_]  # (N, P)


class Ledger:
    """Frames by slot and place, for memories and for object pointers."""

    def __init__(self, shape: BankShape) -> None:
        self._shape = shape
        self._frames = np.full((shape.slots, shape.conditioning + shape.ring), EMPTY, np.int64)
        self._pointer_frames = np.full((shape.slots, shape.conditioning + shape.pointer_ring), EMPTY, np.int64)

    def clear(self, slot: int) -> None:
        """Forget everything of a slot."""
        self._frames[slot] = EMPTY
        self._pointer_frames[slot] = EMPTY

    def clear_recent(self) -> None:
        """Forget the recent frames of all slots; prompted frames stay."""
        self._frames[:, self._shape.conditioning :] = EMPTY
        self._pointer_frames[:, self._shape.conditioning :] = EMPTY

    def discard(self, slot: int, frame: int) -> None:
        """Forget a recent frame; a prompted frame stays."""
        kept = self._shape.conditioning
        for frames in (self._frames, self._pointer_frames):
            frames[slot, kept:][frames[slot, kept:] == frame] = EMPTY

    def conditioning_frames(self, slot: int) -> tuple[int, ...]:
        """Numbers of the prompted frames that are remembered, oldest first."""
        frames = self._frames[slot, : self._shape.conditioning]
        return tuple(sorted(int(f) for f in frames[frames != EMPTY]))

    def enter(self, slots: Sequence[int], frame: int) -> tuple[int, int]:
        """Note a frame in the ring; the places for its memories and its object pointers."""
        place = self._shape.conditioning + frame % self._shape.ring
        pointer_place = self._shape.conditioning + frame % self._shape.pointer_ring
        self._frames[slots, place] = frame
        self._pointer_frames[slots, pointer_place] = frame
        return place, pointer_place

    def enter_prompted(self, slot: int, frame: int) -> int:
        """Note a prompted frame: its own place, a free one, or that of the oldest frame but the very first."""
        frames = self._frames[slot, : self._shape.conditioning]
        own, free = np.flatnonzero(frames == frame), np.flatnonzero(frames == EMPTY)
        if own.size or free.size:
            place = int((own if own.size else free)[0])
        else:
            by_age = np.argsort(frames)
            place = int(by_age[min(1, len(by_age) - 1)])
        self._frames[slot, place] = self._pointer_frames[slot, place] = frame
        return place

    def select(self, slots: Sequence[int], frame: int) -> Selection:
        """Choose what objects attend to in a frame: prompted frames, the last ones, and pointers.

        As in SAM 2, memories of prompted frames count even if they lie ahead (a late prompt may lie
        before a correction), pointers only from the past. The frame itself never counts, so that clicks
        that come one by one give what they give together.
        """
        shape, memories, pointers = self._shape, [], []
        for slot in slots:
            prompted = self._frames[slot, : shape.conditioning].tolist()
            recent = self._recent(self._frames[slot], shape.ring, frame, shape.window, prompted)
            # Row age - 1 of the temporal encodings for a recent frame, the last row for a prompted one.
            memories.append(
                [(place, age - 1) for place, age in recent]
                + [(place, shape.window) for place, f in enumerate(prompted) if f not in (EMPTY, frame)]
            )
            pointers.append(
                self._recent(self._pointer_frames[slot], shape.pointer_ring, frame, shape.pointer_window, prompted)
                + [(place, frame - f) for place, f in enumerate(prompted) if EMPTY != f < frame]
            )
        return Selection(*_columns(memories), *_columns(pointers))

    def _recent(
        self, frames: NDArray[np.int64], ring: int, frame: int, window: int, prompted: list[int]
    ) -> list[tuple[int, int]]:
        """Place and age of the remembered recent frames, youngest first; not those that are conditioning frames."""
        held = frames.tolist()
        places = [(self._shape.conditioning + (frame - age) % ring, age) for age in range(1, min(window, frame) + 1)]
        return [(place, age) for place, age in places if held[place] == frame - age and frame - age not in prompted]


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
