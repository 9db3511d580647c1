"""Where a RealSense's frames lie, against librealsense's own transformation of points."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_realsense import SoftwareCamera, sdk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sam_perception.messages import quaternion_from_matrix
from sam_perception.sources.realsense import RealSenseConfig
from sam_perception.sources.realsense_sdk import Stream, open_camera, open_recording
from sam_perception.sources.realsense_transforms import camera_tree, depth_from_color, matrix_of

TURN = Rotation.from_euler("xyz", (0.5, -1.0, 2.0), degrees=True).as_matrix()
SHIFT_M = (0.015, -0.002, 0.001)
POINT = (0.3, -0.2, 1.5)  # in depth's optical frame


def extrinsics(turn: NDArray[np.float64] = TURN, shift_m: tuple[float, ...] = SHIFT_M) -> Any:
    """From depth to colour, as the SDK has them: column-major."""
    made = sdk().extrinsics()
    made.rotation, made.translation = turn.T.ravel().tolist(), list(shift_m)
    return made


def inverted(given: Any) -> Any:
    turn = np.array(given.rotation).reshape(3, 3).T
    return extrinsics(turn.T, tuple(-turn.T @ np.array(given.translation)))


def chain(tree: Any, child: str) -> NDArray[np.float64]:
    """camera_link_from_child (4, 4)."""
    by_child = {one.child: one for one in tree}
    matrix = np.eye(4)
    while child in by_child:
        matrix, child = by_child[child].parent_from_child @ matrix, by_child[child].parent
    assert child == "camera_link"
    return matrix


def test_a_d435_worked_by_hand() -> None:
    # p_color = p_depth + 15 mm along x: colour sits 15 mm to the *left* of depth, which is +y of camera_link.
    tree = camera_tree("camera", matrix_of(inverted(extrinsics(np.eye(3), (0.015, 0.0, 0.0)))))
    by_child = {one.child: one for one in tree}
    assert {name: one.parent for name, one in by_child.items()} == {
        "camera_depth_frame": "camera_link",
        "camera_depth_optical_frame": "camera_depth_frame",
        "camera_color_frame": "camera_link",
        "camera_color_optical_frame": "camera_color_frame",
    }
    np.testing.assert_array_equal(by_child["camera_depth_frame"].parent_from_child, np.eye(4))
    color = by_child["camera_color_frame"].parent_from_child
    np.testing.assert_allclose(color[:3, 3], (0.0, 0.015, 0.0), atol=1e-9)
    np.testing.assert_allclose(color[:3, :3], np.eye(3), atol=1e-9)
    for name in ("depth", "color"):
        optical = by_child[f"camera_{name}_optical_frame"].parent_from_child
        # tf2's setRPY(-pi/2, 0, -pi/2), as realsense2_camera has it.
        np.testing.assert_allclose(quaternion_from_matrix(optical[:3, :3]), (-0.5, 0.5, -0.5, 0.5), atol=1e-12)
        np.testing.assert_array_equal(optical[:3, 3], 0)
    # Ahead of the lens, to its right, above it: x, -y, z of the body.
    np.testing.assert_allclose(chain(tree, "camera_depth_optical_frame") @ (0.2, -0.1, 3.0, 1), (3.0, -0.2, 0.1, 1))


def test_every_axis_goes_where_it_belongs() -> None:
    # p_color = p_depth + t: colour's origin is -t in depth's optical frame; (x, y, z) there is (z, -x, -y) of the body.
    tree = camera_tree("camera", matrix_of(inverted(extrinsics(np.eye(3), (0.01, 0.02, -0.03)))))
    np.testing.assert_allclose(chain(tree, "camera_color_frame")[:3, 3], (0.03, 0.01, 0.02), atol=1e-9)


def test_a_turned_camera_is_turned_about_the_bodys_axis() -> None:
    # Colour's optical axes are depth's, turned by 90 degrees about y (down): about -z of the body.
    quarter = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    tree = camera_tree("camera", matrix_of(extrinsics(quarter, (0, 0, 0))))
    turned = Rotation.from_matrix(chain(tree, "camera_color_frame")[:3, :3]).as_rotvec(degrees=True)
    np.testing.assert_allclose(turned, (0, 0, -90), atol=1e-5)


def test_a_point_goes_through_the_tree_as_through_the_sdk() -> None:
    given = extrinsics()
    expected = sdk().rs2_transform_point_to_point(given, list(POINT))
    tree = camera_tree("camera", matrix_of(inverted(given)))
    color_from_depth = np.linalg.inv(chain(tree, "camera_color_optical_frame")) @ chain(
        tree, "camera_depth_optical_frame"
    )
    np.testing.assert_allclose((color_from_depth @ (*POINT, 1))[:3], expected, atol=1e-6)
    assert np.linalg.norm(np.array(expected) - POINT) > 0.005  # it makes a difference


def turned_camera() -> SoftwareCamera:
    """Told from depth to colour; the SDK turns that over."""
    camera = SoftwareCamera("3")
    camera._depth_profile.register_extrinsics_to(camera._color_profile, extrinsics())
    return camera


def check_stream(stream: Stream) -> None:
    try:
        assert stream.depth_from_color is not None
        expected = sdk().rs2_transform_point_to_point(extrinsics(), list(POINT))
        np.testing.assert_allclose(stream.depth_from_color @ (*expected, 1), (*POINT, 1), atol=1e-6)
    finally:
        stream.close()


def test_a_running_camera_and_its_recording_tell_how_colour_lies_to_depth(tmp_path: Path) -> None:
    camera, context = turned_camera(), sdk().context()
    camera.plug_into(context)
    check_stream(open_camera(RealSenseConfig(width=0, height=0, fps=0), context))
    check_stream(open_recording(turned_camera().record(tmp_path / "recording.db3", 3)))


@pytest.mark.parametrize("given", [None, ([0.0] * 9, [0.0] * 3), ([float("nan")] * 9, [0.0] * 3)])
def test_a_camera_that_does_not_tell_is_not_given_a_place(given: Any) -> None:
    def told(_: Any) -> Any:
        if given is None:
            raise RuntimeError("Requested extrinsics are not available!")
        return SimpleNamespace(rotation=given[0], translation=given[1])

    profiles = [
        SimpleNamespace(stream_type=lambda: sdk().stream.color, get_extrinsics_to=told),
        SimpleNamespace(stream_type=lambda: sdk().stream.depth),
    ]
    assert depth_from_color(sdk(), profiles) is None
    assert depth_from_color(sdk(), profiles[1:]) is None
