"""Crops, prompts and targets of training samples."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sam_perception.training import scenes
from sam_perception.training.loader import Demand, new_pool, next_batch
from sam_perception.training.samples import (
    Batch,
    cell_share,
    centre_offsets,
    click,
    edge_map,
    hide,
    jittered_box,
    jump,
    make_sample,
)
from sam_perception.training.scenes import Clip as RenderedClip
from sam_perception.training.scenes import SceneOptions, random_clip
from sam_perception.training.synthetic import HELD_OUT

Clip = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def sample_of(seed: int, clip: Clip, size: int = 64, objects: int = 3) -> Batch:
    sample = make_sample(np.random.default_rng(seed), *clip, size, objects, tries=50)
    assert sample is not None
    return sample


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_prompts_point_at_their_objects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.zeros((2, 96, 128), np.uint8)
    for k in range(1, 5):
        x, y = rng.integers(0, 90), rng.integers(0, 60)
        ids[:, y : y + 30, x : x + 30] = k
    rgb = rng.integers(0, 255, (2, 96, 128, 3)).astype(np.uint8)
    sample = sample_of(seed, (rgb, ids))
    for n in range(3):
        mask = sample.first_mask[0, n].astype(bool)
        x, y = sample.point[0, n].astype(int)
        assert mask[y, x]
        assert mask.sum() * 16 == sample.area[0, n, 0]  # 64 pixels wide, counted as if 256
        x0, y0, x1, y1 = sample.box[0, n]
        ys, xs = np.nonzero(mask)
        assert max(abs(x0 - xs.min()), abs(y0 - ys.min()), abs(x1 - xs.max()), abs(y1 - ys.max())) <= 10.01
        assert x0 < x1
        assert y0 < y1
        assert sample.share[0, n, 0].sum() / 255 * 16 == pytest.approx(mask.sum(), rel=0.01)


def test_pictures_and_ids_are_cropped_and_flipped_together(moving_square: Clip) -> None:
    """Where the square is, the picture is bright: colour changes keep it brighter than the noise."""
    for seed in range(12):
        sample = sample_of(seed, moving_square, objects=1)
        for t in range(6):
            inside = sample.share[0, 0, t].repeat(4, 0).repeat(4, 1)
            gray = sample.pictures[0, t].astype(float).mean(-1)
            if (inside == 255).sum() > 16 and (inside == 0).sum() > 16:
                assert gray[inside == 255].mean() > gray[inside == 0].mean() + 20


def test_a_picture_without_objects_gives_no_sample() -> None:
    rgb, ids = np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 64, 64), np.uint8)
    assert make_sample(np.random.default_rng(0), rgb, ids, 64, 2) is None


def test_offsets_lead_to_the_centre() -> None:
    ids = np.zeros((1, 64, 64), np.uint8)
    ids[0, 16:48, 0:32] = 7  # centre x 15.5, y 31.5
    offsets = centre_offsets(ids)[0]
    assert offsets[2].sum() == 4  # cells (8, 24), (8, 40), (24, 24), (24, 40)
    assert offsets[0, 1, 0] * 64 == pytest.approx(15.5 - 8)
    assert offsets[1, 2, 1] * 64 == pytest.approx(31.5 - 40)
    assert (offsets[:2, offsets[2] == 0] == 0).all()


def test_edges_and_shares_of_a_square() -> None:
    ids = np.zeros((1, 16, 16), np.uint8)
    ids[0, 4:8, 4:8] = 1
    assert cell_share(ids == 1)[0].tolist() == [[0, 0, 0, 0], [0, 255, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    # A border is marked on its right and lower side.
    assert edge_map(ids)[0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_clicks_and_boxes_vary() -> None:
    mask = np.zeros((64, 64), np.bool_)
    mask[10:50, 20:40] = True
    rng = np.random.default_rng(0)
    assert len({click(rng, mask) for _ in range(40)}) > 10
    assert len({tuple(jittered_box(rng, mask)) for _ in range(40)}) > 10


def test_the_same_seed_gives_the_same_batches_and_ranks_differ() -> None:
    demand = Demand(64, 2, 1, 3, 2, 0.5, (0.0, 0.2))

    def first_two(rank: int) -> list[Batch]:
        pool = new_pool(3, 0, 0, rank)
        return [next_batch(pool, demand) for _ in range(2)]

    here, again, other = first_two(0), first_two(0), first_two(1)
    for a, b, c in zip(here, again, other, strict=True):
        np.testing.assert_array_equal(a.pictures, b.pictures)
        np.testing.assert_array_equal(a.box, b.box)
        assert a.pictures.shape == c.pictures.shape  # all turn to clips together
        assert not np.array_equal(a.pictures, c.pictures)


def test_scenes_are_rendered_as_large_and_as_far_apart_in_time_as_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[SceneOptions] = []

    def noted(rng: np.random.Generator, options: SceneOptions) -> RenderedClip:
        made.append(options)
        return random_clip(rng, dataclasses.replace(options, width=48, height=48))

    monkeypatch.setattr(scenes, "random_clip", noted)
    demand = Demand(64, 2, 1, 3, 2, 1.0, (0.1, 0.2), render_px=(256, 258), strides=(2, 4))
    new_pool(0, 0, 0).refresh(demand)
    assert {options.width for options in made} == {options.height for options in made} == {256, 257, 258}
    assert {options.stride for options in made} == {2, 3, 4}
    assert all(0.1 <= options.difficulty < 0.2 for options in made)


def test_a_hidden_object_is_gone_for_some_frames_and_so_are_its_pixels() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (6, 64, 64, 3)).astype(np.uint8)
    ids = np.zeros((6, 64, 64), np.uint8)
    ids[:, 20:30, 10:30] = 4
    lengths = set()
    for seed in range(30):
        pictures, left = hide(np.random.default_rng(seed), rgb.copy(), ids.copy(), 4)
        gone = [not (left[t] == 4).any() for t in range(6)]
        assert not gone[0]  # the prompted frame
        assert any(gone)
        lengths.add(sum(gone))
        for t in range(6):
            changed = (pictures[t] != rgb[t]).any()
            assert changed == gone[t]
    assert lengths == {1, 2, 3}


def test_a_jump_moves_objects_and_pictures_alike_and_leaves_the_prompted_frame() -> None:
    ids = np.zeros((5, 64, 64), np.uint8)
    ids[:, 24:40, 24:40] = 2
    rgb = np.where(ids[..., None] == 2, np.uint8(200), np.uint8(20)).repeat(3, axis=-1)
    for seed in range(20):
        pictures, moved = rgb.copy(), ids.copy()
        jump(np.random.default_rng(seed), pictures, moved)
        np.testing.assert_array_equal(moved[0], ids[0])
        assert (moved[4] != ids[4]).any()
        inside = cv2.erode((moved[4] == 2).astype(np.uint8), np.ones((3, 3))) > 0
        assert (pictures[4][inside] > 150).all()
        assert (pictures[4][cv2.dilate((moved[4] == 2).astype(np.uint8), np.ones((3, 3))) == 0] < 60).all()


@pytest.mark.parametrize("source_px", [260, 100, 40])
def test_labels_lie_on_their_pictures(source_px: int) -> None:
    """By the centroid of a white disc, and of its label, whether the picture shrinks or grows to 64 pixels."""
    y, x = np.mgrid[:source_px, :source_px]
    disc = np.hypot(x - 0.5 * source_px, y - 0.5 * source_px) < 0.2 * source_px
    ids, rgb = disc.astype(np.uint8)[None], (disc * np.uint8(255))[None, ..., None].repeat(3, axis=-1)
    apart = []
    for seed in range(12):
        sample = sample_of(seed, (rgb, ids), objects=1)
        gray = sample.pictures[0, 0].astype(float).mean(-1)
        label = sample.first_mask[0, 0].astype(float)
        apart.append(np.abs(centroid(gray - gray.min()) - centroid(label)))
    assert np.mean(apart) < 0.1  # pixels of the sample


def centroid(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    y, x = np.indices(weights.shape)
    return np.asarray([(weights * x).sum(), (weights * y).sum()] / weights.sum())


def test_no_two_streams_of_draws_are_the_same_and_none_is_the_held_out_one() -> None:
    held_out = [np.random.default_rng([HELD_OUT, k]).integers(2**62) for k in range(2)]
    drawn = []
    for worker in range(2):
        for rank in range(2):
            pool = new_pool(HELD_OUT, worker, 0, rank)
            drawn.append(pool.rng.integers(2**62))
            if rank == 0:
                drawn.append(pool.kinds.integers(2**62))
    assert len({*held_out, *drawn}) == 8
