"""Where cameras are, from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sam_perception.errors import ConfigError
from sam_perception.sources.extrinsics import read_extrinsics


def test_poses_are_read(tmp_path: Path) -> None:
    turn = Rotation.from_euler("xyz", [0.3, -0.8, 1.9])
    quaternion = [round(float(q), 7) for q in turn.as_quat()]
    (tmp_path / "e.yaml").write_text(
        f"frame: table\ncameras:\n  left: {{position: [1, 2, 3], quaternion: {quaternion}}}\n"
    )
    known = read_extrinsics(tmp_path / "e.yaml")
    assert known.frame == "table"
    np.testing.assert_allclose(known.common_from_camera["left"][:3, :3], turn.as_matrix(), atol=1e-6)
    np.testing.assert_allclose(known.common_from_camera["left"][:, 3], [1, 2, 3, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs 'frame: NAME'"),
        ("[1, 2]", "needs 'frame: NAME'"),
        ("frame: [", "is not YAML"),
        ("frame: t\ncameras: {}", "needs 'frame: NAME'"),
        ("frame: t\ncameras: {a: {position: [0, 0, 0]}}", "write position"),
        ("frame: t\ncameras: {a: {position: [0, 0], quaternion: [0, 0, 0, 1]}}", "three numbers"),
        ("frame: t\ncameras: {a: {position: [0, 0, .nan], quaternion: [0, 0, 0, 1]}}", "three numbers"),
        ("frame: t\ncameras: {a: {position: [0, 0, 0], quaternion: [0, 0, 0, 2]}}", "length 2.000: it must be 1"),
        ("frame: t\ncameras: {a: {position: [0, 0, 0], quaternion: [0, 0, 0, .nan]}}", "length nan: it must be 1"),
    ],
)
def test_mistakes_are_said(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "e.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_extrinsics(tmp_path / "e.yaml")
