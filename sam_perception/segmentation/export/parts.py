"""SAM 2's five parts as modules of plain tensors, in the form in which they are exported.

The arithmetic is `network.Network`'s; what there depends on Python values (are there clicks, which
memories does each object have) comes in here as masks, so that one graph serves every frame:

* `image_encoder`: a picture to its features.
* `memory_attention`: the picture as N objects' memories see it; what an object lacks is masked out.
* `prompt_encoder`: clicks, boxes and masks to embeddings.
* `mask_decoder`: all four masks of each object, with scores and object pointers; which one counts is
  decided outside.
* `memory_encoder`: masks to memories.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sam_perception.segmentation.attention import MemoryAttention, sine_encoding
from sam_perception.segmentation.encoder import ImageEncoder, ImageFeatures

Tensor = torch.Tensor

# Instead of minus infinity, so that a row without any key gives no NaN; fits float16, and its exponential is zero.
_FORBIDDEN = -30000.0
# Scores of one block of queries and one object take no more than this: large feature maps are cut up.
_BLOCK_BYTES = 64 << 20


class ImageEncoderPart(nn.Module):
    """(B, 3, S, S) normalised pixels to features."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._encode = ImageEncoder(model)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """To fine0 (B, c/8, 4h, 4w), fine1 (B, c/4, 2h, 2w), top (B, c, h, w), tokens (B, hw, c)."""
        features: ImageFeatures = self._encode(pixels)
        return features.fine[0], features.fine[1], features.top, features.tokens


class MemoryAttentionPart(nn.Module):
    """The picture conditioned on N objects' memories.

    Args:
        model: a `Sam2VideoModel`.
        window: places for memories that attention reads at most; decides how queries are cut into blocks.
    """

    def __init__(self, model: Any, window: int) -> None:
        super().__init__()
        self._attention = attention = MemoryAttention(model)
        self._temporal = model.memory_temporal_positional_encoding[:, 0, 0]  # (num_maskmem, 64)
        h, w = model.backbone_feature_sizes[-1]
        position = model.memory_encoder.position_encoding(
            torch.Size((1, model.mem_dim, h, w)), self._temporal.device, torch.float32
        )
        self._position = position.flatten(2).transpose(1, 2)[:, None]  # (1, 1, hw, 64)
        self._map = (model.hidden_dim, h, w)
        self._parts, self._memory_channels = model.hidden_dim // model.mem_dim, model.mem_dim
        self._longest = model.config.max_object_pointers_in_encoder - 1
        self._project_age = (
            model.temporal_positional_encoding_projection_layer
            if model.config.enable_temporal_pos_encoding_for_object_pointers
            else None
        )
        self._block = max(1, _BLOCK_BYTES // (4 * window * h * w))
        self._folded = [layer.cross_value_out for layer in attention.layers]

    def forward(
        self, tokens: Tensor, memories: Tensor, rows: Tensor, memory_valid: Tensor,
        pointers: Tensor, ages: Tensor, pointer_valid: Tensor,
    ) -> Tensor:  # fmt: skip
        """Attend.

        Args:
            tokens: (1, hw, c) of the picture.
            memories: (N, M, hw, 64).
            rows: (N, M) int64 row of the temporal encoding of each memory.
            memory_valid: (N, M) bool; false is padding.
            pointers: (N, P, c).
            ages: (N, P) float32, frames.
            pointer_valid: (N, P) bool; false is padding.

        Returns:
            (N, c, h, w).
        """
        attention, count, hw = self._attention, memories.shape[0], tokens.shape[1]
        pointer_tokens = self._pointer_tokens(pointers, ages)
        values = torch.cat([memories.flatten(1, 2), pointer_tokens[0]], dim=1)
        positioned = memories + self._position + self._temporal[rows][:, :, None]
        bias = self._bias(memory_valid, pointer_valid, hw)
        x = attention.prepare(tokens)
        for number, layer in enumerate(attention.layers):
            if number:
                x = x + attention._self_attention(number, x)
            query = functional.linear(layer.module.layer_norm2(x), *layer.cross_query)
            query = attention.rotate(query) * attention.scale
            mapped = attention.rotate(functional.linear(positioned, *layer.cross_key)).flatten(1, 2)
            keys = torch.cat([mapped, functional.linear(pointer_tokens[1], *layer.cross_key)], dim=1)
            x = x + functional.linear(self._attend(query.expand(count, -1, -1), keys, values, bias),
                                      *self._folded[number])  # fmt: skip
            inner = layer.module.activation(layer.module.linear1(layer.module.layer_norm3(x)))
            x = x + layer.module.linear2(inner)
        out: Tensor = attention._norm(x).transpose(1, 2).reshape(-1, *self._map)
        return out

    def _pointer_tokens(self, pointers: Tensor, ages: Tensor) -> tuple[Tensor, Tensor]:
        """(N, P, c) pointers to (N, P * parts, 64) values, and keys' inputs with the encoding of their age."""
        values = pointers.view(*pointers.shape[:2], self._parts, self._memory_channels)
        keys = values
        if self._project_age is not None:
            keys = keys + self._project_age(sine_encoding(ages / self._longest, self._map[0]))[:, :, None]
        return values.flatten(1, 2), keys.flatten(1, 2)

    def _bias(self, memory_valid: Tensor, pointer_valid: Tensor, hw: int) -> Tensor:
        """(N, 1, S): zero, or what forbids a key."""
        memories = memory_valid[:, :, None].expand(-1, -1, hw).flatten(1)
        pointers = pointer_valid[:, :, None].expand(-1, -1, self._parts).flatten(1)
        allowed = torch.cat([memories, pointers], dim=1).to(torch.float32)
        return ((1.0 - allowed) * _FORBIDDEN)[:, None]

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        flipped, out = keys.transpose(1, 2), []
        for start in range(0, self._map[1] * self._map[2], self._block):
            scores = query[:, start : start + self._block] @ flipped + bias
            out.append(torch.softmax(scores, dim=-1) @ values)
        return out[0] if len(out) == 1 else torch.cat(out, dim=1)


