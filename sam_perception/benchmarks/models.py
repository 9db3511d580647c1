"""Models to measure: the packaged one, and published architectures with random weights, which cost the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from sam_perception.errors import ConfigError
from sam_perception.segmentation import load_model
from sam_perception.segmentation.export.manifest import is_exported
from sam_perception.segmentation.models import find_checkpoint, in_format, resolve_device, resolve_dtype

_EMBEDDINGS = ("tokens.weight", "token.weight", "point_embed", "no_mask_embed", "not_a_point_embed")
_PRESENT = 6.0  # added to the object score: all objects are there, as in the case that costs most


def tiny_config(size: int) -> Any:
    """sam2.1-hiera-tiny as published, which is transformers' default, for square pictures of `size` pixels."""
    from transformers import (
        Sam2HieraDetConfig,
        Sam2VideoConfig,
        Sam2VideoMaskDecoderConfig,
        Sam2VideoPromptEncoderConfig,
        Sam2VisionConfig,
    )

    grids = [[size // stride] * 2 for stride in (4, 8, 16)]
    vision = Sam2VisionConfig(backbone_config=Sam2HieraDetConfig(image_size=[size, size]), backbone_feature_sizes=grids)
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(image_size=size),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(dynamic_multimask_via_stability=True),
        image_size=size,
        memory_attention_rope_feat_sizes=grids[-1],
        attn_implementation="sdpa",
    )


def small_config(size: int) -> Any:
    """About the smallest that transformers' own session can run, for long streams."""
    from transformers import (
        Sam2HieraDetConfig,
        Sam2VideoConfig,
        Sam2VideoMaskDecoderConfig,
        Sam2VideoPromptEncoderConfig,
        Sam2VisionConfig,
    )

    widths, hidden = [16, 32, 64, 128], 128
    grids = [[size // stride] * 2 for stride in (4, 8, 16)]
    backbone = Sam2HieraDetConfig(
        image_size=[size, size],
        hidden_size=widths[0],
        embed_dim_per_stage=widths,
        num_attention_heads=1,
        num_attention_heads_per_stage=[1, 2, 4, 8],
        blocks_per_stage=[1, 1, 2, 1],
        window_size_per_stage=[8, 4, 8, 4],
        global_attention_blocks=[],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=widths[::-1],
        fpn_hidden_size=hidden,
        backbone_feature_sizes=grids,
    )
    decoder = Sam2VideoMaskDecoderConfig(
        hidden_size=hidden, mlp_dim=128, num_attention_heads=4, iou_head_hidden_dim=hidden
    )
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(image_size=size, hidden_size=hidden),
        mask_decoder_config=decoder,
        image_size=size,
        memory_attention_rope_feat_sizes=grids[-1],
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


_ARCHITECTURES = {"tiny": tiny_config, "small": small_config}


def benchmark_model(spec: str, device: str, dtype: str) -> Any:
    """The `Sam2VideoModel` that `spec` names: `tiny@1024`, `small@64` (random weights), or what `load_model` takes.

    Raises:
        ConfigError: an architecture that is not known, or a size that is no multiple of 32.
        ModelNotFound, CheckpointError: as `load_model`.
    """
    require_model(spec)
    name, at, size = spec.partition("@")
    if not at:
        return load_model(spec, device=device, dtype=dtype)
    return random_model(_ARCHITECTURES[name](int(size)), device, dtype)


def require_model(spec: str) -> None:
    """Refuse what `benchmark_model` cannot make, without making it.

    Raises:
        ConfigError: an architecture that is not known, a size that is no multiple of 32, an exported model.
        ModelNotFound, CheckpointError: as `load_model`.
    """
    name, at, size = spec.partition("@")
    if not at:
        if is_exported(Path(spec).expanduser()):
            raise ConfigError(f"model {spec} is exported and has nothing to race against: run bench/bench_formats.py")
        find_checkpoint(spec)
        return
    if name not in _ARCHITECTURES or not size.isdigit() or int(size) == 0 or int(size) % 32:
        raise ConfigError(
            f"model is {spec!r}: write {' or '.join(_ARCHITECTURES)}@SIZE with a size that is a multiple of 32, "
            "or a model's name or folder"
        )


@torch.no_grad()
def random_model(config: Any, device: str, dtype: str) -> Any:
    """A model of `config` with seeded weights that keep activations of order one, so that no shortcut is taken."""
    from transformers import Sam2VideoModel

    model = Sam2VideoModel(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim >= 2 and name.endswith("weight") and not any(part in name for part in _EMBEDDINGS):
            fan_in = weight.shape[0] if "upscale_conv" in name else weight[0].numel()
            weight.copy_(noise / math.sqrt(fan_in))
        elif "norm" in name and name.endswith("weight"):
            weight.copy_(1 + 0.1 * noise)
        else:
            weight.copy_((0.05 if name.endswith("bias") else 0.5) * noise)
    # The code of positions is no parameter, and transformers draws it twice; SAM has one for prompts and picture.
    code = model.shared_image_embedding.positional_embedding
    code.copy_(torch.randn(code.shape, generator=generator))
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(code)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.add_(_PRESENT)
    where = resolve_device(device)
    return in_format(model.to(where), resolve_dtype(dtype, where))
