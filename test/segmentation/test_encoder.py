"""The rearranged parts against the modules whose weights they use."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_models import random_model, small_config, tiny_config

from sam_perception.segmentation.attention import MemoryAttention, _blocked, _fused, _perceptron, sine_encoding
from sam_perception.segmentation.encoder import ImageEncoder


@pytest.mark.parametrize(
    "config",
    [small_config(128), small_config(256), tiny_config(128), tiny_config(224)],
    ids=["small 128", "small 256", "tiny 128, padded windows", "tiny 224"],
)
def test_image_features_equal_the_model_s(config: Any) -> None:
    model = random_model(config, seed=2)
    size = config.image_size
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = ImageEncoder(model)(pixels)
        theirs = model.get_image_features(pixels)
    for mine, want in zip((*ours.fine, ours.top), theirs.fpn_hidden_states, strict=True):
        torch.testing.assert_close(mine.flatten(2).permute(2, 0, 1), want, atol=2e-4, rtol=1e-4)
    want = theirs.fpn_hidden_states[-1] + 0.1 * theirs.fpn_position_encoding[-1]
    torch.testing.assert_close(ours.tokens.transpose(0, 1), want, atol=2e-4, rtol=1e-4)


def test_memory_attention_equals_the_model_s() -> None:
    """Three memories and two pointers of one object, keys projected, rotated and shifted in time beforehand."""
    model = random_model(small_config(128), seed=5)
    generator = torch.Generator().manual_seed(1)

    def noise(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    tokens, memories, position, pointers, pointer_position = (
        noise(1, 64, 128), noise(3, 64, 64), noise(64, 64), noise(1, 4, 64), noise(1, 4, 64)
    )  # fmt: skip
    rows = [0, 1, 6]
    temporal = model.memory_temporal_positional_encoding[rows, 0]  # (3, 1, 64)
    with torch.inference_mode():
        want = model.memory_attention(
            current_vision_features=tokens.transpose(0, 1),
            memory=torch.cat([memories.flatten(0, 1), pointers[0]])[:, None],
            memory_posision_embeddings=torch.cat([(position + temporal).flatten(0, 1), pointer_position[0]])[:, None],
            num_object_pointer_tokens=4,
        )
        attention = MemoryAttention(model)

        def keys(layer: int) -> torch.Tensor:
            stored = attention.memory_keys(layer, memories + position) + attention.layers[layer].temporal_keys[rows]
            of_pointers = attention.pointer_keys(layer, pointers + pointer_position)
            return torch.cat([stored.flatten(0, 1)[None], of_pointers], dim=1)

        values = torch.cat([memories.flatten(0, 1)[None], pointers], dim=1)
        have = attention(attention.prepare(tokens), keys, values, None)
    torch.testing.assert_close(have, want.reshape(have.shape), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_blocks_of_queries_equal_the_fused_kernel(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam_perception.segmentation.attention._BLOCK_BYTES", 1)
    generator = torch.Generator().manual_seed(0)
    query, keys = torch.randn(3, 150, 32, generator=generator), torch.randn(3, 90, 32, generator=generator)
    values = torch.randn(3, 90, 8, generator=generator)
    mask = torch.rand(3, 90, generator=generator) < 0.5 if masked else None
    torch.testing.assert_close(
        _blocked(query, keys, values, mask, 0.2), _fused(query, keys, values, mask, 0.2), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("block_bytes", [1, 2 * 4 * 6 * 16, 1 << 30])  # one object at a time, two, all
def test_a_perceptron_does_the_same_for_some_objects_at_a_time(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam_perception.segmentation.attention._BLOCK_BYTES", block_bytes)
    torch.manual_seed(0)
    module = SimpleNamespace(
        layer_norm3=torch.nn.LayerNorm(8), linear1=torch.nn.Linear(8, 16), linear2=torch.nn.Linear(16, 8),
        activation=torch.nn.ReLU(),
    )  # fmt: skip
    x = torch.randn(5, 6, 8)
    want = torch.stack([module.linear2(module.linear1(module.layer_norm3(one)).clamp(min=0)) for one in x])
    torch.testing.assert_close(_perceptron(module, x), want)


def test_sine_encoding_equals_transformers() -> None:
    from transformers.models.sam2_video.modeling_sam2_video import get_1d_sine_pe

    ages = torch.arange(16) / 15
    torch.testing.assert_close(sine_encoding(ages, 128), get_1d_sine_pe(ages, dim=128))
