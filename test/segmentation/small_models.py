"""Models for tests: small configurations and random weights that make every branch count."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    Sam2HieraDetConfig,
    Sam2VideoConfig,
    Sam2VideoMaskDecoderConfig,
    Sam2VideoModel,
    Sam2VideoPromptEncoderConfig,
    Sam2VisionConfig,
)


def _feature_sizes(size: int) -> list[list[int]]:
    return [[size // 4] * 2, [size // 8] * 2, [size // 16] * 2]


def tiny_config(size: int = 1024) -> Sam2VideoConfig:
    """sam2.1-hiera-tiny as published (transformers' defaults), for another input size."""
    backbone = Sam2HieraDetConfig(image_size=[size, size])
    vision = Sam2VisionConfig(backbone_config=backbone, backbone_feature_sizes=_feature_sizes(size))
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(image_size=size),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(dynamic_multimask_via_stability=True),
        image_size=size,
        memory_attention_rope_feat_sizes=[size // 16, size // 16],
        attn_implementation="sdpa",
    )


def small_config(size: int = 128, hidden: int = 128) -> Sam2VideoConfig:
    """The smallest model that transformers' own session can run: a fraction of a second per clip."""
    widths = [16, 32, 64, 128]
    backbone = Sam2HieraDetConfig(
        image_size=[size, size],
        hidden_size=widths[0],
        embed_dim_per_stage=widths,
        num_attention_heads=1,
        num_attention_heads_per_stage=[1, 2, 4, 8],
        blocks_per_stage=[1, 2, 2, 1],
        window_size_per_stage=[8, 4, 8, 4],
        global_attention_blocks=[4],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=widths[::-1],
        fpn_hidden_size=hidden,
        backbone_feature_sizes=_feature_sizes(size),
    )
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(image_size=size, hidden_size=hidden),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            hidden_size=hidden, mlp_dim=128, num_attention_heads=4, iou_head_hidden_dim=hidden
        ),
        image_size=size,
        memory_attention_rope_feat_sizes=[size // 16, size // 16],
        memory_attention_hidden_size=hidden,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=128,
        memory_encoder_hidden_size=hidden,
        mask_downsampler_embed_dim=hidden,
        memory_fuser_embed_dim=hidden,
        memory_fuser_intermediate_dim=128,
        memory_fuser_num_layers=1,
        attn_implementation="sdpa",
    )


_TABLES = ("tokens.weight", "token.weight", "point_embed", "no_mask_embed", "not_a_point_embed")


def random_model(config: Sam2VideoConfig, seed: int = 0, presence_bias: float = 0.0) -> Any:
    """A model whose activations are of order one everywhere.

    transformers' own initialisation leaves position embeddings zero and layer scales at 1e-6, which
    would hide a wrong order or a missing term.

    Args:
        config: of the model.
        seed: of the weights.
        presence_bias: added to the object score, so that it changes its sign over a clip.
    """
    model = Sam2VideoModel(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: torch.Tensor) -> torch.Tensor:
        return torch.randn(tensor.shape, generator=generator)

    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and name.endswith("weight") and not any(t in name for t in _TABLES):
            fan_in = weight.shape[0] if "upscale_conv" in name else weight[0].numel()
            weight.copy_(noise(weight) / math.sqrt(fan_in))
        elif "norm" in name and name.endswith("weight"):
            weight.copy_(1 + 0.1 * noise(weight))
        elif name.endswith("bias"):
            weight.copy_(0.05 * noise(weight))
        else:
            weight.copy_(0.5 * noise(weight))
    shared = model.shared_image_embedding.positional_embedding
    shared.copy_(noise(shared))
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(shared)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.add_(presence_bias)
    return model


def clip(frames: int, size: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Pictures of `size` x `size` with two discs that move over a textured ground."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(40, 200, (size // 8, size // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    y, x = np.mgrid[:size, :size]
    pictures = []
    for t in range(frames):
        picture = ground.copy()
        for k, colour in enumerate(((230, 60, 40), (30, 200, 90))):
            cx = size * (0.3 + 0.3 * k + 0.15 * math.sin(0.3 * t + k))
            cy = size * (0.4 + 0.2 * k + 0.1 * math.cos(0.23 * t))
            picture[(x - cx) ** 2 + (y - cy) ** 2 < (0.12 * size) ** 2] = colour
        noisy = picture.astype(np.int16) + rng.integers(-12, 13, picture.shape)
        pictures.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return pictures
