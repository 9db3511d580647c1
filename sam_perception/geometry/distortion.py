"""Lens models on normalised image coordinates (x/z, y/z): ideal to distorted and back.

Formulae: OpenCV's `calib3d` documentation for Brown-Conrady, its rational extension and the
fisheye model; librealsense's `rs2_project_point_to_pixel` for its inverse Brown-Conrady.

About the latter: librealsense's header says of RS2_DISTORTION_INVERSE_BROWN_CONRADY that the
polynomial undistorts, and before release 2.45 deprojection evaluated it so, while projection
evaluated the same polynomial in the other direction: the two did not invert each other. Since
then projection is the polynomial (with tangential terms on the radially scaled point) and
deprojection inverts it by iteration. We follow that. Depth aligned to colour was put into the
colour pixels by this very projection, so its inverse is what brings the points back.

A radial mapping is only a lens while it increases: past its first fold two rays share a
pixel. Rays beyond the fold, and pixels that no ray reaches, are NaN here, not a wrong ray.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import NDArray

from sam_perception.frame import CameraIntrinsics, DistortionModel

Array = NDArray[np.float64]

_NEGLIGIBLE = 1e-9  # of a distortion coefficient
_MAX_ITERATIONS = 30
_RESIDUAL = 1e-10  # normalised coordinates; 1e-7 px at a focal length of 1000 px


def distort(camera: CameraIntrinsics, x: Array, y: Array) -> tuple[Array, Array]:
    """Distorted normalised coordinates of ideal ones, any shape; NaN beyond the model's fold."""
    if camera.distortion_model is DistortionModel.EQUIDISTANT:  # bends with zero coefficients too
        return _distort_equidistant(camera, x, y)
    if not any(camera.distortion):
        return x, y
    xd, yd = _distort_brown(camera, x, y)
    outside = x * x + y * y > _brown_fold(camera)
    return np.where(outside, np.nan, xd), np.where(outside, np.nan, yd)


def undistort(camera: CameraIntrinsics, xd: Array, yd: Array) -> tuple[Array, Array]:
    """Ideal normalised coordinates of distorted ones, any shape; NaN where no ray has them."""
    if camera.distortion_model is DistortionModel.EQUIDISTANT:
        return _undistort_equidistant(camera, xd, yd)
    if not any(camera.distortion):
        return xd, yd
    return _undistort_brown(camera, xd, yd)


# Brown-Conrady in all its kinds --------------------------------------------------------------


def _brown_polynomials(camera: CameraIntrinsics) -> tuple[Array, Array]:
    """Numerator and denominator of the radial factor, ascending in s = r^2."""
    k = camera.distortion + (0.0,) * (8 - len(camera.distortion))
    return np.array([1.0, k[0], k[1], k[4]]), np.array([1.0, k[5], k[6], k[7]])


@lru_cache(maxsize=16)
def _brown_fold(camera: CameraIntrinsics) -> float:
    """Smallest s = r^2 where r * factor(r^2) stops growing or has a pole; inf if there is none."""
    n, d = _brown_polynomials(camera)
    s = np.array([0.0, 2.0])
    # d/dr of r n(s) / d(s), times d(s)^2.
    growth = polynomial.polysub(
        polynomial.polymul(polynomial.polyadd(n, polynomial.polymul(s, polynomial.polyder(n))), d),
        polynomial.polymul(polynomial.polymul(s, n), polynomial.polyder(d)),
    )
    return min(_first_positive_root(growth), _first_positive_root(d))


def _first_positive_root(coefficients: NDArray[np.floating[Any]]) -> float:
    # A leading coefficient of nearly zero only has roots far outside any lens, at infinity for numpy.
    roots = polynomial.polyroots(polynomial.polytrim(coefficients, _NEGLIGIBLE))
    real = roots.real[(np.abs(roots.imag) < 1e-9 * (1.0 + np.abs(roots.real))) & (roots.real > 0)]
    return float(real.min()) if real.size else math.inf


def _radial(camera: CameraIntrinsics, s: Array) -> tuple[Array, Array]:
    """The radial factor and its derivative by s = r^2."""
    n, d = _brown_polynomials(camera)
    numerator, denominator = polynomial.polyval(s, n), polynomial.polyval(s, d)
    factor = numerator / denominator
    slope = polynomial.polyval(s, polynomial.polyder(n)) - factor * polynomial.polyval(s, polynomial.polyder(d))
    return factor, slope / denominator


