"""SAM 1 and SAM 2 as functions of one picture: features once, then any number of prompts on them.

The modules and weights are transformers' `SamModel`, `Sam2Model` and the image part of `Sam2VideoModel`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.errors import ModelError
from sam_perception.segmentation.hardware import inferring
from sam_perception.segmentation.pictures.picture_scaling import PaddedScaling, PictureScaling, Size, SquashedScaling

Tensor = torch.Tensor


@dataclass(frozen=True, eq=False)
class EncodedPicture:
    """One picture's features, ready for prompts."""

    features: tuple[Tensor, ...]  # (1, C, h, w) each, finest first; SAM 1 has a single one
    size: Size  # height and width of the picture


@dataclass(frozen=True, eq=False)
class ModelPrompts:
    """N prompts in the model's own pixels; what is None is not given."""

    points: Tensor | None = None  # (N, P, 2) float32
    labels: Tensor | None = None  # (N, P) int32; 1 object, 0 not object
    boxes: Tensor | None = None  # (N, 4) float32
    masks: Tensor | None = None  # (N, h, w) float32 mask logits

    @property
    def count(self) -> int:
        """N."""
        return next((len(t) for t in (self.points, self.boxes, self.masks) if t is not None), 1)


class ImageNetwork(Protocol):
    """What prompts on single pictures need of a model."""

    device: torch.device
    scaling: PictureScaling
    low_size: Size  # of the mask logits

    def encode(self, rgb: NDArray[np.uint8]) -> EncodedPicture:
        """Features of a picture (H, W, 3) uint8, red first."""

    def decode(self, picture: EncodedPicture, prompts: ModelPrompts, *, many: bool) -> tuple[Tensor, Tensor]:
        """(N, K, h, w) mask logits and (N, K) predicted IoUs, float32; K is 3 with `many`, else 1."""


def image_network(model: Any) -> ImageNetwork:
    """How a transformers model is used on single pictures.

    Raises:
        ModelError: a model of another kind.
    """
    from transformers import Sam2Model, Sam2VideoModel, SamModel

    if isinstance(model, SamModel):
        return Sam1Network(model)
    if isinstance(model, (Sam2Model, Sam2VideoModel)):
        return Sam2Network(model)
    raise ModelError(
        f"model is a {type(model).__name__}: pass a transformers SamModel, Sam2Model or Sam2VideoModel, as "
        "load_image_model returns it"
    )


class Sam1Network:
    """A `SamModel`: ViT-B, ViT-L, ViT-H and whatever has its configuration."""

    def __init__(self, model: Any) -> None:
        self._model = model.eval()
        reference = model.vision_encoder.patch_embed.projection.weight
        self.device, self._dtype = reference.device, reference.dtype
        sizes = model.config.prompt_encoder_config
        self.low_size: Size = (4 * sizes.image_embedding_size, 4 * sizes.image_embedding_size)
        self.scaling: PictureScaling = PaddedScaling(int(sizes.image_size), self.device)
        with torch.inference_mode():
            self._position = model.get_image_wide_positional_embeddings().to(self._dtype)

    @inferring()
    def encode(self, rgb: NDArray[np.uint8]) -> EncodedPicture:
        """Features of a picture (H, W, 3) uint8, red first."""
        features = self._model.get_image_embeddings(self.scaling.pixels(rgb).to(self._dtype))
        return EncodedPicture((features,), (rgb.shape[0], rgb.shape[1]))

    @inferring()
    def decode(self, picture: EncodedPicture, prompts: ModelPrompts, *, many: bool) -> tuple[Tensor, Tensor]:
        """(N, K, h, w) mask logits and (N, K) predicted IoUs, float32; K is 3 with `many`, else 1."""
        sparse, dense = _embedded(self._model.prompt_encoder, prompts)
        logits, ious = self._model.mask_decoder(
            image_embeddings=picture.features[0].expand(prompts.count, -1, -1, -1),
            image_positional_embeddings=self._position,
            sparse_prompt_embeddings=None if sparse is None else sparse.to(self._dtype),
            dense_prompt_embeddings=dense.to(self._dtype),
            multimask_output=many,
        )
        return logits[:, 0].float(), ious[:, 0].float()


class Sam2Network:
    """A `Sam2Model`, or a `Sam2VideoModel` without its memory."""

    def __init__(self, model: Any) -> None:
        self._model = model.eval()
        reference = model.no_memory_embedding
        self.device, self._dtype = reference.device, reference.dtype
        encoder = model.prompt_encoder
        self.low_size: Size = (int(encoder.mask_input_size[0]), int(encoder.mask_input_size[1]))
        self.scaling: PictureScaling = SquashedScaling(int(encoder.input_image_size), self.device)
        with torch.inference_mode():
            self._position = model.get_image_wide_positional_embeddings().to(self._dtype)

    @inferring()
    def encode(self, rgb: NDArray[np.uint8]) -> EncodedPicture:
        """Features of a picture (H, W, 3) uint8, red first."""
        features = self._model.get_image_embeddings(self.scaling.pixels(rgb).to(self._dtype))
        return EncodedPicture(tuple(features), (rgb.shape[0], rgb.shape[1]))

    @inferring()
    def decode(self, picture: EncodedPicture, prompts: ModelPrompts, *, many: bool) -> tuple[Tensor, Tensor]:
        """(N, K, h, w) mask logits and (N, K) predicted IoUs, float32; K is 3 with `many`, else 1.

        A single mask that is not stable gives way to the surest of three, where the model is configured so.
        """
        count = prompts.count
        if prompts.points is None and prompts.boxes is None:
            nowhere = torch.zeros(count, 1, 2, device=self.device)
            none = torch.full((count, 1), -1, dtype=torch.int32, device=self.device)
            prompts = ModelPrompts(nowhere, none, None, prompts.masks)
        sparse, dense = _embedded(self._model.prompt_encoder, prompts)
        *fine, top = picture.features
        logits, ious, _, _ = self._model.mask_decoder(
            image_embeddings=top.expand(count, -1, -1, -1),
            image_positional_embeddings=self._position,
            sparse_prompt_embeddings=sparse.to(self._dtype),
            dense_prompt_embeddings=dense.to(self._dtype),
            multimask_output=many,
            high_resolution_features=fine,
        )
        return logits[:, 0].float(), ious[:, 0].float()


def _embedded(encoder: Any, prompts: ModelPrompts) -> tuple[Any, Tensor]:
    """Prompts as transformers' encoders make them, one prompt per batch entry."""
    number_format = encoder.no_mask_embed.weight.dtype
    masks = None if prompts.masks is None else prompts.masks[:, None].to(number_format)
    sparse, dense = encoder(
        None if prompts.points is None else prompts.points[:, None].to(number_format),
        None if prompts.labels is None else prompts.labels[:, None],
        None if prompts.boxes is None else prompts.boxes[:, None].to(number_format),
        masks,
    )
    return sparse, dense
