"""Where cameras are, from a file: for machines without tf.

frame: table                             # the common frame
cameras:
left:                                  # its optical frame in the common one: x right, y down, z forward
position: [-0.42, 0.10, 0.55]        # metres
quaternion: [-0.66, 0.27, -0.27, 0.65]   # x y z w
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from sam_perception.errors import ConfigError
from sam_perception.recorded import matrix_from_quaternion

_UNIT_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class Extrinsics:
    """Cameras in a common frame."""

    frame: str
    common_from_camera: Mapping[str, NDArray[np.float64]]  # (4, 4) by camera


def read_extrinsics(path: Path | str) -> Extrinsics:
    """Read the file.

    Raises:
        ConfigError: it cannot be read, or an entry is wrong; the message says which.
    """
    path = Path(path)
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): give a file with 'frame' and 'cameras'") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    cameras = entries.get("cameras") if isinstance(entries, dict) else None
    if not isinstance(cameras, dict) or not cameras or not isinstance(entries.get("frame"), str):
        raise ConfigError(f"{path} needs 'frame: NAME' and, under 'cameras:', one entry per camera")
    return Extrinsics(entries["frame"], {str(name): _pose(path, name, pose) for name, pose in cameras.items()})


def _pose(path: Path, name: str, pose: Any) -> NDArray[np.float64]:
    try:
        position = np.array(pose["position"], np.float64)
        quaternion = np.array(pose["quaternion"], np.float64)
    except (TypeError, KeyError, ValueError):
        raise ConfigError(
            f"{path}: camera {name} is {pose!r}: write position: [x, y, z] and quaternion: [x, y, z, w]"
        ) from None
    length = float(np.linalg.norm(quaternion))
    if position.shape != (3,) or quaternion.shape != (4,) or not np.isfinite(position).all():
        raise ConfigError(f"{path}: camera {name} needs three numbers for position and four for quaternion")
    if not abs(length - 1.0) < _UNIT_TOLERANCE:
        raise ConfigError(f"{path}: camera {name} has a quaternion of length {length:.3f}: it must be 1")
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = matrix_from_quaternion(*(quaternion / length)), position
    return matrix
