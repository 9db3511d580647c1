"""What the tracker needs of a network, whatever computes it: torch, or exported parts on another runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from sam_perception.config import TrackerConfig
    from sam_perception.segmentation.encoder import ImageFeatures
    from sam_perception.segmentation.ledger import Ledger
    from sam_perception.segmentation.network import Clicks, Decoded

Tensor = torch.Tensor


class Bank(Protocol):
    """Memories of up to as many objects as there are slots."""

    @property
    def ledger(self) -> Ledger:
        """Which frame is remembered where."""

    def write(
        self, slots: Sequence[int], frame: int, memories: Tensor, pointers: Tensor, prompted: Sequence[bool], /
    ) -> None:
        """Remember one frame of N objects: (N, hw, 64) memories, (N, c) pointers."""

    def keep(self, slot: int, frame: int, /) -> None:
        """Keep a recent frame of one object for longer than recent frames are kept."""


class Backend(Protocol):
    """SAM 2's parts as functions on one flat batch of objects; `network.Network` says what each does.

    What `prepare` and `project` return is handed back to `recall` and `memorise` of the same backend
    and to nothing else; so is the bank.
    """

    @property
    def device(self) -> torch.device:
        """Where the tensors lie that it takes and gives."""

    @property
    def dtype(self) -> torch.dtype:
        """Their number format."""

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""

    @property
    def encode_image(self) -> Any:
        """(1, 3, S, S) normalised pixels to `ImageFeatures`."""

    def bank(self, slots: int, config: TrackerConfig, /) -> Any:
        """An empty `Bank`."""

    def nothing(self) -> Decoded:
        """No object."""

    def prepare(self, features: ImageFeatures, /) -> Tensor:
        """What `recall` reads of a picture."""

    def fresh(self, features: ImageFeatures, /) -> Tensor:
        """(1, c, h, w): the picture for an object without memory."""

    def recall(self, prepared: Tensor, bank: Any, slots: Sequence[int], frame: int, /) -> Tensor:
        """(N, c, h, w): the picture as N objects' memories see it."""

    def decode(
        self, pixel_features: Tensor, features: ImageFeatures, clicks: Clicks | None = None,
        previous: Tensor | None = None, *, fresh: bool = False,
    ) -> Decoded:  # fmt: skip
        """Masks of N objects from (N or 1, c, h, w) features."""

    def take_mask(self, masks: Tensor, features: ImageFeatures, /) -> Decoded:
        """(G, S, S) masks of zeros and ones, taken as they are."""

    def project(self, features: ImageFeatures, /) -> Tensor:
        """What `memorise` reads of a picture."""

    def memorise(self, projected: Tensor, decoded: Decoded, prompted: list[bool], /) -> Tensor:
        """(N, hw, 64) memories of N objects."""


def backend_of(model: Any) -> Backend:
    """What runs a model: the model itself where it is a backend already, else `Network`.

    Raises:
        ModelError: neither an exported model nor a `Sam2VideoModel` that can be streamed.
    """
    from sam_perception.segmentation.network import Network

    if getattr(model, "is_backend", False):
        backend: Backend = model
        return backend
    return Network(model)
