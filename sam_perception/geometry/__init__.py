"""Cameras, depth and clouds, in vectorised numpy: pixels to points and what the points say.

Everything is in the camera's optical frame (REP-103), in metres.
"""

from __future__ import annotations

from sam_perception.geometry.box import oriented_box
from sam_perception.geometry.camera import deproject, deproject_mask, project, ray_grid
from sam_perception.geometry.depth import (
    depth_evidence,
    depth_sigma_m,
    depth_valid,
    flying_pixels,
)
from sam_perception.geometry.grid import PixelGrid, pixel_grid, widened
from sam_perception.geometry.lift import lift, lift_scene
from sam_perception.geometry.plane_kinds import describe_planes, ground_plane, up_axis
from sam_perception.geometry.planes import find_planes, fit_plane, plane_tolerance_m
from sam_perception.geometry.sightings import Sightings
from sam_perception.geometry.surfaces import connected_surfaces, own_surface
from sam_perception.geometry.uncertainty import centroid_covariance

__all__ = [
    "PixelGrid",
    "Sightings",
    "centroid_covariance",
    "connected_surfaces",
    "deproject",
    "deproject_mask",
    "depth_evidence",
    "depth_sigma_m",
    "depth_valid",
    "describe_planes",
    "find_planes",
    "fit_plane",
    "flying_pixels",
    "ground_plane",
    "lift",
    "lift_scene",
    "oriented_box",
    "own_surface",
    "pixel_grid",
    "plane_tolerance_m",
    "project",
    "ray_grid",
    "up_axis",
    "widened",
]