class PromptEncoderPart(nn.Module):
    """Clicks and a mask on each of N objects to embeddings; a box is two clicks with labels 2 and 3."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._encoder = model.prompt_encoder
        self._map = tuple(model.backbone_feature_sizes[-1])

    def forward(self, points: Tensor, labels: Tensor, masks: Tensor, has_mask: Tensor) -> tuple[Tensor, Tensor]:
        """To sparse (N, P + 1, c) and dense (N, c, h, w).

        Args:
            points: (N, P, 2) float32, the model's pixels.
            labels: (N, P) int32; 1 object, 0 not object, 2 and 3 a box's corners, -1 no click.
            masks: (N, 1, 4h, 4w) logits.
            has_mask: (N,) bool; false: `masks` is not looked at.
        """
        encoder = self._encoder
        sparse = encoder._embed_points(points[:, None], labels[:, None], pad=True)[:, 0]
        without = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(1, -1, *self._map)
        return sparse, torch.where(has_mask[:, None, None, None], encoder.mask_embed(masks), without)


class MaskDecoderPart(nn.Module):
    """All masks of N objects, and the object pointer that belongs to each."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._decoder, self._pointer = model.mask_decoder, model.object_pointer_proj
        self._position = model.get_image_wide_positional_embeddings()

    def forward(
        self, features: Tensor, sparse: Tensor, dense: Tensor, fine0: Tensor, fine1: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """To masks (N, 4, 4h, 4w) logits, ious (N, 4), pointers (N, 4, c), score (N, 1) logit of being there.

        The first mask is the single one, the others are the part, the object, the whole of an ambiguous click.
        """
        decoder = self._decoder
        tokens = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([tokens[None].expand(sparse.shape[0], -1, -1), sparse], dim=1)[:, None]
        after, image = decoder.transformer(
            point_embeddings=tokens,
            image_embeddings=features + dense,
            image_positional_embeddings=self._position,
            attention_similarity=None,
        )
        after, image = after[:, 0], image[:, 0].transpose(1, 2).reshape(features.shape)
        count = decoder.num_mask_tokens
        of_masks = after[:, 2 : 2 + count]
        upscaled = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(image) + fine1))
        upscaled = decoder.activation(decoder.upscale_conv2(upscaled) + fine0)
        weights = torch.stack([decoder.output_hypernetworks_mlps[i](of_masks[:, i]) for i in range(count)], dim=1)
        masks = (weights @ upscaled.flatten(2)).view(-1, count, *upscaled.shape[-2:])
        ious = decoder.iou_prediction_head(after[:, 1])
        return masks, ious, self._pointer(of_masks), decoder.pred_obj_score_head(after[:, 0])


class MemoryEncoderPart(nn.Module):
    """Masks of N objects to memories, not yet rounded to bfloat16."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._encoder, self._size = model.memory_encoder, int(model.image_size)
        self._scale = float(model.config.sigmoid_scale_for_mem_enc)
        self._bias = float(model.config.sigmoid_bias_for_mem_enc)
        self._occlusion = model.occlusion_spatial_embedding_parameter

    def forward(self, top: Tensor, logits: Tensor, prompted: Tensor, absent: Tensor) -> Tensor:
        """To (N, hw, 64).

        Args:
            top: (1, c, h, w) of the image encoder.
            logits: (N, 4h, 4w).
            prompted: (N,) bool; masks that somebody pointed at enter as zeros and ones.
            absent: (N,) bool; the object is not in the picture.
        """
        encoder = self._encoder
        full = functional.interpolate(
            logits[:, None], size=(self._size, self._size), mode="bilinear", align_corners=False
        )
        soft = torch.where(prompted[:, None, None, None], (full > 0).to(full.dtype), torch.sigmoid(full))
        fused = encoder.feature_projection(top) + encoder.mask_downsampler(soft * self._scale + self._bias)
        memory = encoder.projection(encoder.memory_fuser(fused))
        if self._occlusion is not None:
            memory = memory + absent[:, None, None, None].to(memory.dtype) * self._occlusion[:, :, None, None]
        out: Tensor = memory.flatten(2).transpose(1, 2)
        return out
