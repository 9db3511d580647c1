"""What a depth image says: validity, flying pixels, and what now stands in an object's place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GeometryConfig
from sam_perception.errors import MalformedImage
from sam_perception.scene import DepthEvidence

Depth = NDArray[np.float32]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Pixels = tuple[Index, Index]  # rows and columns

_STEEPEST = 2.0  # edge jumps per pixel; about 88 degrees at a focal length of 600 px
_EVIDENCE_SHARE = 0.3  # of the place's pixels that need depth before anything is said of it

# Neighbours as (rows down, columns right); the other four are the same pairs seen from the other end.
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))


def depth_valid(depth_m: Depth, settings: GeometryConfig) -> Mask:
    """Which pixels of a depth image (any shape) have a return within the settings' range."""
    with np.errstate(invalid="ignore"):
        # NaN compares false, and zero is no return even where the range starts at zero.
        valid: Mask = (depth_m >= settings.min_depth_m) & (depth_m <= settings.max_depth_m) & (depth_m > 0)
    return valid


def depth_sigma_m(depth_m: NDArray[Any] | float, settings: GeometryConfig) -> Any:
    """Standard deviation of a depth reading, metres: it grows with the square of the distance.

    Triangulating sensors (stereo, structured light) measure disparity with an even error e in
    pixels, and z = f b / disparity gives dz = z^2 e / (f b); `depth_noise_m` is e / (f b).
    """
    return settings.depth_noise_m * np.square(depth_m)


def flying_pixels(depth_m: Depth, settings: GeometryConfig) -> Mask:
    """Pixels (H, W) that float between two surfaces at a depth edge, or on no surface at all.

    At an edge sensors report depths between the near and the far surface, where there is
    nothing. Such a pixel steps by more than `edge_jump` (relative to depth) nearer on one side and
    farther on the opposite side, in one of four directions. So does a pixel of a steep surface, but
    there the steps go on evenly: a plane's inverse depth is linear in the pixels. A pixel is
    kept where the steps of inverse depth agree within a half over two pixels to both sides, as
    far as these are known, and are not larger than two edge jumps. A pixel without any
    neighbour at its own depth is on no surface. Pixels without a valid depth are not flying.
    """
    valid = depth_valid(depth_m, settings)
    z = np.where(valid, depth_m, np.float32(np.nan))
    flying = np.zeros(z.shape, np.bool_)
    neighbours = np.zeros(z.shape, np.bool_)
    for direction in _DIRECTIONS:
        here, there = _pair(z.shape, direction)
        a, b = z[here], z[there]
        step = b - a
        with np.errstate(invalid="ignore"):
            size, jump = np.abs(step), settings.edge_jump * np.minimum(a, b)
            near, far = size <= jump, size > jump
        neighbours[here] |= near
        neighbours[there] |= near
        # Jumps are few: what follows goes by their pixels.
        jumps = np.flatnonzero(far)
        if jumps.size:
            row, column = np.divmod(jumps, far.shape[1])
            up = step.ravel()[jumps] > 0
            row, column = _between(z.shape, row, column + here[1].start, direction, up)
            flying[_off_steep_surfaces(row, column, z, direction, settings.edge_jump)] = True
    return flying | (valid & ~neighbours)


def _between(shape: tuple[int, ...], row: Index, column: Index, direction: tuple[int, int], up: Mask) -> Pixels:
    """Of the pixels from which depth jumps in `direction`, up or down, those to which it jumps the same way."""
    arriving = np.zeros(shape, np.int8)
    sign = np.where(up, np.int8(1), np.int8(-1))
    arriving[row + direction[0], column + direction[1]] = sign
    on = arriving[row, column] == sign
    return row[on], column[on]


def _pair(shape: tuple[int, ...], direction: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Two views of an image of which the second lies one pixel in `direction` from the first."""
    height, width = shape
    down, right = direction
    rows = (slice(0, max(height - down, 0)), slice(down, height))
    if right >= 0:
        columns = (slice(0, max(width - right, 0)), slice(right, width))
    else:
        columns = (slice(-right, width), slice(0, max(width + right, 0)))
    return (rows[0], columns[0]), (rows[1], columns[1])


def _off_steep_surfaces(row: Index, column: Index, z: Depth, direction: tuple[int, int], edge_jump: float) -> Pixels:
    """The candidate pixels but for those whose inverse depth goes on evenly along `direction`."""
    if row.size == 0:
        return row, column
    height, width = z.shape
    inverse = np.full((5, row.size), np.nan)
    for i, offset in enumerate((-2, -1, 0, 1, 2)):
        y, x = row + offset * direction[0], column + offset * direction[1]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        inverse[i, inside] = 1.0 / z[y[inside], x[inside]]
    steps = np.diff(inverse, axis=0)
    mean = 0.5 * (steps[1] + steps[2])  # these two are known, or the pixel were no candidate
    known = np.isfinite(steps)
    with np.errstate(invalid="ignore"):
        even = ((np.abs(steps - mean) < 0.5 * np.abs(mean)) | ~known).all(axis=0)
    steep = even & (known.sum(axis=0) >= 3) & (np.abs(mean) <= _STEEPEST * edge_jump * inverse[2])
    return row[~steep], column[~steep]


def depth_evidence(depth_m: Depth, last_mask: Mask, last_depth_m: float, settings: GeometryConfig) -> DepthEvidence:
    """What stands now at the pixels (H, W) where an object with median depth `last_depth_m` was last seen.

    The median of the valid depths there is compared with the last one, with a tolerance of
    `edge_jump` or three standard deviations of the sensor's noise, whichever is larger. UNKNOWN if
    fewer than 30 % of the pixels, or fewer than `min_points`, have depth, or if the last depth
    is not a distance.

    Raises:
        MalformedImage: mask and depth differ in size.
    """
    if last_mask.shape != depth_m.shape:
        raise MalformedImage(
            f"mask is {last_mask.shape}, depth {depth_m.shape} (H, W): pass the mask on the depth image's pixel grid"
        )
    place = depth_m[last_mask]
    seen = place[depth_valid(place, settings)]
    enough = seen.size >= max(settings.min_points, _EVIDENCE_SHARE * place.size)
    if not enough or not (np.isfinite(last_depth_m) and last_depth_m > 0):
        return DepthEvidence.UNKNOWN
    step = float(np.median(seen)) - last_depth_m
    tolerance = max(settings.edge_jump * last_depth_m, 3.0 * float(depth_sigma_m(last_depth_m, settings)))
    if step < -tolerance:
        return DepthEvidence.NEARER
    return DepthEvidence.EMPTY if step > tolerance else DepthEvidence.SAME
