"""SAM 2's memory attention on one batch of objects, with everything done once that can be.

The weights are transformers' `Sam2VideoMemoryAttention`; the arithmetic is rearranged, not changed:

* Rotary encoding: query and key channels are permuted once, from pairs side by side to two
  halves, so that a rotation is two contiguous products. Dot products do not change.
* Keys: a memory is projected and rotated when it enters the bank. Projection and rotation are
  linear, so that the temporal encoding, which changes with every frame, is added afterwards.
* Values have 64 channels and are projected to `hidden` ones. Where no fused kernel is lost (CPU),
  the value and output projections are folded into one matrix behind the weighted sum.
* In self-attention the two are folded into one before it.
* The first self-attention sees only the image: it runs once per frame, for all objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

Tensor = torch.Tensor

# What a block of rows makes on a CPU stays in the cache that its cores share, and in memory that is there already:
# the allocator asks the system anew for every piece above 32 MB, which costs more than what is computed on it.
_BLOCK_BYTES = 8 << 20
_MIN_BLOCK_ROWS = 64


@dataclass(frozen=True, eq=False)
class _Layer:
    """One layer's modules and its re-laid weights; `d` is the attention's inner width, `c` the hidden size."""

    module: Any  # Sam2VideoMemoryAttentionLayer
    self_qkv: tuple[Tensor, Tensor]  # (2 d + c, c), (2 d + c,): values come with the output projection
    cross_query: tuple[Tensor, Tensor]  # (d, c), (d,)
    cross_key: tuple[Tensor, Tensor]  # (d, 64), (d,)
    cross_value_out: tuple[Tensor, Tensor]  # (c, 64), (c,): value and output projection in one
    temporal_keys: Tensor  # (num_maskmem, hw, d): what each temporal encoding adds to a rotated key


class MemoryAttention:
    """`Sam2VideoMemoryAttention` for N objects at once; weights are read when this is made.

    Args:
        model: a `Sam2VideoModel` with one attention head in its memory attention.
    """

    def __init__(self, model: Any) -> None:
        attention = model.memory_attention
        self._norm = attention.layer_norm
        cos, sin = attention.rotary_emb(model.no_memory_embedding, attention.position_ids)
        self._cos, self._sin = (x[0, :, 0::2].float().contiguous() for x in (cos, sin))  # (hw, d / 2)
        self.width = 2 * self._cos.shape[-1]
        self.scale: float = attention.layers[0].self_attn.scaling
        temporal = model.memory_temporal_positional_encoding[:, 0, 0]  # (num_maskmem, 64)
        self.layers = tuple(self._layer(module, temporal) for module in attention.layers)
        self._fold_values = temporal.device.type == "cpu"

    def _layer(self, module: Any, temporal: Tensor) -> _Layer:
        own, cross = module.self_attn, module.cross_attn_image
        halves = torch.cat([torch.arange(0, self.width, 2), torch.arange(1, self.width, 2)]).to(temporal.device)
        weight, bias = cross.k_proj.weight[halves].contiguous(), cross.k_proj.bias[halves].contiguous()
        own_value, cross_value = _joined(own), _joined(cross)
        tokens = self._cos.shape[0]
        return _Layer(
            module=module,
            self_qkv=(
                torch.cat([own.q_proj.weight[halves], own.k_proj.weight[halves], own_value[0]]),
                torch.cat([own.q_proj.bias[halves], own.k_proj.bias[halves], own_value[1]]),
            ),
            cross_query=(cross.q_proj.weight[halves].contiguous(), cross.q_proj.bias[halves].contiguous()),
            cross_key=(weight, bias),
            cross_value_out=cross_value,
            temporal_keys=self.rotate((temporal @ weight.T)[:, None].expand(-1, tokens, -1)),
        )

    def rotate(self, x: Tensor) -> Tensor:
        """Rotary encoding of (..., hw, d) tokens in the two-halves layout, in float32 as the reference does."""
        a, b = x.float().chunk(2, dim=-1)
        return torch.cat([a * self._cos - b * self._sin, b * self._cos + a * self._sin], dim=-1).to(x.dtype)

    def memory_keys(self, layer: int, positioned: Tensor) -> Tensor:
        """(N, hw, 64) memories with their spatial encoding to (N, hw, d) rotated keys, without temporal term."""
        return self.rotate(functional.linear(positioned, *self.layers[layer].cross_key))

    def pointer_keys(self, layer: int, positioned: Tensor) -> Tensor:
        """(N, T, 64) pointer tokens with their temporal encoding to (N, T, d) keys; pointers are not rotated."""
        return functional.linear(positioned, *self.layers[layer].cross_key)

    def prepare(self, tokens: Tensor) -> Tensor:
        """(1, hw, c) image tokens to the same after the first self-attention, which no object changes."""
        return tokens + self._self_attention(0, tokens)

    def __call__(self, prepared: Tensor, keys: Callable[[int], Tensor], values: Tensor, mask: Tensor | None) -> Tensor:
        """Condition the image on N objects' memories.

        Args:
            prepared: (1, hw, c) from `prepare`.
            keys: layer number to (N, S, d); the tensor may be overwritten by the next call.
            values: (N, S, 64).
            mask: (N, S) true where a key holds something, or None where all do.

        Returns:
            (N, hw, c).
        """
        x = prepared
        for number, layer in enumerate(self.layers):
            if number:
                x = x + self._self_attention(number, x)
            query = self.rotate(functional.linear(layer.module.layer_norm2(x), *layer.cross_query))
            query = query.expand(values.shape[0], -1, -1)
            x = x + self._cross_attention(layer, query, keys(number), values, mask)
            x = x + _perceptron(layer.module, x)
        normed: Tensor = self._norm(x)
        return normed

    def _self_attention(self, number: int, x: Tensor) -> Tensor:
        layer = self.layers[number]
        parts = functional.linear(layer.module.layer_norm1(x), *layer.self_qkv)
        query, key, value = parts.tensor_split((self.width, 2 * self.width), dim=-1)
        return _fused(self.rotate(query), self.rotate(key), value, None, self.scale)

    def _cross_attention(
        self, layer: _Layer, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> Tensor:
        if self._fold_values:
            return functional.linear(_blocked(query, keys, values, mask, self.scale), *layer.cross_value_out)
        cross = layer.module.cross_attn_image
        out: Tensor = cross.o_proj(_fused(query, keys, cross.v_proj(values), mask, self.scale))
        return out


def _joined(attention: Any) -> tuple[Tensor, Tensor]:
    """Value and output projection as one: attention's weights sum to one, so that biases come through."""
    out, value = attention.o_proj, attention.v_proj
    weight, bias = (out.weight.float() @ x.float() for x in (value.weight, value.bias))
    return weight.to(out.weight.dtype), (bias + out.bias.float()).to(out.weight.dtype)


