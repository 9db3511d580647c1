"""Which place of the memory bank holds which frame, and what of it an object attends to.

Per slot there are `conditioning` places for prompted frames (the first one and the latest ones), behind
them `lasting` places for frames that a policy keeps for longer, and a ring for the most recent frames.

In the ring frame `f` lies at place `f % ring`, as long as every frame is remembered; so all objects use
the same place. Where a policy refuses frames, the places of refused ones are used first and then that of
the oldest, so that the last remembered frames stay, however old they are. They are attended to in order
of age, by rank: with every frame remembered, rank is age, which is SAM 2's rule.

A prompted frame is written to both its own place and the ring, and the ring's copy counts only once the
conditioning place has been given to another frame: that is SAM 2's rule for conditioning frames that
are not selected any more. The ring is longer than what is attended to by as many frames as a late prompt
may lie in the past, and at least by the one that is written before a policy has judged it.

All this is known to the host, so that choosing what is attended to, padding and masking need no
synchronisation with the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

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
    lasting: int = 0  # places for frames that a policy keeps for longer

    @property
    def kept(self) -> int:
        """Places that are no part of the ring."""
        return self.conditioning + self.lasting

    @property
    def ring(self) -> int:
        """Places for recent frames."""
        return self.window + max(1, self.history)

    @property
    def pointer_ring(self) -> int:
        """Places for recent frames' object pointers."""
        return self.pointer_window + max(1, self.history)

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

    def padded(self, memories: int, pointers: int) -> Selection:
        """The same with so many columns of memories and of pointers; what is added is not valid."""
        widths = (memories,) * 3 + (pointers,) * 3
        columns = (getattr(self, f.name) for f in fields(self))
        return Selection(*(np.pad(c, ((0, 0), (0, w - c.shape[1]))) for c, w in zip(columns, widths, strict=True)))


