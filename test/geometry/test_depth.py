from __future__ import annotations

import numpy as np
import pytest
from geometry_cases import pinhole, plane_depth
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_perception.config import GeometryConfig
from sam_perception.errors import MalformedImage
from sam_perception.geometry import depth_evidence, depth_sigma_m, depth_valid, flying_pixels
from sam_perception.scene import DepthEvidence

SETTINGS = GeometryConfig()


def test_validity() -> None:
    depth_m = np.array([0.0, np.nan, np.inf, -1.0, 0.05, 0.1, 5.0, 10.0, 10.1], np.float32)
    np.testing.assert_array_equal(depth_valid(depth_m, SETTINGS), [0, 0, 0, 0, 0, 1, 1, 1, 0])
    # A range from zero does not turn "no return" into a surface at the lens.
    assert not depth_valid(np.zeros(1, np.float32), GeometryConfig(min_depth_m=0.0)).any()


def test_noise_grows_with_the_square_of_the_distance() -> None:
    settings_ = GeometryConfig(depth_noise_m=0.002)
    np.testing.assert_allclose(depth_sigma_m(np.array([1.0, 2.0, 3.0]), settings_), [0.002, 0.008, 0.018])


def two_surfaces(between: tuple[float, ...], near_m: float = 0.6, far_m: float = 1.0) -> np.ndarray:
    """Near surface on the left, far one on the right, columns of other depths between them."""
    depth_m = np.full((60, 80), far_m, np.float32)
    depth_m[:, :40] = near_m
    for i, z in enumerate(between):
        depth_m[:, 40 + i] = z
    return depth_m


class TestFlyingPixels:
    @pytest.mark.parametrize("between", [(0.8,), (0.7, 0.9), (0.68, 0.76, 0.84, 0.92)])
    @pytest.mark.parametrize("turn", [0, 1, 2, 3])
    def test_ramps_between_two_surfaces_are_removed_and_nothing_else(
        self, between: tuple[float, ...], turn: int
    ) -> None:
        flying = np.rot90(flying_pixels(np.rot90(two_surfaces(between), turn), SETTINGS), -turn)
        expected = np.zeros((60, 80), np.bool_)
        expected[:, 40 : 40 + len(between)] = True
        np.testing.assert_array_equal(flying, expected)

    def test_diagonal_edges(self) -> None:
        row, column = np.mgrid[:60, :60]
        depth_m = np.where(row > column, 0.6, 1.0).astype(np.float32)
        depth_m[row == column] = 0.8
        flying = flying_pixels(depth_m, SETTINGS)
        # The corner pixels have no neighbour on one side.
        np.testing.assert_array_equal(flying[1:-1, 1:-1], (row == column)[1:-1, 1:-1])

    def test_a_clean_step_has_none(self) -> None:
        assert not flying_pixels(two_surfaces(()), SETTINGS).any()

    def test_a_wire_before_a_wall_stays(self) -> None:
        depth_m = np.full((40, 40), 1.0, np.float32)
        depth_m[:, 20] = 0.6
        assert not flying_pixels(depth_m, SETTINGS).any()

    def test_a_speck_on_no_surface_is_removed(self) -> None:
        depth_m = np.full((40, 40), 1.0, np.float32)
        depth_m[20, 20] = 0.6  # nearer than everything around it
        depth_m[5:10, 5:10] = 0.0
        depth_m[7, 7] = 1.0  # alone among pixels without a return
        assert {tuple(p) for p in np.argwhere(flying_pixels(depth_m, SETTINGS))} == {(20, 20), (7, 7)}

    def test_pixels_without_return_do_not_fly(self) -> None:
        depth_m = two_surfaces((0.8,))
        depth_m[:, 40] = np.nan
        assert not flying_pixels(depth_m, SETTINGS).any()

    @settings(deadline=None, max_examples=100)
    @given(angle=st.floats(0, 2 * np.pi), tilt=st.floats(0, 85), distance_m=st.floats(0.3, 3))
    def test_slanted_planes_stay(self, angle: float, tilt: float, distance_m: float) -> None:
        camera = pinhole(80, 60, focal=300.0)
        slope = np.tan(np.deg2rad(tilt)) * np.array([np.cos(angle), np.sin(angle)])
        depth_m = plane_depth(camera, (slope[0], slope[1], 1.0), distance_m)
        depth_m[depth_m < 0] = np.nan
        flying = flying_pixels(depth_m.astype(np.float32), GeometryConfig(min_depth_m=0.0, max_depth_m=1000.0))
        # Up to two edge jumps a pixel; beyond that, towards its horizon, no plane is to be told from a ramp.
        step = np.abs(slope).sum() / camera.fx / distance_m * depth_m
        assert not flying[2:-2, 2:-2][step[2:-2, 2:-2] < 1.8 * SETTINGS.edge_jump].any()

    def test_a_plane_steeper_than_the_jump_stays(self) -> None:
        # Inverse depth linear in the column: 3.1 % of depth a pixel at the left, 5.8 % at the right.
        inverse = 1.0 / 0.5 - 0.06 * np.arange(16)
        assert (np.abs(np.diff(1 / inverse)) / (1 / inverse)[:-1] > SETTINGS.edge_jump).all()
        depth_m = np.tile((1.0 / inverse).astype(np.float32), (30, 1))
        # In the corners nothing is known of how the surface goes on along one diagonal.
        assert not flying_pixels(depth_m, SETTINGS)[:, 2:-2].any()

    def test_sensor_noise_alone_is_hardly_ever_taken_for_it(self) -> None:
        random = np.random.default_rng(0)
        for z in (0.5, 1.0, 2.0, 4.0):
            depth_m = random.normal(z, float(depth_sigma_m(z, SETTINGS)), (200, 200)).astype(np.float32)
            assert flying_pixels(depth_m, SETTINGS).mean() < 1e-3, z

    @pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (0, 0)])
    def test_tiny_images(self, shape: tuple[int, int]) -> None:
        assert flying_pixels(np.ones(shape, np.float32), SETTINGS).shape == shape


