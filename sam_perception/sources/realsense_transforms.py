"""How a RealSense's imagers lie to one another, as the tree of frames that realsense2_camera has.

`<name>_link` is the depth imager's place. `_link` and `_frame`s have x forward, y left, z up; images
are in the `_optical_frame`s, with x right, y down, z forward (REP-103):

    <name>_link -> <name>_depth_frame -> <name>_depth_optical_frame
                -> <name>_color_frame -> <name>_color_optical_frame

The names and what lies where follow realsense2_camera 4's `tfs.cpp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import TransformError
from sam_perception.frame import check_transform

Matrix = NDArray[np.float64]

BODY_FROM_OPTICAL: Matrix = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
BODY_FROM_OPTICAL.setflags(write=False)


@dataclass(frozen=True, eq=False)
class FixedTransform:
    """Where a frame lies in its parent, for ever."""

    parent: str
    child: str
    parent_from_child: Matrix  # (4, 4), metres


def matrix_of(extrinsics: Any) -> Matrix:
    """`to_from_from` (4, 4) of librealsense's extrinsics, whose rotation is column-major.

    Raises:
        TransformError: no rotation, as of a camera that was never calibrated.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(extrinsics.rotation, np.float64).reshape(3, 3).T
    matrix[:3, 3] = extrinsics.translation
    return check_transform(matrix)


def depth_from_color(sdk: Any, streams: Sequence[Any]) -> Matrix | None:
    """Colour's place in depth's optical frame (4, 4); None where the camera does not tell it.

    Args:
        sdk: the pyrealsense2 module.
        streams: profiles of the streams that run.
    """
    by_kind = {profile.stream_type(): profile for profile in streams}
    color, depth = by_kind.get(sdk.stream.color), by_kind.get(sdk.stream.depth)
    if color is None or depth is None:
        return None
    try:
        return matrix_of(color.get_extrinsics_to(depth))
    except (RuntimeError, TransformError):  # "Requested extrinsics are not available!"
        return None


def camera_tree(name: str, depth_from_color: Matrix) -> tuple[FixedTransform, ...]:
    """The four transforms of a camera.

    Args:
        name: what all frames' names begin with.
        depth_from_color: colour's place in depth's optical frame (4, 4).
    """
    link = f"{name}_link"
    # A change of axes on both sides: what lies to the right of depth's optical frame lies at -y of its body.
    link_from_color = BODY_FROM_OPTICAL @ depth_from_color @ BODY_FROM_OPTICAL.T
    return (
        FixedTransform(link, f"{name}_depth_frame", np.eye(4)),
        FixedTransform(f"{name}_depth_frame", f"{name}_depth_optical_frame", BODY_FROM_OPTICAL),
        FixedTransform(link, f"{name}_color_frame", link_from_color),
        FixedTransform(f"{name}_color_frame", f"{name}_color_optical_frame", BODY_FROM_OPTICAL),
    )
