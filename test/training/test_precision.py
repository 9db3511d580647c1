"""bfloat16 and float16 stay near float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sam_perception.segmentation import load_model
from sam_perception.training.autocast import has_bfloat16
from sam_perception.training.precision import deviation
from sam_perception.training.scenes import Clip
from sam_perception.training.synthetic import held_out_clips


@pytest.fixture(scope="module")
def exact() -> Any:
    return load_model("nano", "cpu", "float32")


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    # The clips of docs/tracking.md, 240 masks: of a hundred, a few doubtful ones make or break the mean.
    return list(held_out_clips(4, frames=20))


# Without arithmetic in a format it takes minutes: no CPU has float16, and some x86 ones have no bfloat16 either.
EMULATED = [] if has_bfloat16("cpu") else [pytest.mark.slow]


@pytest.mark.parametrize(
    ("number_format", "least"),
    [
        pytest.param("bfloat16", 0.985, marks=EMULATED),
        pytest.param("float16", 0.995, marks=pytest.mark.slow),
    ],
)
def test_masks_in_short_formats_are_those_of_float32(
    exact: Any, clips: list[Clip], number_format: str, least: float
) -> None:
    found = deviation(exact, load_model("nano", "cpu", number_format), clips)
    assert len(found.agreement) >= 200
    assert found.agreement.mean() > least
    assert found.agreement.min() < 1.0  # it is another format, and the comparison notices
    assert abs(found.other_j - found.exact_j) < 0.03
    assert found.exact_j > 0.5


def test_another_model_is_noticed(exact: Any, clips: list[Clip]) -> None:
    """The bound has teeth: weights that are 5 % off are not within it."""
    worn = load_model("nano", "cpu", "float32")
    generator = torch.Generator().manual_seed(0)
    for weight in worn.parameters():
        weight.mul_(1 + 0.05 * torch.randn(weight.shape, generator=generator))
    assert deviation(exact, worn, clips[:1], objects=2).agreement.mean() < 0.985
    same = deviation(exact, exact, clips[:1], objects=1)
    np.testing.assert_array_equal(same.agreement, 1.0)
    assert same.disputed == 0.0
