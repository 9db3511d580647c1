"""The losses at points where their value is known."""

from __future__ import annotations

import math

import torch

from sam_perception.training.blocks import Decoded
from sam_perception.training.losses import Target, mask_iou, mask_loss, mask_terms


def half_plane(n: int = 16) -> torch.Tensor:
    share = torch.zeros(1, n, n)
    share[:, :, : n // 2] = 1.0
    return share


def decoded_of(masks: torch.Tensor, iou: float = 0.5, presence: float = 0.0) -> Decoded:
    count = len(masks)
    return Decoded(masks, torch.full((count, 4), iou), torch.zeros(count, 4, 8), torch.full((count,), presence))


def test_a_sure_right_mask_costs_nothing_and_an_undecided_one_what_entropy_says() -> None:
    share = half_plane()
    sure = (share * 2 - 1)[:, None] * 40
    assert float(mask_terms(sure, share, 1.0)) < 0.01
    undecided = torch.zeros(1, 1, 16, 16)
    # ln 2 for the object and ln 2 for the background, and dice of a mask that is one half everywhere.
    dice = 1 - (2 * 64 + 1) / (128 + 128 + 1)
    assert math.isclose(float(mask_terms(undecided, share, 1.0)), 2 * math.log(2) + dice, rel_tol=1e-5)


def test_of_three_alternatives_only_the_best_is_taught_where_it_is_taken() -> None:
    share = half_plane()
    good = (share * 2 - 1)[:, None] * 2
    masks = torch.cat([good, -good, good, -good], 1).requires_grad_()
    target = Target(share, torch.ones(1), torch.ones(1))
    mask_loss(decoded_of(masks), target, torch.tensor([2]), 0.5).loss.backward()  # type: ignore[no-untyped-call]
    assert masks.grad is not None
    per_mask = masks.grad.abs().sum((0, 2, 3))
    assert per_mask[1] == 0
    assert per_mask[3] == 0
    assert per_mask[0] > 0
    assert per_mask[2] > 0


def test_a_worse_alternative_is_taught_most_where_it_is_taken() -> None:
    share = half_plane()
    good = (share * 2 - 1)[:, None] * 2
    masks = torch.cat([good, -good, good, -good], 1).requires_grad_()
    target = Target(share, torch.ones(1), torch.ones(1))
    mask_loss(decoded_of(masks), target, torch.tensor([3]), 0.5).loss.backward()  # type: ignore[no-untyped-call]
    assert masks.grad is not None
    per_mask = masks.grad.abs().sum((0, 2, 3))
    assert per_mask[1] == 0  # neither taken nor best
    assert per_mask[3] > 2 * per_mask[2] > 0


def test_a_box_s_single_mask_is_taught_more_than_the_alternatives_that_it_does_not_take() -> None:
    share = half_plane()
    masks = ((share * 2 - 1)[:, None] * 2).repeat(1, 4, 1, 1).requires_grad_()
    target = Target(share, torch.ones(1), torch.ones(1))
    mask_loss(decoded_of(masks), target, torch.tensor([0]), 0.5).loss.backward()  # type: ignore[no-untyped-call]
    assert masks.grad is not None
    per_mask = masks.grad.abs().sum((0, 2, 3))
    assert per_mask[0] > 2 * per_mask[1:].sum() > 0


def test_nothing_is_asked_of_the_mask_of_a_hidden_object_but_presence_is() -> None:
    masks = torch.randn(1, 4, 16, 16).requires_grad_()
    presence = torch.tensor([3.0], requires_grad=True)
    decoded = Decoded(masks, torch.full((1, 4), 0.5), torch.zeros(1, 4, 8), presence)
    hidden = Target(torch.zeros(1, 16, 16), torch.zeros(1), torch.ones(1))
    mask_loss(decoded, hidden, torch.tensor([1]), 0.5).loss.backward()  # type: ignore[no-untyped-call]
    assert masks.grad is not None
    assert presence.grad is not None
    assert masks.grad.abs().sum() == 0
    assert presence.grad > 0  # the score is to fall


def test_a_sliver_says_nothing_about_presence() -> None:
    presence = torch.tensor([3.0], requires_grad=True)
    decoded = Decoded(torch.randn(1, 4, 16, 16), torch.full((1, 4), 0.5), torch.zeros(1, 4, 8), presence)
    sliver = Target(torch.zeros(1, 16, 16), torch.zeros(1), torch.zeros(1))
    mask_loss(decoded, sliver, torch.tensor([1]), 0.5).loss.backward()  # type: ignore[no-untyped-call]
    assert presence.grad is not None
    assert presence.grad == 0


def test_iou_of_half_and_quarter() -> None:
    share = half_plane()
    quarter = torch.full((1, 1, 16, 16), -1.0)
    quarter[..., :8, :8] = 1.0
    assert float(mask_iou(quarter, share)) == 0.5
    assert float(mask_iou(torch.full((1, 1, 16, 16), -1.0), torch.zeros(1, 16, 16))) == 1.0
