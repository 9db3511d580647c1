"""Pictures in, masks out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_perception.errors import MalformedImage
from sam_perception.segmentation.preprocess import ImageScaler, masks_and_numbers


@pytest.fixture
def scaler() -> ImageScaler:
    return ImageScaler(64, torch.device("cpu"), torch.float32)


def test_red_is_first_and_normalised_with_imagenet_statistics(scaler: ImageScaler) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., 0] = 255
    pixels = scaler.pixels(picture)
    assert pixels.shape == (1, 3, 64, 64)
    for channel, (value, mean, std) in enumerate([(1, 0.485, 0.229), (0, 0.456, 0.224), (0, 0.406, 0.225)]):
        np.testing.assert_allclose(pixels[0, channel], (value - mean) / std, atol=1e-5)


def test_resizing_is_antialiased_and_squeezes(scaler: ImageScaler) -> None:
    """Fine stripes become grey instead of a moire; a flat picture stays flat."""
    stripes = np.zeros((256, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = scaler.pixels(stripes)
    grey = (0.5 - 0.485) / 0.229
    assert (pixels[0, 0, :, 2:-2] - grey).abs().max() < 0.05


def test_read_only_pictures_are_welcome_and_left_alone(scaler: ImageScaler) -> None:
    picture = np.full((30, 40, 3), 7, np.uint8)
    picture.flags.writeable = False
    scaler.pixels(picture)
    scaler.pixels(picture[::-1, ::-1])
    assert (picture == 7).all()


def test_points_scale_as_sam_does(scaler: ImageScaler) -> None:
    points = scaler.points(np.array([[0, 0], [320, 120], [640, 480]], np.float32), height=480, width=640)
    np.testing.assert_allclose(points, [[0, 0], [32, 16], [64, 64]])


def test_masks_are_cut_at_a_half(scaler: ImageScaler) -> None:
    mask = np.zeros((128, 128), bool)
    mask[20:60, 40:90] = True
    scaled = scaler.mask(mask)[0].numpy()
    want = np.zeros((64, 64))
    want[10:30, 20:45] = 1
    np.testing.assert_array_equal(scaled, want)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 4), (0, 8, 3)])
def test_other_pictures_are_refused(scaler: ImageScaler, shape: tuple[int, ...]) -> None:
    with pytest.raises(MalformedImage, match=r"\(H, W, 3\) uint8"):
        scaler.pixels(np.zeros(shape, np.uint8))


def test_masks_and_numbers_arrive_together() -> None:
    logits = torch.full((2, 16, 16), -1.0)
    logits[0, 4:8, 4:12] = 1.0
    numbers = torch.tensor([[0.25, 1e-7], [123456.0, -3.0]])
    masks, told = masks_and_numbers(logits, numbers, height=16, width=16)
    np.testing.assert_array_equal(masks, (logits > 0).numpy())
    np.testing.assert_array_equal(told, numbers.numpy())
    masks[0] = False  # the caller's own
