"""COCO's run-length encoding of masks: column by column, runs of zeros and ones in turn, zeros first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import MalformedImage


@dataclass(frozen=True, eq=False)
class Rle:
    """A mask as runs."""

    size: tuple[int, int]  # height, width
    counts: NDArray[np.uint32]  # lengths of the runs; the first is one of zeros and may be 0

    @staticmethod
    def of(mask: NDArray[np.bool_]) -> Rle:
        """Runs of a mask (H, W)."""
        height, width = mask.shape
        flat = np.ravel(mask, order="F").astype(bool, copy=False)
        starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        lead = [0] if flat.size and flat[0] else []
        edges = np.concatenate([lead, starts, [flat.size]]).astype(np.int64)
        return Rle((height, width), np.diff(edges, prepend=0).astype(np.uint32))

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(self.counts[1::2].sum(dtype=np.int64))

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """First and last column and row of the mask: x_min, y_min, x_max, y_max; zeros for an empty one."""
        ends = np.cumsum(self.counts, dtype=np.int64)
        starts, ends = ends[:-1][::2], ends[1::2]
        if starts.size == 0:
            return 0, 0, 0, 0
        height = self.size[0]
        first, last = starts // height, (ends - 1) // height
        if (first != last).any():  # a run that goes on in the next column touches both its rows' ends
            return int(first[0]), 0, int(last[-1]), height - 1
        return int(first[0]), int((starts % height).min()), int(last[-1]), int(((ends - 1) % height).max())

    def mask(self) -> NDArray[np.bool_]:
        """The mask (H, W)."""
        values = np.zeros(len(self.counts), np.bool_)
        values[1::2] = True
        height, width = self.size
        return np.ascontiguousarray(np.repeat(values, self.counts).reshape(width, height).T)

    def moved(self, x: int, y: int, size: tuple[int, int]) -> Rle:
        """The same mask with its top left corner at x, y of an empty one of `size`."""
        if (x, y) == (0, 0) and size == self.size:
            return self
        whole = np.zeros(size, np.bool_)
        whole[y : y + self.size[0], x : x + self.size[1]] = self.mask()
        return Rle.of(whole)

    def uncompressed(self) -> dict[str, Any]:
        """COCO's dictionary with a list of counts."""
        return {"size": list(self.size), "counts": self.counts.tolist()}

    def compressed(self) -> dict[str, Any]:
        """COCO's dictionary with counts as text, which its tools read and JSON can hold."""
        return {"size": list(self.size), "counts": _packed(self.counts.tolist())}

    @staticmethod
    def read(entry: dict[str, Any]) -> Rle:
        """Runs from either of COCO's dictionaries.

        Raises:
            MalformedImage: not such a dictionary, or the runs do not add up to the size.
        """
        try:
            height, width = (int(n) for n in entry["size"])
            counts = entry["counts"]
            if isinstance(counts, bytes):
                counts = counts.decode("ascii")
            runs = _unpacked(counts) if isinstance(counts, str) else [int(n) for n in counts]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise MalformedImage(
                f"{str(entry)[:60]!r} are no run lengths ({type(error).__name__}: {error}): size and counts are needed"
            ) from error
        if min(height, width) < 0 or any(not 0 <= n < 2**32 for n in runs) or sum(runs) != height * width:
            raise MalformedImage(
                f"runs of a {width} x {height} mask add up to {sum(runs)}, wanted {height * width}: "
                "the encoding is cut off or of another picture"
            )
        return Rle((height, width), np.array(runs, np.uint32))


def _packed(counts: Sequence[int]) -> str:
    """Each count, from the fourth on as its difference from the one before the last, in 5-bit digits.

    The lowest digit comes first, bit 5 says that more follow, bit 4 of the last is the sign; 48 is
    added to make it text.
    """
    text = bytearray()
    for i, count in enumerate(counts):
        rest = count - counts[i - 2] if i > 2 else count
        while True:
            digit, rest = rest & 31, rest >> 5
            last = rest == (-1 if digit & 16 else 0)
            text.append(48 + (digit if last else digit | 32))
            if last:
                break
    return text.decode("ascii")


def _unpacked(text: str) -> list[int]:
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        digit = ord(character) - 48
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    return counts
