"""Which models this room can arrange."""

from __future__ import annotations

from typing import Any

from sam_perception.errors import ModelError


def require_supported(model: Any) -> None:
    """Raise ModelError unless the model's parts are those that this room arranges."""
    from transformers import Sam2VideoModel

    if not isinstance(model, Sam2VideoModel):
        raise ModelError(
            f"model is a {type(model).__name__}: pass a transformers Sam2VideoModel, as load_model returns it"
        )
    config, vision = model.config, model.config.vision_config
    wanted = {
        "memory_attention_num_attention_heads": (config.memory_attention_num_attention_heads, 1),
        "memory_encoder_output_channels": (config.memory_encoder_output_channels, 64),
        "vision_config.num_feature_levels": (vision.num_feature_levels, 3),
        "vision_config.fpn_top_down_levels": (tuple(vision.fpn_top_down_levels), (2, 3)),
        "vision_config.fpn_kernel_size": (vision.fpn_kernel_size, 1),
        "levels of the image backbone": (len(vision.backbone_channel_list), 4),
    }
    wrong = [f"{name} is {seen}, wanted {want}" for name, (seen, want) in wanted.items() if seen != want]
    if config.memory_attention_hidden_size % 64 or config.memory_attention_hidden_size <= 64:
        wrong.append(f"hidden size is {config.memory_attention_hidden_size}, wanted a multiple of 64 above 64")
    if wrong:
        raise ModelError(f"this Sam2VideoModel cannot be streamed: {'; '.join(wrong)}; use a SAM 2.1 configuration")
