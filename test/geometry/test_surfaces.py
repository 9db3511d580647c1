from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sam_perception.config import GeometryConfig
from sam_perception.geometry import connected_surfaces, own_surface

SETTINGS = GeometryConfig()


def components_of_the_graph(depth_m: np.ndarray, usable: np.ndarray, edge_jump: float) -> np.ndarray:
    """The same question put to scipy, pixel by pixel."""
    height, width = depth_m.shape
    edges = []
    for v in range(height):
        for u in range(width):
            for dv, du in ((0, 1), (1, 0)):
                y, x = v + dv, u + du
                if y < height and x < width and usable[v, u] and usable[y, x]:
                    a, b = depth_m[v, u], depth_m[y, x]
                    if abs(a - b) <= edge_jump * min(a, b):
                        edges.append((v * width + u, y * width + x))
    i, j = np.array(edges).T if edges else np.zeros((2, 0), int)
    graph = coo_matrix((np.ones(len(i)), (i, j)), shape=(height * width,) * 2)
    return connected_components(graph, directed=False)[1].reshape(height, width)


@pytest.mark.parametrize("seed", range(8))
def test_surfaces_are_the_components_of_the_pixel_graph(seed: int) -> None:
    random = np.random.default_rng(seed)
    depth_m = random.choice([0.5, 0.51, 0.53, 0.6], (17, 23)).astype(np.float32)
    usable = random.uniform(size=depth_m.shape) < 0.8
    ours = connected_surfaces(depth_m, usable, SETTINGS)
    theirs = components_of_the_graph(depth_m, usable, SETTINGS.edge_jump)
    np.testing.assert_array_equal(ours > 0, usable)
    # Equal up to the numbering: each pair of labels occurs once per label on either side.
    pairs = {(int(a), int(b)) for a, b in zip(ours[usable], theirs[usable], strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def thing_before_a_wall(wall_m: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    """Depth, and the pixels of a rounded thing of 60 x 60 px at 0.6 to 0.66 m."""
    row, column = np.mgrid[:120, :160]
    thing = (np.abs(row - 60) < 30) & (np.abs(column - 80) < 30)
    depth_m = np.full((120, 160), wall_m, np.float32)
    depth_m[thing] = (0.6 + 0.06 * ((column - 80) / 30.0) ** 2)[thing]
    return depth_m, thing


def test_a_mask_that_is_too_large_loses_its_border() -> None:
    depth_m, thing = thing_before_a_wall()
    row, column = np.mgrid[:120, :160]
    mask = (np.abs(row - 60) < 34) & (np.abs(column - 80) < 34)
    np.testing.assert_array_equal(own_surface(depth_m, mask, SETTINGS), thing)


def test_a_wall_close_behind_is_lost_as_a_strip_but_kept_as_a_piece() -> None:
    depth_m, thing = thing_before_a_wall(wall_m=0.7)
    row, column = np.mgrid[:120, :160]
    strip = (np.abs(row - 60) < 33) & (np.abs(column - 80) < 33)
    np.testing.assert_array_equal(own_surface(depth_m, strip, SETTINGS), thing)
    piece = thing | ((np.abs(row - 60) < 30) & (column >= 80) & (column < 150))
    np.testing.assert_array_equal(own_surface(depth_m, piece, SETTINGS), piece)


def test_holes_through_which_one_sees_the_wall_are_lost() -> None:
    depth_m, thing = thing_before_a_wall()
    depth_m[50:70, 70:90] = 1.2
    expected = thing.copy()
    expected[50:70, 70:90] = False
    np.testing.assert_array_equal(own_surface(depth_m, thing, SETTINGS), expected)


def test_both_sides_of_a_pole_in_front_are_kept() -> None:
    depth_m, thing = thing_before_a_wall()
    mask = thing.copy()
    mask[:, 70:80] = False
    depth_m[:, 70:80] = 0.3
    np.testing.assert_array_equal(own_surface(depth_m, mask, SETTINGS), mask)


def test_a_part_that_sticks_out_is_kept() -> None:
    depth_m, thing = thing_before_a_wall()
    depth_m[50:70, 70:90] = 0.55  # a knob, with a step of 5 cm all around
    np.testing.assert_array_equal(own_surface(depth_m, thing, SETTINGS), thing)


def test_noise_that_shatters_the_surface_does_not_empty_it() -> None:
    random = np.random.default_rng(0)
    noisy = GeometryConfig(depth_noise_m=0.01)
    depth_m = random.normal(3.0, 0.09, (80, 80)).astype(np.float32)  # the noise of that sensor at 3 m
    everything = np.ones_like(depth_m, np.bool_)
    assert len(np.unique(connected_surfaces(depth_m, everything, noisy))) > 100
    assert own_surface(depth_m, everything, noisy).mean() > 0.97


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 7), (7, 1)])
def test_small_windows(shape: tuple[int, int]) -> None:
    usable = np.ones(shape, np.bool_)
    np.testing.assert_array_equal(own_surface(np.ones(shape, np.float32), usable, SETTINGS), usable)
    assert not own_surface(np.ones(shape, np.float32), ~usable, SETTINGS).any()
