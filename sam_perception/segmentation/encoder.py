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

    Left out or done once: the backbone's position embedding, which depends on the size only; attention
    weights that each block computes beside its fused attention; the pyramid's position encodings but for
    the coarsest. The two finest levels take nothing from coarser ones: each is a 1 x 1 convolution that
    the mask decoder follows with another, which makes one.
    """

    def __init__(self, model: Any) -> None:
        backbone, neck = model.vision_encoder.backbone, model.vision_encoder.neck
        self._patches = backbone.patch_embed
        self._blocks, self._ends = backbone.blocks, frozenset(backbone.stage_ends)
        side = int(model.image_size) // 4  # the patches' stride
        self._position = backbone._get_pos_embed((side, side)).contiguous()
        levels = [_as_linear(conv) for conv in reversed(neck.convs)]  # finest first
        self._fine = tuple(
            _joined(level, _as_linear(conv))
            for level, conv in zip(levels, (model.mask_decoder.conv_s0, model.mask_decoder.conv_s1), strict=False)
        )
        self._top, self._coarsest = levels[2], levels[3]
        size, reference = model.backbone_feature_sizes[-1], model.no_memory_embedding
        position = neck.position_encoding(torch.Size((1, model.hidden_dim, *size)), reference.device, torch.float32)
        # Added once here with the factor that the memory attention gives it.
        self._token_position = (0.1 * position.flatten(2).transpose(1, 2)).to(reference.dtype)

    def __call__(self, pixels: Tensor) -> ImageFeatures:
        """(1, 3, S, S) normalised pixels to features."""
        x, levels = self._patches(pixels) + self._position, []
        for number, block in enumerate(self._blocks):
            x = _run_block(block, x)
            if number in self._ends:
                levels.append(x)
        fine = (_maps(levels[0], self._fine[0]).contiguous(), _maps(levels[1], self._fine[1]).contiguous())
        coarser = functional.interpolate(_maps(levels[3], self._coarsest), scale_factor=2.0, mode="nearest")
        top = (_maps(levels[2], self._top) + coarser).contiguous()
        return ImageFeatures(fine=fine, top=top, tokens=top.flatten(2).transpose(1, 2) + self._token_position)


def _run_block(block: Any, x: Tensor) -> Tensor:
    """One block of Hiera on (B, H, W, C): attention in windows, pooled between stages, and its MLP."""
    normed = block.layer_norm1(x)
    residual = x if block.dim == block.dim_out else _pooled(block.proj(normed), block.query_stride)
    window = block.window_size
    if not window:
        mixed = _attend(block.attn, normed, block.query_stride)
    else:
        mixed = _attend(block.attn, _windows(normed, window), block.query_stride)
        mixed = _unwindowed(mixed, int(residual.shape[1]), int(residual.shape[2]))
    x = residual + mixed
    out: Tensor = x + block.mlp(block.layer_norm2(x))
    return out


def _attend(attention: Any, x: Tensor, stride: tuple[int, int] | None) -> Tensor:
    """(B, H, W, C) to (B, H', W', C'), all tokens of a batch entry with one another; queries pooled by `stride`."""
    batch, height, width, _ = x.shape
    heads = attention.num_attention_heads
    query, key, value = attention.qkv(x).reshape(batch, height * width, 3, heads, -1).unbind(2)
    if stride:
        pooled = _pooled(query.reshape(batch, height, width, -1), stride)
        height, width = pooled.shape[1], pooled.shape[2]
        query = pooled.reshape(batch, height * width, heads, -1)
    mixed = functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), scale=attention.scale
    )
    out: Tensor = attention.proj(mixed.transpose(1, 2).reshape(batch, height, width, -1))
    return out


def _pooled(x: Tensor, stride: tuple[int, int] | None) -> Tensor:
    """Maximum over `stride` x `stride` tokens of (B, H, W, C)."""
    if not stride:
        return x
    return functional.max_pool2d(x.permute(0, 3, 1, 2), kernel_size=stride, stride=stride).permute(0, 2, 3, 1)


def _windows(x: Tensor, size: int) -> Tensor:
    """(B, H, W, C) to (windows, size, size, C), row by row; padded with zeros to whole windows."""
    height, width, channels = (int(n) for n in x.shape[1:])  # numbers, not nodes, where this is traced for export
    x = functional.pad(x, (0, 0, 0, -width % size, 0, -height % size))
    rows, columns = -(-height // size), -(-width // size)
    return x.view(-1, rows, size, columns, size, channels).transpose(2, 3).reshape(-1, size, size, channels)


def _unwindowed(x: Tensor, height: int, width: int) -> Tensor:
    """(windows, s, s, C) back to (B, height, width, C), padding dropped."""
    size, channels = int(x.shape[1]), int(x.shape[3])
    rows, columns = -(-height // size), -(-width // size)
    whole = x.view(-1, rows, columns, size, size, channels).transpose(2, 3)
    return whole.reshape(-1, rows * size, columns * size, channels)[:, :height, :width]


def _maps(tokens: Tensor, linear: tuple[Tensor, Tensor]) -> Tensor:
    """(B, H, W, C) through a linear layer to (B, C', H, W)."""
    return functional.linear(tokens, *linear).permute(0, 3, 1, 2)


def _as_linear(convolution: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a 1 x 1 convolution."""
    return convolution.weight[:, :, 0, 0], convolution.bias


def _joined(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """One linear layer that does what `first` and then `second` do."""
    return second[0] @ first[0], second[0] @ first[1] + second[1]