def _distort_brown(camera: CameraIntrinsics, x: Array, y: Array) -> tuple[Array, Array]:
    p1, p2 = camera.distortion[2:4]
    s = x * x + y * y
    factor, _ = _radial(camera, s)
    u, v = x * factor, y * factor
    if camera.distortion_model is DistortionModel.INVERSE_BROWN_CONRADY:
        return u + 2 * p1 * u * v + p2 * (s + 2 * u * u), v + 2 * p2 * u * v + p1 * (s + 2 * v * v)
    return u + 2 * p1 * x * y + p2 * (s + 2 * x * x), v + 2 * p2 * x * y + p1 * (s + 2 * y * y)


def _undistort_brown(camera: CameraIntrinsics, xd: Array, yd: Array) -> tuple[Array, Array]:
    """Newton's method with the Jacobian of the radial part.

    The tangential part is small, so leaving it out of the Jacobian costs an iteration or two and
    keeps the inverse in closed form (Sherman-Morrison) for all kinds alike.
    """
    fold = _brown_fold(camera)
    x, y = _inside(xd, yd, fold)
    for _ in range(_MAX_ITERATIONS):
        to_x, to_y = _distort_brown(camera, x, y)
        error_x, error_y = xd - to_x, yd - to_y
        s = x * x + y * y
        factor, slope = _radial(camera, s)
        along = 2 * slope * (x * error_x + y * error_y) / (factor + 2 * slope * s)
        x, y = _inside(x + (error_x - along * x) / factor, y + (error_y - along * y) / factor, fold)
        if not (np.maximum(np.abs(error_x), np.abs(error_y)) > _RESIDUAL).any():
            break
    to_x, to_y = _distort_brown(camera, x, y)
    solved = np.maximum(np.abs(xd - to_x), np.abs(yd - to_y)) <= 10 * _RESIDUAL
    return np.where(solved, x, np.nan), np.where(solved, y, np.nan)


def _inside(x: Array, y: Array, fold: float) -> tuple[Array, Array]:
    """Pull coordinates back to within the fold, where the Jacobian is regular."""
    if math.isinf(fold):
        return x, y
    shrink = np.minimum(1.0, 0.999999 * math.sqrt(fold) / np.maximum(np.hypot(x, y), 1e-300))
    return x * shrink, y * shrink


# Kannala-Brandt --------------------------------------------------------------------------------


def _equidistant_polynomial(camera: CameraIntrinsics) -> Array:
    """Distorted angle as a polynomial of the angle, ascending: t + k1 t^3 + k2 t^5 + ..."""
    k1, k2, k3, k4 = camera.distortion
    return np.array([0.0, 1.0, 0.0, k1, 0.0, k2, 0.0, k3, 0.0, k4])


@lru_cache(maxsize=16)
def _equidistant_fold(camera: CameraIntrinsics) -> float:
    """Angle in radians up to which the mapping grows; below 90 degrees, as depth is along z."""
    growth = polynomial.polyder(_equidistant_polynomial(camera))
    return min(_first_positive_root(growth), math.pi / 2 - 1e-6)


def _distort_equidistant(camera: CameraIntrinsics, x: Array, y: Array) -> tuple[Array, Array]:
    radius = np.hypot(x, y)
    angle = np.arctan(radius)
    bent = polynomial.polyval(angle, _equidistant_polynomial(camera))
    scale = np.where(radius > 1e-9, bent / np.maximum(radius, 1e-9), 1.0)
    scale = np.where(angle > _equidistant_fold(camera), np.nan, scale)
    return x * scale, y * scale


def _undistort_equidistant(camera: CameraIntrinsics, xd: Array, yd: Array) -> tuple[Array, Array]:
    mapping, fold = _equidistant_polynomial(camera), _equidistant_fold(camera)
    growth = polynomial.polyder(mapping)
    bent = np.hypot(xd, yd)
    angle = np.minimum(bent, fold)
    for _ in range(_MAX_ITERATIONS):
        error = bent - polynomial.polyval(angle, mapping)
        if not (np.abs(error) > _RESIDUAL).any():
            break
        slope = np.maximum(polynomial.polyval(angle, growth), 1e-6)
        angle = np.clip(angle + error / slope, 0.0, fold)
    solved = np.abs(bent - polynomial.polyval(angle, mapping)) <= 10 * _RESIDUAL
    scale = np.where(bent > 1e-9, np.tan(angle) / np.maximum(bent, 1e-9), 1.0)
    scale = np.where(solved, scale, np.nan)
    return xd * scale, yd * scale
