"""The object to be grasped, and the space around it that fingers must not touch or cannot be seen in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sam_perception.config import GeometryConfig
from sam_perception.frame import CameraIntrinsics
from sam_perception.geometry import depth_sigma_m, project
from sam_perception.geometry.grid import PixelGrid
from sam_perception.manipulation.gripper import Gripper
from sam_perception.scene import Lifted, Plane, PlaneKind

Points = NDArray[np.float32]

_OWN = 512  # points of the object that grasps are computed on
_FINE = 4000  # and that the width of the best is measured on
_OTHERS = 3000  # points around it that are looked at
_NEIGHBOURS = 12
_ON_SUPPORT_M = 0.003  # plus noise: lower points are the support's, not the object's
_SUPPORT_SLACK_M = 0.03  # an object's lowest points may seem this much below what it stands on
_PARALLEL = 0.985  # cosine of 10 degrees
_HIDDEN_M = 0.01  # farther than this behind the seen surface is out of sight


@dataclass(frozen=True, eq=False)
class Space:
    """One object and what is around it, in the camera's optical frame."""

    fine: Points  # (F, 3) the object's, without what lies on the support
    own: Points  # (P, 3) some of them
    normals: Points  # (P, 3) towards the camera
    others: Points  # (N, 3) everything else that is seen nearby, but the support
    support: Plane | None  # what it stands on
    grid: PixelGrid
    camera: CameraIntrinsics

    @property
    def view(self) -> NDArray[np.float64]:
        """(3,) direction from the camera to the object."""
        middle = self.own.mean(axis=0, dtype=np.float64)
        return np.asarray(middle / np.linalg.norm(middle))

    def unseen(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which points (N, 3) the camera does not see: behind something, without depth, or outside the image."""
        pixels = project(self.camera, points)
        height, width = self.grid.valid.shape
        with np.errstate(invalid="ignore"):
            column, row = (np.floor(pixels / self.grid.step)).T
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        column, row = (np.where(inside, v, 0).astype(np.intp) for v in (column, row))
        seen_to = np.where(inside, self.grid.depth_m[row, column], np.float32(0))
        return np.asarray((seen_to == 0) | (points[:, 2] > seen_to + _HIDDEN_M))


def support_of(points: Points, planes: Sequence[Plane]) -> Plane | None:
    """The highest horizontal plane that is not above the object's lowest points (N, 3)."""
    ground = next((p for p in planes if p.kind is PlaneKind.GROUND), None)
    if ground is None:
        return None
    best, least = ground, np.inf
    for plane in planes:
        if plane is not ground and plane.kind is not PlaneKind.TABLE:
            continue
        height = float(np.percentile(plane.height_m(points), 5.0))
        if -_SUPPORT_SLACK_M < height < least and plane.normal @ ground.normal > _PARALLEL:
            best, least = plane, height
    return best


def space_around(
    lifted: Lifted,
    own_mask: NDArray[np.bool_],
    grid: PixelGrid,
    camera: CameraIntrinsics,
    planes: Sequence[Plane],
    gripper: Gripper,
    settings: GeometryConfig,
) -> Space:
    """The space around a lifted object; `own_mask` (h, w) are the grid's pixels on it, with their rim."""
    support = support_of(lifted.points, planes) if len(lifted.points) else None
    own = lifted.points
    if support is not None:
        own = own[_above(own, support, settings)]
    fine = own[:: max(1, -(-len(own) // _FINE))]
    own = own[:: max(1, -(-len(own) // _OWN))]
    others = _nearby(own, own_mask, grid, gripper)
    if support is not None and len(others):
        others = others[_above(others, support, settings)]
    others = others[:: max(1, -(-len(others) // _OTHERS))]
    return Space(fine, own, normals_of(own), others, support, grid, camera)


def _nearby(own: Points, own_mask: NDArray[np.bool_], grid: PixelGrid, gripper: Gripper) -> Points:
    """Points (N, 3) of the grid off the object that the gripper could come near."""
    near = grid.valid & ~own_mask
    if len(own):
        middle = 0.5 * (own.min(axis=0) + own.max(axis=0))
        reach = np.float32(0.5 * float(np.linalg.norm(np.ptp(own, axis=0))) + gripper.palm_width_m)
        for axis in range(3):
            near &= np.abs(grid.points[..., axis] - middle[axis]) < reach
    return grid.points[near]


def _above(points: Points, support: Plane, settings: GeometryConfig) -> NDArray[np.bool_]:
    tolerance = _ON_SUPPORT_M + 3.0 * depth_sigma_m(points[:, 2], settings)
    return np.asarray(support.height_m(points) > tolerance)


def normals_of(points: Points) -> Points:
    """Normals (N, 3) of a surface's points (N, 3), towards the camera: least squares on 12 neighbours each."""
    if len(points) < 3:
        return np.zeros_like(points)
    count = min(_NEIGHBOURS, len(points))
    _, near = cKDTree(points).query(points, k=count)
    around = points[near].astype(np.float64)
    around -= around.mean(axis=1, keepdims=True)
    normals = _least_axes(np.matmul(around.transpose(0, 2, 1), around))
    normals[np.einsum("ij,ij->i", normals, points) > 0] *= -1
    return np.asarray(normals, np.float32)


def _least_axes(scatter: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit eigenvectors (N, 3) of the least eigenvalues of symmetric matrices (N, 3, 3).

    In closed form, several times as fast as one small LAPACK call after the other: the eigenvalue by
    Smith 1961, "Eigenvalues of a symmetric 3 x 3 matrix"; all rows of scatter - value are normal to the vector.
    """
    identity = np.eye(3)
    mean = np.trace(scatter, axis1=1, axis2=2) / 3.0
    deviation = scatter - mean[:, None, None] * identity
    scale = np.maximum(np.sqrt((deviation**2).sum(axis=(1, 2)) / 6.0), 1e-18)
    a, b, c = (deviation[:, i] / scale[:, None] for i in range(3))
    half = np.clip(0.5 * np.einsum("ij,ij->i", a, _cross(b, c)), -1.0, 1.0)
    least = 2.0 * np.cos(np.arccos(half) / 3.0 + 2.0 * np.pi / 3.0)
    rows = [row - least[:, None] * identity[i] for i, row in enumerate((a, b, c))]
    normals = np.stack([_cross(rows[0], rows[1]), _cross(rows[1], rows[2]), _cross(rows[2], rows[0])])
    squares = np.einsum("kij,kij->ki", normals, normals)
    longest = squares.argmax(axis=0)
    chosen = np.arange(len(scatter))
    length = np.sqrt(np.maximum(squares[longest, chosen], 1e-30))
    return np.asarray(normals[longest, chosen] / length[:, None])


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cross products (N, 3) row by row; numpy's own takes three times as long."""
    out = np.empty_like(a)
    for i, (j, k) in enumerate(((1, 2), (2, 0), (0, 1))):
        out[:, i] = a[:, j] * b[:, k] - a[:, k] * b[:, j]
    return out
