"""Up from an accelerometer: noise, pushes, turns."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sam_perception.geometry.gravity import GRAVITY, GravityFilter

SECOND = 10**9
UP = np.array([0.1, -0.9, -0.42]) / np.linalg.norm([0.1, -0.9, -0.42])


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))


def direction(gravity: GravityFilter) -> np.ndarray:
    assert gravity.up is not None
    return gravity.up.direction


def test_noise_averages_out() -> None:
    """0.15 m/s^2 of noise at 200 Hz tilts one reading by 0.9 degrees, and the average by a tenth of that."""
    rng, gravity = np.random.default_rng(1), GravityFilter()
    errors = []
    for i in range(600):
        gravity.add(i * SECOND // 200, GRAVITY * UP + rng.normal(0, 0.15, 3), None, 0.5)
        errors.append(angle_deg(direction(gravity), UP))
    assert max(errors[300:]) < 0.35
    assert max(errors) > 0.35  # the first readings alone would not do


def test_a_push_is_left_out_and_told() -> None:
    gravity = GravityFilter()
    for i in range(100):
        pushed = i >= 50
        gravity.add(i * SECOND // 100, GRAVITY * UP + pushed * np.array([4.0, 0, 0]), None, 0.2)
    assert angle_deg(direction(gravity), UP) < 1e-6
    assert gravity.up is not None
    assert gravity.up.stamp_ns - gravity.up.rest_ns == SECOND // 2


@pytest.mark.parametrize("with_gyro", [True, False])
def test_a_gyroscope_carries_the_direction_through_a_turn(with_gyro: bool) -> None:
    """A camera that rolls by 60 degrees in a second, pushed about all the while."""
    gravity, rate = GravityFilter(), np.array([0.0, 0.0, np.radians(60)])
    gravity.add(0, GRAVITY * UP, None, 0.5)
    for i in range(1, 201):
        turned = Rotation.from_rotvec(rate * i / 200).inv().apply(UP)  # what stands still, in the sensor
        gravity.add(i * SECOND // 200, GRAVITY * turned * 1.3, rate if with_gyro else None, 0.5)
    error = angle_deg(direction(gravity), Rotation.from_rotvec(rate).inv().apply(UP))
    assert error < 1.0 if with_gyro else error > 30.0


@pytest.mark.parametrize("reading", [np.zeros(3), np.full(3, np.nan), np.array([0, 30.0, 0])])
def test_no_direction_from_readings_that_are_none(reading: np.ndarray) -> None:
    gravity = GravityFilter()
    gravity.add(0, reading, None, 0.5)
    assert gravity.up is None


@pytest.mark.parametrize("stamp_ns", [-5 * SECOND, 30 * SECOND])
def test_a_pause_or_time_that_goes_back_begins_anew(stamp_ns: int) -> None:
    gravity = GravityFilter()
    gravity.add(10 * SECOND, GRAVITY * UP, None, 0.5)
    gravity.add(stamp_ns, np.array([0, -GRAVITY, 0]), None, 0.5)
    assert angle_deg(direction(gravity), np.array([0, -1.0, 0])) < 1e-6
