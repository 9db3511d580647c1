"""The differentiable steps against transformers' own modules and against the tracker that users run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.prompts import PointPrompt
from sam_perception.segmentation import StreamingTracker
from sam_perception.training import blocks
from sam_perception.training.lesson import DEVIATION, MEAN
from sam_perception.training.rollout import _Bank

Clip = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def pixels(rgb: NDArray[np.uint8]) -> torch.Tensor:
    x = torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(DEVIATION).view(1, 3, 1, 1)


@torch.no_grad()
def test_all_four_masks_are_the_decoders_own(small_model: Any, moving_square: Clip) -> None:
    features = blocks.encode_images(small_model, pixels(moving_square[0][:2]))
    points, labels = torch.tensor([[[20.0, 30.0]], [[40.0, 12.0]]]), torch.ones(2, 1, dtype=torch.int32)
    ours = blocks.decode(small_model, features, points, labels, None)
    sparse, dense = small_model.prompt_encoder(points[:, None], labels[:, None], None, None)
    small_model.mask_decoder.dynamic_multimask_via_stability = False
    for multimask, part in ((False, slice(0, 1)), (True, slice(1, 4))):
        masks, iou, tokens, presence = small_model.mask_decoder(
            image_embeddings=features.coarse,
            image_positional_embeddings=small_model.get_image_wide_positional_embeddings().expand(2, -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=[features.fine, features.middle],
        )
        torch.testing.assert_close(ours.masks[:, part], masks[:, 0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours.iou[:, part], iou[:, 0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(ours.tokens[:, part], tokens[:, 0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours.presence, presence[:, 0, 0], atol=1e-4, rtol=1e-4)


class NoChance:
    """A generator that never draws an age."""

    def random(self) -> float:
        return 1.0


@torch.no_grad()
def test_a_clip_gives_the_logits_of_the_tracker(small_model: Any, moving_square: Clip) -> None:
    """What is trained is what runs: the same memories, temporal codes, pointers and decisions."""
    rgb, _ = moving_square
    tracker = StreamingTracker(small_model, max_objects=1)
    tracker.prompt(PointPrompt(1, np.array([[20, 30]], np.float32)))
    expected = [tracker.step(frame).logits[0].float() for frame in rgb]
    features = blocks.encode_images(small_model, pixels(rgb))
    bank = _Bank(gap=1, elapsed=0)
    for t in range(len(rgb)):
        mine = features.of(torch.tensor([t]))
        if t == 0:
            seen, points = blocks.without_memory(small_model, mine), torch.tensor([[[20.0, 30.0]]])
            labels = torch.ones(1, 1, dtype=torch.int32)
        else:
            seen = bank.recall(small_model, mine, t, NoChance())  # type: ignore[arg-type]
            points, labels = torch.zeros(1, 1, 2), torch.full((1, 1), -1, dtype=torch.int32)
        decoded = blocks.decode(small_model, seen, points, labels, None)
        index = blocks.chosen(decoded, multimask=True)
        logits, token = blocks.take(decoded.masks, index), blocks.take(decoded.tokens, index)
        scale = float(expected[t].std())
        # Memories are stored in bfloat16 there, 8 bits of mantissa; here they are not.
        torch.testing.assert_close(logits[0], expected[t], atol=0.05 * scale, rtol=0.05)
        first = torch.tensor([t == 0])
        memory = blocks.remember(small_model, mine.coarse, logits, token, decoded.presence > 0, binarise=first)
        bank.entries.append((t, memory, t == 0))


def test_an_absent_object_is_remembered_as_absent(small_model: Any, moving_square: Clip) -> None:
    """Its mask is empty whatever the logits say, its pointer is the learnt one, and gradients reach it."""
    coarse = blocks.encode_images(small_model, pixels(moving_square[0][:1])).coarse
    token = torch.randn(1, 128)
    absent = torch.tensor([False])
    memories = [
        blocks.remember(small_model, coarse, torch.full((1, 16, 16), level), token, absent) for level in (-9.0, 9.0)
    ]
    torch.testing.assert_close(memories[0].features, memories[1].features)
    torch.testing.assert_close(memories[0].pointer, small_model.no_object_pointer)
    memories[0].features.sum().backward()  # type: ignore[no-untyped-call]
    assert small_model.occlusion_spatial_embedding_parameter.grad.abs().sum() > 0
