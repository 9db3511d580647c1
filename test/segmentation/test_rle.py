"""COCO's run-length encoding against pycocotools and against transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from transformers.models.sam.image_processing_pil_sam import _mask_to_rle

from sam_perception.errors import MalformedImage
from sam_perception.segmentation.pictures.rle import Rle

shapes = st.tuples(st.integers(1, 23), st.integers(1, 31))
masks = arrays.arrays(np.bool_, shapes, elements=st.booleans())


def blobs(seed: int, size: tuple[int, int] = (97, 143)) -> np.ndarray:
    """A mask with long runs, as real ones have."""
    noise = np.random.default_rng(seed).normal(size=(size[0] // 8 + 1, size[1] // 8 + 1))
    return np.kron(noise, np.ones((8, 8)))[: size[0], : size[1]] > 0.4


@given(mask=masks)
def test_a_mask_comes_back(mask: np.ndarray) -> None:
    rle = Rle.of(mask)
    np.testing.assert_array_equal(rle.mask(), mask)
    np.testing.assert_array_equal(Rle.read(rle.compressed()).mask(), mask)
    np.testing.assert_array_equal(Rle.read(rle.uncompressed()).mask(), mask)
    assert rle.area == int(mask.sum())


@given(mask=masks)
def test_the_runs_are_transformers(mask: np.ndarray) -> None:
    wanted = _mask_to_rle(torch.from_numpy(mask)[None])[0]
    assert Rle.of(mask).uncompressed() == wanted


@given(mask=masks)
def test_corners_are_the_outermost_pixels(mask: np.ndarray) -> None:
    rows, columns = np.nonzero(mask)
    wanted = (columns.min(), rows.min(), columns.max(), rows.max()) if rows.size else (0, 0, 0, 0)
    assert Rle.of(mask).corners == wanted


@given(mask=masks, seed=st.integers(0, 50))
@settings(max_examples=60)
def test_pycocotools_reads_it_and_writes_the_same(mask: np.ndarray, seed: int) -> None:
    coco: Any = pytest.importorskip("pycocotools.mask")
    for one in (mask, blobs(seed)):
        wanted = coco.encode(np.asfortranarray(one, np.uint8))
        rle = Rle.of(one)
        seen = rle.compressed()
        assert seen == {"size": wanted["size"], "counts": wanted["counts"].decode()}
        np.testing.assert_array_equal(coco.decode(seen).astype(bool), one)
        assert coco.area(seen) == rle.area
        x0, y0, x1, y1 = rle.corners
        if one.any():
            assert coco.toBbox(seen).tolist() == [x0, y0, x1 - x0 + 1, y1 - y0 + 1]


def test_a_crops_mask_lies_at_its_place() -> None:
    mask = blobs(3, (20, 30))
    whole = Rle.of(mask).moved(7, 5, (40, 50)).mask()
    np.testing.assert_array_equal(whole[5:25, 7:37], mask)
    assert whole.sum() == mask.sum()


def test_runs_that_do_not_fill_the_picture_are_refused() -> None:
    with pytest.raises(MalformedImage, match="add up to 5, wanted 6"):
        Rle.read({"size": [2, 3], "counts": [2, 3]})
