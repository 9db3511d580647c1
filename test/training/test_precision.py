"""bfloat16 and float16 stay near float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sam_perception.segmentation import load_model
from sam_perception.training.precision import deviation
from sam_perception.training.scenes import Clip
from sam_perception.training.synthetic import held_out_clips


@pytest.fixture(scope="module")
def exact() -> Any:
    return load_model("nano", "cpu", "float32")


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    # About a hundred masks: of twenty, one doubtful object would make or break the mean.
    return list(held_out_clips(3, frames=8))


@pytest.fixture(scope="module")
def of_noise(exact: Any, clips: list[Clip]) -> float:
    """Disagreement that one grey level of noise in the pictures makes: less than any camera's."""
    found = deviation(exact, exact, clips, noise_levels=1)
    assert found.agreement.mean() > 0.97  # or it would measure nothing
    return float(1 - found.agreement.mean())


# bfloat16 has as many bits as the pictures, and rounds after every layer.
@pytest.mark.parametrize(("number_format", "times"), [("bfloat16", 3.0), ("float16", 1.0)])
def test_a_short_format_changes_masks_by_little_more_than_a_grey_level_of_noise(
    exact: Any, clips: list[Clip], of_noise: float, number_format: str, times: float
) -> None:
    found = deviation(exact, load_model("nano", "cpu", number_format), clips)
    assert len(found.agreement) >= 80
    assert 1 - found.agreement.mean() < times * of_noise
    assert found.agreement.min() < 1.0  # it is another format, and the comparison notices
    assert abs(found.other_j - found.exact_j) < 0.03
    assert found.exact_j > 0.5


def test_another_model_is_noticed(exact: Any, clips: list[Clip], of_noise: float) -> None:
    """The bound has teeth: weights that are 5 % off are not within it."""
    worn = load_model("nano", "cpu", "float32")
    generator = torch.Generator().manual_seed(0)
    for weight in worn.parameters():
        weight.mul_(1 + 0.05 * torch.randn(weight.shape, generator=generator))
    assert 1 - deviation(exact, worn, clips).agreement.mean() > 3 * of_noise
    same = deviation(exact, exact, clips[:1], objects=1)
    np.testing.assert_array_equal(same.agreement, 1.0)
    assert same.disputed == 0.0
