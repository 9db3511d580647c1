"""A picture's features: computed once per frame, kept for the last few frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

Tensor = torch.Tensor


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """What all objects share of one picture; C is the hidden size, h x w the coarsest feature map."""

    fine: tuple[Tensor, Tensor]  # (1, C/8, 4h, 4w), (1, C/4, 2h, 2w): for the mask decoder
    top: Tensor  # (1, C, h, w)
    tokens: Tensor  # (1, hw, C) positioned, the memory attention's input


class ImageEncoder:
    """transformers' `Sam2VisionModel` without the work that tracking does not read.

    The pyramid's position encodings are constant and, but for the coarsest, unused. The two finest
    levels take nothing from coarser ones; each is a 1 x 1 convolution that the mask decoder follows
    with another, which makes one.
    """

    def __init__(self, model: Any) -> None:
        self._backbone = model.vision_encoder.backbone
        self._neck = model.vision_encoder.neck
        decoder = model.mask_decoder
        self._fine = tuple(
            _joined(self._neck.convs[len(self._neck.convs) - 1 - level], conv)
            for level, conv in enumerate((decoder.conv_s0, decoder.conv_s1))
        )
        size = model.backbone_feature_sizes[-1]
        reference = model.no_memory_embedding
        position = self._neck.position_encoding(
            torch.Size((1, model.hidden_dim, *size)), reference.device, torch.float32
        )
        # Added once here with the factor that the memory attention gives it.
        self._position = (0.1 * position.flatten(2).transpose(1, 2)).to(reference.dtype)

    def __call__(self, pixels: Tensor) -> ImageFeatures:
        """(1, 3, S, S) normalised pixels to features."""
        levels = self._backbone(pixels).intermediate_hidden_states
        maps = [level.permute(0, 3, 1, 2) for level in levels]
        fine = (functional.conv2d(maps[0], *self._fine[0]), functional.conv2d(maps[1], *self._fine[1]))
        coarser = functional.interpolate(self._neck.convs[0](maps[3]), scale_factor=2.0, mode="nearest")
        top = self._neck.convs[1](maps[2]) + coarser
        return ImageFeatures(fine=fine, top=top, tokens=top.flatten(2).transpose(1, 2) + self._position)


def _joined(first: Any, second: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of one 1 x 1 convolution that does what `first` and then `second` do."""
    inner, outer = first.weight[:, :, 0, 0], second.weight[:, :, 0, 0]
    return (outer @ inner)[:, :, None, None].contiguous(), outer @ first.bias + second.bias
