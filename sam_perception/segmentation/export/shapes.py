"""Names and shapes of what goes into each exported part and comes out, and data of these shapes to try it with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sam_perception.segmentation.export.manifest import Dimension, Shape

Tensor = torch.Tensor
Sizes = Mapping[str, int]


@dataclass(frozen=True)
class PartShapes:
    """Inputs and outputs of one part, in order."""

    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]


def part_shapes(model: Any) -> dict[str, PartShapes]:
    """Shapes of all parts; letters as `export_manifest` explains them."""
    c, (h, w), size = model.hidden_dim, model.backbone_feature_sizes[-1], int(model.image_size)
    memory, masks = model.mem_dim, model.mask_decoder.num_mask_tokens
    top, low = ("N", c, h, w), (4 * h, 4 * w)
    fine0, fine1 = (c // 8, 4 * h, 4 * w), (c // 4, 2 * h, 2 * w)
    tokens = h * w
    return {
        "image_encoder": PartShapes(
            {"pixels": ("B", 3, size, size)},
            {
                "fine0": ("B", *fine0),
                "fine1": ("B", *fine1),
                "top": ("B", c, h, w),
                "tokens": ("B", tokens, c),
            },
        ),
        "memory_attention": PartShapes(
            {
                "tokens": (1, tokens, c),
                "memories": ("N", "M", tokens, memory),
                "rows": ("N", "M"),
                "memory_valid": ("N", "M"),
                "pointers": ("N", "P", c),
                "ages": ("N", "P"),
                "pointer_valid": ("N", "P"),
            },
            {"features": top},
        ),
        "prompt_encoder": PartShapes(
            {"points": ("N", "C", 2), "labels": ("N", "C"), "masks": ("N", 1, *low), "has_mask": ("N",)},
            {"sparse": ("N", "C+1", c), "dense": top},
        ),
        "mask_decoder": PartShapes(
            {"features": top, "sparse": ("N", "C+1", c), "dense": top, "fine0": (1, *fine0), "fine1": (1, *fine1)},
            {"masks": ("N", masks, *low), "ious": ("N", masks), "pointers": ("N", masks, c), "score": ("N", 1)},
        ),
        "memory_encoder": PartShapes(
            {"top": (1, c, h, w), "logits": ("N", *low), "prompted": ("N",), "absent": ("N",)},
            {"memory": ("N", tokens, memory)},
        ),
    }


def fixed(shape: Shape, sizes: Sizes) -> Shape:
    """The shape with the letters replaced that `sizes` knows."""
    return tuple(_fixed(dimension, sizes) for dimension in shape)


def _fixed(dimension: Dimension, sizes: Sizes) -> Dimension:
    if isinstance(dimension, int):
        return dimension
    letter, _, more = dimension.partition("+")
    return sizes[letter] + int(more or 0) if letter in sizes else dimension


def numbers(shape: Shape, sizes: Sizes) -> tuple[int, ...]:
    """The shape where `sizes` knows every letter."""
    return tuple(int(dimension) for dimension in fixed(shape, sizes))


def example(name: str, shape: tuple[int, ...], model: Any, generator: torch.Generator) -> Tensor:
    """Data such as a tracker hands to the input of this name; of order one, some of it masked out."""
    if name in ("memory_valid", "pointer_valid"):
        valid = torch.rand(shape, generator=generator) < 0.8
        valid[:, 0] = True
        return valid
    if name in ("has_mask", "prompted", "absent"):
        return torch.rand(shape, generator=generator) < 0.5
    if name == "rows":
        return torch.randint(model.config.num_maskmem, shape, generator=generator)
    if name == "ages":
        return torch.randint(1, model.config.max_object_pointers_in_encoder, shape, generator=generator).float()
    if name == "points":
        return torch.rand(shape, generator=generator) * int(model.image_size)
    if name == "labels":
        return torch.randint(-1, 4, shape, generator=generator, dtype=torch.int32)
    scale = 5.0 if name in ("logits", "masks") else 1.0
    return scale * torch.randn(shape, generator=generator)
