"""Differentiable steps of SAM 2 on transformers' submodules, for a flat batch of objects.

The semantics are those of inference (`sam_perception.segmentation`): the same memory selection,
temporal codes and hard decisions on the object score; what differs is that gradients flow and that
the mask decoder gives all four masks, so that each of them is taught.

Shapes: B pictures of S x S pixels; N objects, each with its own copy of its picture's features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

NO_OBJECT_LOGIT = -1024.0  # mask logits of an object that is not in the picture (SAM 2)
FULL_MASK_LOGIT = 10.0  # logits of a given mask: +10 on it, -10 beside it (SAM 2)


@dataclass(frozen=True)
class Features:
    """Image features; the first index is the picture, or the object after `of`."""

    fine: Tensor  # (B, C/8, S/4, S/4)
    middle: Tensor  # (B, C/4, S/8, S/8)
    coarse: Tensor  # (B, C, S/16, S/16)
    position: Tensor  # (1, C, S/16, S/16) sine position code of `coarse`

    def of(self, pictures: Tensor) -> Features:
        """Features for objects: `pictures` (N,) is the picture each object is in."""
        return Features(self.fine[pictures], self.middle[pictures], self.coarse[pictures], self.position)


@dataclass(frozen=True)
class Decoded:
    """What the mask decoder says of N objects: mask 0 is the single mask, 1 to 3 the alternatives."""

    masks: Tensor  # (N, 4, S/4, S/4) logits
    iou: Tensor  # (N, 4) its own estimate of each mask's IoU
    tokens: Tensor  # (N, 4, C)
    presence: Tensor  # (N,) object score logit


@dataclass(frozen=True)
class Memory:
    """One frame in the memory of N objects."""

    features: Tensor  # (N, 64, S/16, S/16)
    pointer: Tensor  # (N, C)


def encode_images(model: Any, pixels: Tensor) -> Features:
    """Features of normalised pictures (B, 3, S, S)."""
    out = model.vision_encoder(pixels, return_dict=True)
    fine, middle, coarse = out.fpn_hidden_states
    decoder = model.mask_decoder
    return Features(decoder.conv_s0(fine), decoder.conv_s1(middle), coarse, out.fpn_position_encoding[-1][:1])


def decode(model: Any, features: Features, points: Tensor, labels: Tensor, dense: Tensor | None) -> Decoded:
    """All four masks for prompts of N objects.

    Args:
        model: a Sam2VideoModel.
        features: of each object's picture; `coarse` with memory or the no-memory embedding added.
        points: (N, P, 2) pixels of the S x S picture.
        labels: (N, P); 1 object, 0 background, 2 and 3 corners of a box, -1 none.
        dense: (N, 1, S/4, S/4) mask logits, or None.
    """
    decoder = model.mask_decoder
    sparse, plane = model.prompt_encoder(points[:, None], labels[:, None], None, dense)
    n, c, h, w = features.coarse.shape
    own = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight])
    queries = torch.cat([own.expand(n, 1, -1, -1), sparse.to(own.dtype)], dim=2)
    code = model.get_image_wide_positional_embeddings().expand(n, -1, -1, -1)
    queries, image = decoder.transformer(
        point_embeddings=queries,
        image_embeddings=features.coarse + plane,
        image_positional_embeddings=code,
        attention_similarity=None,
        target_embedding=None,
    )
    tokens = queries[:, 0, 2 : 2 + decoder.num_mask_tokens]
    image = image.transpose(2, 3).reshape(n, c, h, w)
    image = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(image) + features.middle))
    image = decoder.activation(decoder.upscale_conv2(image) + features.fine)
    kernels = torch.stack([mlp(tokens[:, i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1)
    masks = (kernels @ image.flatten(2)).view(n, -1, *image.shape[-2:])
    iou = decoder.iou_prediction_head(queries[:, 0, 1])
    presence = decoder.pred_obj_score_head(queries[:, 0, 0])[:, 0]
    return Decoded(masks.float(), iou.float(), tokens, presence.float())


def without_memory(model: Any, features: Features) -> Features:
    """Features of a prompted frame: SAM 2 adds a learnt embedding in place of memory."""
    plain = features.coarse + model.no_memory_embedding.view(1, -1, 1, 1)
    return Features(features.fine, features.middle, plain, features.position)


def chosen(decoded: Decoded, *, multimask: bool) -> Tensor:
    """(N,) index of the mask that inference would take: the single one, or the best of three by its estimate."""
    if not multimask:
        return torch.zeros(len(decoded.iou), dtype=torch.long, device=decoded.iou.device)
    return decoded.iou[:, 1:].argmax(dim=1) + 1


def take(values: Tensor, index: Tensor) -> Tensor:
    """`values[n, index[n]]` of each object n."""
    return values[torch.arange(len(index), device=index.device), index]


def remember(
    model: Any, coarse: Tensor, logits: Tensor, token: Tensor, present: Tensor, *, binarise: Tensor | None = None
) -> Memory:
    """Encode one frame of N objects into memory.

    Args:
        model: a Sam2VideoModel.
        coarse: (N, C, S/16, S/16) image features without memory.
        logits: (N, h, w) mask logits, of any resolution.
        token: (N, C) the chosen mask's output token.
        present: (N,) bool, the hard decision that the object is in the picture.
        binarise: (N,) bool: where true, the mask enters as 0 or 1 (prompted frames at inference).
    """
    n, config = len(logits), model.config
    logits = torch.where(present.view(n, 1, 1), logits, NO_OBJECT_LOGIT)[:, None]
    size = (config.image_size, config.image_size)
    if logits.shape[-2:] != size:
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    share = torch.sigmoid(logits)
    if binarise is not None:
        share = torch.where(binarise.view(n, 1, 1, 1), (logits > 0).to(share.dtype), share)
    share = share * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
    features, _ = model.memory_encoder(coarse, share)
    absent = (~present).to(features.dtype).view(n, 1)
    if model.occlusion_spatial_embedding_parameter is not None:
        features = features + (absent * model.occlusion_spatial_embedding_parameter)[..., None, None]
    pointer = model.object_pointer_proj(token)
    return Memory(features, (1 - absent) * pointer + absent * model.no_object_pointer)


def _tokens(plane: Tensor) -> Tensor:
    return plane.flatten(2).permute(2, 0, 1)  # (N, C, h, w) -> (h w, N, C), as transformers wants it


def attend(
    model: Any,
    features: Features,
    frames: Sequence[Tensor],
    ages: Sequence[int],
    pointers: Sequence[Tensor],
    pointer_ages: Sequence[int],
) -> Features:
    """Features of the present frame conditioned on memory.

    Args:
        model: a Sam2VideoModel.
        features: of the present frame, N objects.
        frames: (N, 64, S/16, S/16) of each remembered frame.
        ages: row of the temporal code of each: age in frames less one, 6 for prompted frames.
        pointers: (N, C) object pointers.
        pointer_ages: how many frames ago each pointer was made.
    """
    from transformers.models.sam2_video.modeling_sam2_video import get_1d_sine_pe

    n, c, h, w = features.coarse.shape
    device = features.coarse.device
    plane = _tokens(model.memory_encoder.position_encoding(torch.Size((1, 64, h, w)), device, torch.float32))
    codes = [(plane + model.memory_temporal_positional_encoding[age]).expand(-1, n, -1) for age in ages]
    split = c // 64  # a pointer of C channels becomes C/64 memory tokens
    when = torch.tensor(pointer_ages, dtype=torch.float32, device=device)
    when = get_1d_sine_pe(when / (model.config.max_object_pointers_in_encoder - 1), dim=c)
    when = model.temporal_positional_encoding_projection_layer(when)[:, None].expand(-1, n, -1)
    stacked = torch.stack(list(pointers)).view(-1, n, split, 64).transpose(1, 2).flatten(0, 1)
    out = model.memory_attention(
        current_vision_features=_tokens(features.coarse),
        current_vision_position_embeddings=_tokens(features.position),
        memory=torch.cat([*(_tokens(f) for f in frames), stacked]),
        memory_posision_embeddings=torch.cat([*codes, when.repeat_interleave(split, 0)]),
        num_object_pointer_tokens=len(stacked),
    )
    conditioned = out[0].transpose(1, 2).reshape(n, c, h, w)
    return Features(features.fine, features.middle, conditioned, features.position)
