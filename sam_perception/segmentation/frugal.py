"""A network that makes do with less memory when it has to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.config import TrackerConfig
from sam_perception.segmentation.backend import Backend
from sam_perception.segmentation.memory_ladder import MemoryLadder
from sam_perception.segmentation.network import Clicks, Decoded
from sam_perception.segmentation.preprocess import masks_and_numbers

if TYPE_CHECKING:
    from sam_perception.segmentation.encoder import ImageFeatures

Tensor = torch.Tensor
Part = TypeVar("Part")
Brought = tuple[NDArray[np.bool_], NDArray[np.float32]]  # masks and numbers on the host


class FrugalBackend:
    """A `Backend` around another one: every call is done again with less where memory runs out.

    The calls take tensors and give tensors and change nothing else, so that one that failed half-way
    can be done again. Objects in turns give what all at once give: no object looks at another.
    """

    is_backend = True

    def __init__(self, backend: Backend, ladder: MemoryLadder) -> None:
        self._backend, self._ladder = backend, ladder

    @property
    def device(self) -> torch.device:
        """Where the tensors lie that it takes and gives."""
        return self._backend.device

    @property
    def dtype(self) -> torch.dtype:
        """Their number format."""
        return self._backend.dtype

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        return self._backend.size

    def encode_image(self, pixels: Tensor) -> Any:
        """(1, 3, S, S) normalised pixels to `ImageFeatures`."""
        return self._ladder.attempt(lambda: self._backend.encode_image(pixels))

    def bank(self, slots: int, config: TrackerConfig) -> Any:
        """An empty `Bank`."""
        return self._backend.bank(slots, config)

    def nothing(self) -> Decoded:
        """No object."""
        return self._backend.nothing()

    def prepare(self, features: ImageFeatures) -> Tensor:
        """What `recall` reads of a picture."""
        return self._ladder.attempt(lambda: self._backend.prepare(features))

    def fresh(self, features: ImageFeatures) -> Tensor:
        """(1, c, h, w): the picture for an object without memory."""
        return self._ladder.attempt(lambda: self._backend.fresh(features))

    def recall(self, prepared: Tensor, bank: Any, slots: Sequence[int], frame: int) -> Tensor:
        """(N, c, h, w): the picture as N objects' memories see it."""
        return self._in_turns(
            len(slots), lambda rows: self._backend.recall(prepared, bank, slots[rows], frame), torch.cat
        )

    def decode(
        self, pixel_features: Tensor, features: ImageFeatures, clicks: Clicks | None = None,
        previous: Tensor | None = None, *, fresh: bool = False,
    ) -> Decoded:  # fmt: skip
        """Masks of N objects from (N or 1, c, h, w) features."""
        shared = pixel_features.shape[0] == 1
        count = pixel_features.shape[0] if clicks is None else clicks.points.shape[0]

        def some(rows: slice) -> Decoded:
            return self._backend.decode(
                pixel_features if shared else pixel_features[rows],
                features,
                None if clicks is None else clicks.rows(rows),
                None if previous is None else previous[rows],
                fresh=fresh,
            )

        return self._in_turns(count, some, Decoded.join)

    def take_mask(self, masks: Tensor, features: ImageFeatures) -> Decoded:
        """(G, S, S) masks of zeros and ones, taken as they are."""
        return self._in_turns(len(masks), lambda rows: self._backend.take_mask(masks[rows], features), Decoded.join)

    def project(self, features: ImageFeatures) -> Tensor:
        """What `memorise` reads of a picture."""
        return self._ladder.attempt(lambda: self._backend.project(features))

    def memorise(self, projected: Tensor, decoded: Decoded, prompted: list[bool]) -> Tensor:
        """(N, hw, 64) memories of N objects."""

        def some(rows: slice) -> Tensor:
            columns = (getattr(decoded, f.name) for f in fields(decoded))
            part = Decoded(*(None if column is None else column[rows] for column in columns))  # type: ignore[arg-type]
            return self._backend.memorise(projected, part, prompted[rows])

        return self._in_turns(len(prompted), some, torch.cat)

    def to_host(self, logits: Tensor, numbers: Tensor, height: int, width: int) -> Brought:
        """As `masks_and_numbers`; masks of the camera's size are what takes most memory after the network."""

        def some(rows: slice) -> Brought:
            return masks_and_numbers(logits[rows], numbers[rows], height, width)

        def join(parts: list[Brought]) -> Brought:
            return np.concatenate([masks for masks, _ in parts]), np.concatenate([values for _, values in parts])

        return self._in_turns(len(logits), some, join)

    def _in_turns(self, count: int, some: Callable[[slice], Part], join: Callable[[list[Part]], Part]) -> Part:
        """`some` for all `count` rows, as many at a time as the ladder allows when its turn comes."""
        parts: list[Part] = []
        done = 0
        while done < count or not parts:

            def turn(start: int = done) -> tuple[int, Part]:
                end = min(count, start + (self._ladder.turns or count))
                return end, some(slice(start, end))

            done, part = self._ladder.attempt(turn)
            parts.append(part)
        return parts[0] if len(parts) == 1 else join(parts)
