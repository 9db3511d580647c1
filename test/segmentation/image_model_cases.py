"""Random models for single pictures, small enough for tests, and what transformers itself makes of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from small_models import random_model, small_config
from transformers import (
    Sam2Config,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2PromptEncoderConfig,
    SamConfig,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

SIDE = 128  # of the models' square inputs
KINDS = ("sam", "sam2", "sam2_video")


def image_model(kind: str, seed: int = 0) -> Any:
    """A model of order-one activations: transformers' own initialisation would hide a missing term."""
    if kind == "sam2_video":
        return random_model(small_config(SIDE), seed)
    model = SamModel(_sam_config()) if kind == "sam" else Sam2Model(_sam2_config())
    model = model.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim >= 2 and name.endswith("weight") and "embed" not in name.split(".")[-2]:
            fan_in = weight.shape[0] if "upscale_conv" in name else weight[0].numel()
            weight.copy_(noise / math.sqrt(fan_in))
        elif "norm" in name and name.endswith("weight"):
            weight.copy_(1 + 0.1 * noise)
        elif name.endswith("bias"):
            weight.copy_(0.05 * noise)
        else:
            weight.copy_(0.5 * noise)
    shared = model.shared_image_embedding.positional_embedding
    shared.copy_(torch.randn(shared.shape, generator=generator))
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(shared)
    if kind == "sam":  # SAM 2's are probabilities; these are brought between 0 and 1, where trained ones are
        head = model.mask_decoder.iou_prediction_head.proj_out
        head.weight.mul_(0.1)
        head.bias.add_(0.5)
    return model


def image_part(video_model: Any) -> Any:
    """A `Sam2Model` with the weights of a `Sam2VideoModel`, whose own forward is that of videos."""
    config = video_model.config
    prompt, decoder = config.prompt_encoder_config, config.mask_decoder_config
    same = ("hidden_size", "mlp_dim", "num_attention_heads", "attention_downsample_rate", "iou_head_hidden_dim")
    single = Sam2Config(
        vision_config=config.vision_config,
        prompt_encoder_config=Sam2PromptEncoderConfig(image_size=prompt.image_size, hidden_size=prompt.hidden_size),
        mask_decoder_config=Sam2MaskDecoderConfig(**{name: getattr(decoder, name) for name in same}),
        attn_implementation="sdpa",
    )
    model = Sam2Model(single).eval().requires_grad_(False)
    missing, _ = model.load_state_dict(video_model.state_dict(), strict=False)
    assert not missing
    return model


def _sam_config() -> SamConfig:
    vision = SamVisionConfig(
        hidden_size=32, output_channels=64, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=16,
        mlp_dim=64, window_size=4, global_attn_indexes=[1], num_pos_feats=32,
    )  # fmt: skip
    prompt = SamPromptEncoderConfig(hidden_size=64, image_size=SIDE, patch_size=16, mask_input_channels=8)
    decoder = SamMaskDecoderConfig(hidden_size=64, mlp_dim=64, num_attention_heads=4, iou_head_hidden_dim=64)
    return SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)


def _sam2_config() -> Sam2Config:
    video = small_config(SIDE)
    prompt = Sam2PromptEncoderConfig(image_size=SIDE, hidden_size=128)
    decoder = Sam2MaskDecoderConfig(hidden_size=128, mlp_dim=128, num_attention_heads=4, iou_head_hidden_dim=128)
    return Sam2Config(
        vision_config=video.vision_config, prompt_encoder_config=prompt, mask_decoder_config=decoder,
        attn_implementation="sdpa",
    )  # fmt: skip


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Patches of colour with a disc and a bar in front."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(30, 220, (-(-height // 16), -(-width // 16), 3))
    rgb = np.kron(patches, np.ones((16, 16, 1)))[:height, :width].astype(np.uint8)
    y, x = np.mgrid[:height, :width]
    rgb[(x - 0.3 * width) ** 2 + (y - 0.5 * height) ** 2 < (0.15 * height) ** 2] = (230, 50, 40)
    rgb[int(0.2 * height) : int(0.8 * height), int(0.65 * width) : int(0.75 * width)] = (30, 60, 220)
    return rgb
