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


def quantile(values: NDArray[np.float32], share: float) -> float:
    """The quantile of (N,) values, N >= 1, without NaN, between two of them in proportion, as numpy's default is.

    Choosing one place has a much faster way in numpy than choosing two, as its own quantile does.
    """
    at = share * (values.size - 1)
    below = int(at)
    ordered = np.partition(values, below)
    low = float(ordered[below])
    return low + (at - below) * (float(ordered[below + 1 :].min()) - low) if at > below else low


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
    height, width = depth_m.shape
    # In one row of numbers, with a NaN between the image's rows, a neighbour is as far away everywhere.
    z = np.full((height, width + 1), np.nan, np.float32)
    np.copyto(z[:, :width], depth_m, where=valid)
    flat, flying, neighbours = z.ravel(), np.zeros(z.size, np.bool_), np.zeros(z.size, np.bool_)
    for direction in _DIRECTIONS:
        ahead = direction[0] * (width + 1) + direction[1]
        a, b = flat[:-ahead], flat[ahead:]
        step = b - a
        with np.errstate(invalid="ignore"):
            size, jump = np.abs(step), settings.edge_jump * np.minimum(a, b)
            near, jumps = size <= jump, np.flatnonzero(size > jump)
        neighbours[:-ahead] |= near
        neighbours[ahead:] |= near
        # Jumps are few: what follows goes by their pixels.
        if jumps.size:
            between = _between(flat.size, jumps, ahead, step[jumps] > 0)
            flying[_off_steep_surfaces(between, flat, ahead, settings.edge_jump)] = True
    found: Mask = flying.reshape(z.shape)[:, :width] | (valid & ~neighbours.reshape(z.shape)[:, :width])
    return found


def _between(size: int, jumps: Index, ahead: int, up: Mask) -> Index:
    """Of the places from which depth jumps to the place `ahead`, up or down, those to which it jumps the same way."""
    arriving = np.zeros(size, np.int8)
    sign = np.where(up, np.int8(1), np.int8(-1))
    arriving[jumps + ahead] = sign
    between: Index = jumps[arriving[jumps] == sign]
    return between


def _off_steep_surfaces(places: Index, flat: Depth, ahead: int, edge_jump: float) -> Index:
    """Those of the places whose inverse depth does not go on evenly in steps of `ahead`."""
    if places.size == 0:
        return places
    at = places + ahead * np.arange(-2, 3)[:, None]
    inside = (at >= 0) & (at < flat.size)
    inverse = np.where(inside, 1.0 / flat[at * inside].astype(np.float64), np.nan)
    # A place beyond the image is NaN, and what lies behind one is of another row.
    inverse[0][np.isnan(inverse[1])] = inverse[4][np.isnan(inverse[3])] = np.nan
    steps = np.diff(inverse, axis=0)
    mean = 0.5 * (steps[1] + steps[2])  # these two are known, or the pixel were no candidate
    known = np.isfinite(steps)
    with np.errstate(invalid="ignore"):
        even = ((np.abs(steps - mean) < 0.5 * np.abs(mean)) | ~known).all(axis=0)
    steep = even & (known.sum(axis=0) >= 3) & (np.abs(mean) <= _STEEPEST * edge_jump * inverse[2])
    off: Index = places[~steep]
    return off


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
    step = quantile(seen, 0.5) - last_depth_m
    tolerance = max(settings.edge_jump * last_depth_m, 3.0 * float(depth_sigma_m(last_depth_m, settings)))
    if step < -tolerance:
        return DepthEvidence.NEARER
    return DepthEvidence.EMPTY if step > tolerance else DepthEvidence.SAME