class Ledger:
    """Frames by slot and place, for memories and for object pointers."""

    def __init__(self, shape: BankShape) -> None:
        self._shape = shape
        self._frames = np.full((shape.slots, shape.kept + shape.ring), EMPTY, np.int64)
        self._pointer_frames = np.full((shape.slots, shape.kept + shape.pointer_ring), EMPTY, np.int64)

    def clear(self, slot: int) -> None:
        """Forget everything of a slot."""
        self._frames[slot] = EMPTY
        self._pointer_frames[slot] = EMPTY

    def clear_recent(self) -> None:
        """Forget the recent frames of all slots; prompted and lasting frames stay."""
        self._frames[:, self._shape.kept :] = EMPTY
        self._pointer_frames[:, self._shape.kept :] = EMPTY

    def discard(self, slot: int, frame: int) -> None:
        """Forget a recent frame; a prompted or lasting frame stays."""
        kept = self._shape.kept
        for frames in (self._frames, self._pointer_frames):
            frames[slot, kept:][frames[slot, kept:] == frame] = EMPTY

    def forget_frame(self, frame: int) -> None:
        """Forget a frame in all slots, prompted or not: its step failed."""
        for frames in (self._frames, self._pointer_frames):
            frames[frames == frame] = EMPTY

    def conditioning_frames(self, slot: int) -> tuple[int, ...]:
        """Numbers of the prompted frames that are remembered, oldest first."""
        return _held(self._frames[slot, : self._shape.conditioning])

    def lasting_frames(self, slot: int) -> tuple[int, ...]:
        """Numbers of the frames kept for longer, oldest first."""
        return _held(self._frames[slot, self._shape.conditioning : self._shape.kept])

    def enter(self, slots: Sequence[int], frame: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Note a frame in the rings; for each slot, the places for its memory and its object pointer."""
        rows, shape = np.asarray(slots), self._shape
        held, pointed = self._frames[rows, shape.kept :], self._pointer_frames[rows, shape.kept :]
        history = shape.ring - shape.window
        places = shape.kept + _places_in_ring(held, frame, history, shape.window)
        pointers = shape.kept + _places_in_ring(pointed, frame, history, shape.pointer_window)
        self._frames[rows, places] = frame
        self._pointer_frames[rows, pointers] = frame
        return places, pointers

    def enter_prompted(self, slot: int, frame: int) -> int:
        """Note a prompted frame: its own place, a free one, or that of the oldest frame but the very first.

        Frames that were kept for longer before somebody corrected the object are not trusted any more.
        """
        frames = self._frames[slot, : self._shape.conditioning]
        own, free = np.flatnonzero(frames == frame), np.flatnonzero(frames == EMPTY)
        if own.size or free.size:
            place = int((own if own.size else free)[0])
        else:
            by_age = np.argsort(frames)
            place = int(by_age[min(1, len(by_age) - 1)])
        self._frames[slot, place] = self._pointer_frames[slot, place] = frame
        for held in (self._frames, self._pointer_frames):
            held[slot, self._shape.conditioning : self._shape.kept] = EMPTY
        return place

    def enter_lasting(self, slot: int, frame: int) -> tuple[int, int, int] | None:
        """Note that a recent frame is kept for longer, in place of the oldest such frame.

        Returns:
            The places where its memory and its pointer lie, and the place where both are to be copied; None
            if there is nothing to copy: no such places, not a recent frame, or kept already.
        """
        first, kept = self._shape.conditioning, self._shape.kept
        memory = np.flatnonzero(self._frames[slot, kept:] == frame)
        pointer = np.flatnonzero(self._pointer_frames[slot, kept:] == frame)
        if first == kept or not memory.size or not pointer.size or frame in self._frames[slot, :kept]:
            return None
        place = first + int(np.argmin(self._frames[slot, first:kept]))  # EMPTY is less than any frame
        self._frames[slot, place] = self._pointer_frames[slot, place] = frame
        return kept + int(memory[0]), kept + int(pointer[0]), place

    def select(self, slots: Sequence[int], frame: int) -> Selection:
        """Choose what objects attend to in a frame: prompted frames, lasting ones, the last ones, and pointers.

        As in SAM 2, memories of prompted frames count even if they lie ahead (a late prompt may lie
        before a correction), pointers only from the past. The frame itself never counts, so that clicks
        that come one by one give what they give together. Lasting frames carry the temporal encoding
        of prompted ones, which says nothing about age.
        """
        shape, memories, pointers = self._shape, [], []
        for slot in slots:
            kept = self._frames[slot, : shape.kept].tolist()
            for place in range(shape.conditioning, shape.kept):
                if kept[place] >= frame:
                    kept[place] = EMPTY
            # Row rank - 1 of the temporal encodings for a recent frame, the last row for a prompted one.
            memories.append(
                [(place, rank - 1) for place, rank in self._recent(self._frames[slot], frame, shape.window, kept)]
                + [(place, shape.window) for place, f in enumerate(kept) if f not in (EMPTY, frame)]
            )
            pointers.append(
                self._recent(self._pointer_frames[slot], frame, shape.pointer_window, kept)
                + [(place, frame - f) for place, f in enumerate(kept) if EMPTY != f < frame]
            )
        return Selection(*_columns(memories), *_columns(pointers))

    def _recent(self, frames: NDArray[np.int64], frame: int, window: int, kept: list[int]) -> list[tuple[int, int]]:
        """Place and rank of the last `window` remembered frames, youngest first, without those kept elsewhere too."""
        first = self._shape.kept
        held = enumerate(frames[first:].tolist())
        past = sorted(((f, place) for place, f in held if EMPTY != f < frame), reverse=True)
        return [(first + place, rank) for rank, (f, place) in enumerate(past[:window], start=1) if f not in kept]


def _held(frames: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(sorted(int(f) for f in frames[frames != EMPTY]))


def _places_in_ring(held: NDArray[np.int64], frame: int, history: int, window: int) -> NDArray[np.int64]:
    """Where each of N slots writes a frame, given the (N, ring) frames that it holds.

    A late prompt may go back as far as `history` frames before the next one. What is attended to there has to
    stay: a place is spent once `window` younger frames lie before all that may still be worked off. In a ring
    that is full the oldest frame always is, since all but `window` of the others may lie behind.
    """
    natural = frame % held.shape[1]
    own = held == frame
    before = held[:, natural]
    newest = np.maximum(held.max(axis=1), frame)
    settled = held <= (newest - history)[:, None]
    spent = (before == EMPTY) | ((settled & (held > before[:, None])).sum(axis=1) >= window)
    place = np.where(spent, natural, held.argmin(axis=1))  # EMPTY is less than any frame
    places: NDArray[np.int64] = np.where(own.any(axis=1), own.argmax(axis=1), place)
    return places


def _columns(
    rows: list[list[tuple[int, int]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Rows of pairs as two (N, longest) arrays and what of them is not padding."""
    longest = max(len(row) for row in rows)
    padded = np.zeros((len(rows), longest, 2), np.int64)
    valid = np.zeros((len(rows), longest), bool)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = np.reshape(row, (-1, 2))
        valid[number, : len(row)] = True
    return padded[:, :, 0], padded[:, :, 1], valid
