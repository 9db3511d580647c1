"""Which way is up, from an accelerometer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

GRAVITY = 9.81  # m/s^2
_AT_REST = 0.06  # an acceleration that differs from gravity by more than this part of it is of a camera that is moved
_STEP_S = 1.0  # a longer pause between two readings begins anew


@dataclass(frozen=True, eq=False)
class Up:
    """Gravity's opposite, as it was measured."""

    direction: Vector  # (3,) of length 1, in the sensor's frame
    stamp_ns: int  # of the newest reading
    rest_ns: int  # of the newest reading that was taken at rest


class GravityFilter:
    """Low-pass filter of an accelerometer, carried along by a gyroscope where there is one.

    At rest an accelerometer measures the force that holds it up, 9.81 m/s^2 upwards (REP-145). Readings of
    another length are of a camera that is pushed about, and are left out; meanwhile the gyroscope, if
    there is one, turns the direction (a complementary filter).
    """

    def __init__(self) -> None:
        self._up: Up | None = None

    @property
    def up(self) -> Up | None:
        """What is known now; None before the first reading at rest."""
        return self._up

    def clear(self) -> None:
        """Begin anew."""
        self._up = None

    def add(self, stamp_ns: int, acceleration: Vector, turning: Vector | None, time_constant_s: float) -> None:
        """Take a reading: acceleration (3,) in m/s^2 and angular velocity (3,) in rad/s, in the sensor's frame."""
        size = float(np.linalg.norm(acceleration))
        at_rest = math.isfinite(size) and abs(size - GRAVITY) <= _AT_REST * GRAVITY
        before = self._up
        span_s = 0.0 if before is None else (stamp_ns - before.stamp_ns) * 1e-9
        if before is None or not 0 <= span_s <= _STEP_S:
            self._up = Up(acceleration / size, stamp_ns, stamp_ns) if at_rest else None
            return
        direction = before.direction
        if turning is not None and np.isfinite(turning).all():
            # What stands still turns the other way in a sensor that turns.
            direction = direction - span_s * np.cross(turning, direction)
        if at_rest:
            share = 1.0 - math.exp(-span_s / time_constant_s) if time_constant_s > 0 else 1.0
            direction = (1.0 - share) * direction + share * acceleration / size
        length = float(np.linalg.norm(direction))
        self._up = Up(direction / length, stamp_ns, stamp_ns if at_rest else before.rest_ns) if length > 0.1 else None