def _perceptron(module: Any, x: Tensor) -> Tensor:
    """Two linear layers on (N, hw, c); on a CPU for as many objects at a time as fit a block."""

    def whole(x: Tensor) -> Tensor:
        out: Tensor = module.linear2(module.activation(module.linear1(module.layer_norm3(x))))
        return out

    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return whole(x)
    together = max(1, _BLOCK_BYTES // (4 * x.shape[1] * module.linear1.out_features))
    return whole(x) if together >= len(x) else torch.cat([whole(part) for part in torch.split(x, together)])


def _fused(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """One-head attention by torch's fused kernel; (N, L, d), (N, S, d), (N, S, d), (N, S)."""
    allowed = None if mask is None else mask[:, None, None, :]
    return functional.scaled_dot_product_attention(
        query[:, None], keys[:, None], values[:, None], attn_mask=allowed, scale=scale
    )[:, 0]


def _blocked(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """The same where values are narrower than keys, block by block of queries, object by object.

    The fused CPU kernel wants values as wide as keys; on rank-64 values this is faster. One object at a time,
    so that a block has rows enough for matrix products at full speed and its scores still fit a core's cache.
    """
    objects, rows, _ = query.shape
    # A compiler takes its time for every call that it sees: it gets the objects together.
    together = objects if torch.compiler.is_compiling() else 1
    block = max(_MIN_BLOCK_ROWS, _BLOCK_BYTES // (4 * keys.shape[1] * together))
    block = -(-rows // -(-rows // block))  # equal blocks
    out = query.new_empty(objects, rows, values.shape[-1])
    for first in range(0, objects, together):
        those = slice(first, first + together)
        flipped = keys[those].transpose(1, 2)
        forbidden = None if mask is None else ~mask[those, None, :]
        for start in range(0, rows, block):
            scores = torch.bmm(query[those, start : start + block] * scale, flipped)
            if forbidden is not None:
                scores.masked_fill_(forbidden, float("-inf"))
            out[those, start : start + block] = torch.bmm(torch.softmax(scores, dim=-1), values[those])
    return out


def sine_encoding(positions: Tensor, width: int) -> Tensor:
    """(...,) positions to (..., width): sines and cosines of geometric frequencies (Attention Is All You Need)."""
    exponent = 2 * (torch.arange(width // 2, device=positions.device) // 2).float() / (width // 2)
    angles = positions[..., None] / 10000.0**exponent
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
