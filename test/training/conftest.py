"""Small models and pictures for the tests of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sam_perception.training.model import initialise, new_model

SIZE = 64


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def small_model() -> Any:
    """Nano's architecture for 64 pixels, with seeded random weights, objects always said to be present."""
    torch.manual_seed(0)
    model = new_model(SIZE, attention="eager")
    initialise(model)
    with torch.no_grad():
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(20.0)
    return model.eval()


@pytest.fixture
def moving_square() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Six 64 x 64 pictures of a bright square that moves over noise, and its ids."""
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 90, (6, SIZE, SIZE, 3)).astype(np.uint8)
    ids = np.zeros((6, SIZE, SIZE), np.uint8)
    for t in range(6):
        ids[t, 20:44, 8 + 4 * t : 32 + 4 * t] = 1
        rgb[t][ids[t] == 1] = (220, 180, 40)
    return rgb, ids
