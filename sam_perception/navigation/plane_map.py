"""Planes in a frame that does not move, each from all the frames in which it was seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_perception.geometry.plane_kinds import angle_deg
from sam_perception.scene import Plane, PlaneKind

_SAME_DEG = 5.0
_SAME_M = 0.05
_MAPPED = (PlaneKind.GROUND, PlaneKind.TABLE, PlaneKind.WALL)


@dataclass(eq=False)
class _Mapped:
    id: int
    moments: NDArray[np.float64]  # (4, 4) of homogeneous points in the fixed frame, per unit of weight
    weight: float
    against: int = 0  # frames in a row in which what was seen there did not fit


class PlaneMap:
    """Averages planes over time where the camera's pose is known.

    What a frame says of a plane is wrong in ways that its many points share: the pose, the sensor's
    distortion. So every frame has the same weight, older ones exponentially less
    (`memory_frames`), and a plane is the least squares fit to the points of all of them, by
    their second moments: what the camera saw of it from several places gives it its direction.
    """

    def __init__(self) -> None:
        self._mapped: list[_Mapped] = []
        self._next_id = 1

    def forget(self) -> None:
        """Start anew, with new ids."""
        self._mapped = []

    def update(
        self,
        planes: Sequence[tuple[Plane, NDArray[np.float32]]],
        fixed_from_camera: NDArray[np.float64],
        memory_frames: int,
        switch_frames: int,
    ) -> tuple[Plane, ...]:
        """The planes that are seen now, averaged, in the fixed frame.

        Args:
            planes: with the points (N, 3) on each, in the camera's frame.
            fixed_from_camera: (4, 4).
            memory_frames: frames after which a sight counts 1/e.
            switch_frames: a plane that does not fit its average for so many frames in a row starts anew.
        """
        averaged = []
        for plane, points in planes:
            if plane.kind in _MAPPED and len(points) >= 3:
                here = _moments(points, fixed_from_camera)
                camera = fixed_from_camera[:3, 3]
                one = self._take(here, camera, 1.0 - 1.0 / max(memory_frames, 1), switch_frames)
                averaged.append(_as_plane(plane, one, fixed_from_camera))
        return tuple(averaged)

    def _take(self, here: NDArray[np.float64], camera: NDArray[np.float64], keep: float, switch_frames: int) -> _Mapped:
        normal, _ = _fit(here, camera)
        middle = here[:3, 3]
        for one in self._mapped:
            known_normal, known_offset = _fit(one.moments, camera)
            near = abs(float(known_normal @ middle + known_offset)) < _SAME_M
            if near and angle_deg(known_normal, normal) < _SAME_DEG:
                one.moments = (keep * one.weight * one.moments + here) / (keep * one.weight + 1.0)
                one.weight, one.against = keep * one.weight + 1.0, 0
                return one
            if near:
                one.against += 1
        self._mapped = [one for one in self._mapped if one.against < switch_frames]
        new = _Mapped(self._next_id, here, 1.0)
        self._next_id += 1
        self._mapped.append(new)
        return new


def _moments(points: NDArray[np.float32], fixed_from_camera: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of p p^T (4, 4) of homogeneous points p, in the fixed frame."""
    flat = np.ones((len(points), 4))
    flat[:, :3] = points
    moved: NDArray[np.float64] = fixed_from_camera @ (flat.T @ flat / len(flat)) @ fixed_from_camera.T
    return moved


def _fit(moments: NDArray[np.float64], camera: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Normal (3,), towards the camera (3,), and offset of the least squares plane of these moments."""
    mean = moments[:3, 3] / moments[3, 3]
    normal = np.linalg.eigh(moments[:3, :3] / moments[3, 3] - np.outer(mean, mean))[1][:, 0]
    normal = normal if normal @ (camera - mean) > 0 else -normal
    return normal, -float(normal @ mean)


def _as_plane(plane: Plane, one: _Mapped, fixed_from_camera: NDArray[np.float64]) -> Plane:
    normal, offset = _fit(one.moments, fixed_from_camera[:3, 3])
    outline = plane.outline_m @ fixed_from_camera[:3, :3].T + fixed_from_camera[:3, 3]
    outline = outline - (outline @ normal + offset)[:, None] * normal
    return dataclasses.replace(plane, normal=normal, offset_m=offset, outline_m=outline, id=one.id)