class TestEvidence:
    MASK = np.zeros((60, 80), np.bool_)
    MASK[20:40, 30:60] = True

    @pytest.mark.parametrize(
        ("now_m", "expected"),
        [
            (0.60, DepthEvidence.NEARER),
            (0.79, DepthEvidence.SAME),
            (0.80, DepthEvidence.SAME),
            (0.82, DepthEvidence.SAME),
            (1.20, DepthEvidence.EMPTY),
            (0.0, DepthEvidence.UNKNOWN),
            (np.nan, DepthEvidence.UNKNOWN),
            (30.0, DepthEvidence.UNKNOWN),
        ],
    )
    def test_one_surface_in_the_place(self, now_m: float, expected: DepthEvidence) -> None:
        depth_m = np.full((60, 80), 1.5, np.float32)
        depth_m[self.MASK] = now_m
        assert depth_evidence(depth_m, self.MASK, 0.8, SETTINGS) is expected

    def test_what_covers_most_of_the_place_decides(self) -> None:
        depth_m = np.full((60, 80), 0.8, np.float32)
        depth_m[20:40, 30:50] = 0.4
        assert depth_evidence(depth_m, self.MASK, 0.8, SETTINGS) is DepthEvidence.NEARER
        depth_m[20:40, 40:50] = 0.8
        assert depth_evidence(depth_m, self.MASK, 0.8, SETTINGS) is DepthEvidence.SAME

    def test_a_few_returns_are_not_enough(self) -> None:
        depth_m = np.zeros((60, 80), np.float32)
        depth_m[20:25, 30:60] = 0.4  # a quarter of the place
        assert depth_evidence(depth_m, self.MASK, 0.8, SETTINGS) is DepthEvidence.UNKNOWN
        depth_m[20:30, 30:60] = 0.4  # half of it
        assert depth_evidence(depth_m, self.MASK, 0.8, SETTINGS) is DepthEvidence.NEARER

    def test_far_away_the_sensors_noise_widens_what_counts_as_same(self) -> None:
        depth_m = np.full((60, 80), 8.4, np.float32)
        noisy = GeometryConfig(depth_noise_m=0.005, edge_jump=0.01)
        assert depth_evidence(depth_m, self.MASK, 8.0, noisy) is DepthEvidence.SAME
        exact = GeometryConfig(depth_noise_m=0.0005, edge_jump=0.01)
        assert depth_evidence(depth_m, self.MASK, 8.0, exact) is DepthEvidence.EMPTY

    def test_no_place_no_last_depth(self) -> None:
        depth_m = np.full((60, 80), 0.8, np.float32)
        nothing = np.zeros_like(self.MASK)
        assert depth_evidence(depth_m, nothing, 0.8, SETTINGS) is DepthEvidence.UNKNOWN
        for last in (0.0, np.nan, -1.0):
            assert depth_evidence(depth_m, self.MASK, last, SETTINGS) is DepthEvidence.UNKNOWN

    def test_sizes_must_agree(self) -> None:
        with pytest.raises(MalformedImage, match="mask is"):
            depth_evidence(np.ones((4, 4), np.float32), self.MASK, 0.8, SETTINGS)
