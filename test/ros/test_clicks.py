"""Points clicked in RViz, and the mouse on the overlay, with a real node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_tracker import CAMERA, FRAME_ID, RED, RED_BOX, ColorTracker, make_depth_m, make_frame, make_rgb
from geometry_msgs.msg import Point, PointStamped
from ros_harness import Harness, values_of
from sensor_msgs.msg import Image
from tf_messages import Broadcaster, matrix

from sam_perception.config import GeometryConfig
from sam_perception.errors import PromptError, PromptOutsideImage
from sam_perception.frame import CameraIntrinsics, DistortionModel, RgbdFrame
from sam_perception.geometry import deproject
from sam_perception.prompts import BoxPrompt, PointPrompt, Prompt
from sam_perception.ros.clicks import pixel_of

SECOND = 10**9
RED_AT, BLUE_AT = (17.0, 20.0), (47.0, 20.0)
GEOMETRY = GeometryConfig()


class NotingTracker(ColorTracker):
    """Keeps the prompts that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Prompt] = []

    def prompt(self, prompt: Prompt) -> None:
        self.given.append(prompt)
        super().prompt(prompt)


class Clicking:
    """A node that has seen a frame, and somebody who clicks."""

    def __init__(self, harness: Harness, **parameters: Any) -> None:
        self.harness, self.tracker = harness, NotingTracker()
        self.node = harness.node(self.tracker, **parameters)
        harness.objects()
        self.now = harness.send(SECOND)
        harness.scene_at(self.now)
        self._publishers: dict[str, Any] = {}

    def _publish(self, kind: Any, topic: str, message: Any) -> None:
        if topic not in self._publishers:
            self._publishers[topic] = self.harness.client.create_publisher(kind, f"/sam_perception/{topic}", 10)
            self.harness.until(self._publishers[topic].get_subscription_count)
        self._publishers[topic].publish(message)

    def point(self, xyz: Any, frame_id: str = FRAME_ID, stamp_ns: int = 0) -> None:
        message = PointStamped()
        message.header.frame_id = frame_id
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND)
        message.point = Point(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))
        self._publish(PointStamped, "clicked_point", message)

    def mouse(self, x: float, y: float, *, left: bool = True) -> None:
        self._publish(Point, f"overlay_mouse_{'left' if left else 'right'}", Point(x=x, y=y))

    def taken(self, count: int) -> list[Prompt]:
        """The prompts that the tracker got with a further frame."""
        self.harness.until(lambda: len(self.node._pipeline.desk.waiting) > 0)
        self.now = self.harness.send(self.now + SECOND // 10)
        self.harness.scene_at(self.now)
        assert len(self.tracker.given) == count
        return self.tracker.given

    def refused(self, kind: str, words: str) -> None:
        status = self.harness.status("frames", lambda s: kind in values_of(s).get("last error", ""))
        assert words in values_of(status)["last error"]
        assert self.tracker.given == []


def at_pixel(pixel: tuple[float, float], depth_m: float, camera: CameraIntrinsics = CAMERA) -> np.ndarray:
    return deproject(camera, np.array([pixel]), np.array([depth_m]))[0]


def test_a_point_of_the_camera_is_a_new_object_at_its_pixel(harness: Harness) -> None:
    clicking = Clicking(harness)
    clicking.point(at_pixel(RED_AT, 0.5))
    (prompt,) = clicking.taken(1)
    assert isinstance(prompt, PointPrompt)
    np.testing.assert_allclose(prompt.points, [RED_AT], atol=1e-4)
    assert (prompt.object_id, prompt.stamp_ns, prompt.labels.tolist()) == (1, SECOND, [1])
    clicking.point(at_pixel(RED_AT, 0.5))  # each click is another object
    assert clicking.taken(2)[1].object_id == 2


def test_a_point_of_another_frame_is_projected_by_the_transform_at_the_images_stamp(harness: Harness) -> None:
    clicking = Clicking(harness, transforms__always=True)
    tf = Broadcaster(harness, clicking.node)
    # The camera moves; in between, at the image's stamp, it is half-way.
    poses = [matrix((0, 0, 1), (0, 0, 0)), matrix((1.0, 0, 1), (0, 0, 90))]
    tf.send("map", FRAME_ID, poses[0], SECOND // 2)
    tf.send("map", FRAME_ID, poses[1], SECOND + SECOND // 2)
    tf.settled("map", FRAME_ID, SECOND)
    map_from_camera = matrix((0.5, 0, 1), (0, 0, 45))
    clicking.point(map_from_camera[:3, :3] @ at_pixel(BLUE_AT, 0.5) + map_from_camera[:3, 3], "map", 40 * SECOND)
    (prompt,) = clicking.taken(1)
    assert isinstance(prompt, PointPrompt)
    np.testing.assert_allclose(prompt.points, [BLUE_AT], atol=1e-3)


def test_a_click_with_an_images_stamp_is_for_that_image(harness: Harness) -> None:
    clicking = Clicking(harness)
    for i in range(1, 3):
        harness.scene_at(harness.send(SECOND + i * SECOND // 10))
    clicking.now = SECOND + 2 * SECOND // 10
    clicking.point(at_pixel(RED_AT, 0.5), stamp_ns=SECOND + SECOND // 10)
    assert clicking.taken(1)[0].stamp_ns == SECOND + SECOND // 10


@pytest.mark.parametrize(
    ("xyz", "frame_id", "kind", "words"),
    [
        ((0, 0, -1), FRAME_ID, "PromptOutsideImage", "behind the camera"),
        ((5, 0, 1), FRAME_ID, "PromptOutsideImage", "outside the 64 x 48 image"),
        (at_pixel(RED_AT, 1.0), FRAME_ID, "PromptError", "is hidden: it is 1.000 m deep"),
        ((np.nan, 0, 1), FRAME_ID, "PromptError", "must be finite"),
        ((0, 0, 1), "", "PromptError", "no frame_id"),
        ((0, 0, 1), "map", "TransformError", "set transforms.always"),
    ],
)
def test_what_the_camera_does_not_see_is_refused(
    harness: Harness, xyz: Any, frame_id: str, kind: str, words: str
) -> None:
    clicking = Clicking(harness)
    clicking.point(xyz, frame_id)
    clicking.refused(kind, words)


def test_a_point_in_a_frame_nobody_knows_is_refused(harness: Harness) -> None:
    clicking = Clicking(harness, transforms__always=True)
    clicking.point((0, 0, 1), "map")
    clicking.refused("UnknownFrame", "no transform leads from 'map'")


def test_a_click_before_the_first_image_is_refused(harness: Harness) -> None:
    harness.node()
    publisher = harness.client.create_publisher(Point, "/sam_perception/overlay_mouse_left", 10)
    harness.until(publisher.get_subscription_count)
    publisher.publish(Point(x=3.0, y=3.0))
    status = harness.status("frames", lambda s: "last error" in values_of(s))
    assert "before the first image" in values_of(status)["last error"]


def test_the_overlays_mouse_adds_on_the_picture_that_was_shown(harness: Harness) -> None:
    harness_overlay = harness
    clicking = Clicking(harness)
    shown = harness_overlay.inbox("/sam_perception/overlay", Image)
    clicking.now = harness.send(2 * SECOND)
    shown.wait()
    clicking.mouse(*RED_AT)
    (prompt,) = clicking.taken(1)
    assert isinstance(prompt, PointPrompt)
    assert prompt.stamp_ns == 2 * SECOND
    np.testing.assert_array_equal(prompt.points, [RED_AT])


def test_a_click_outside_the_picture_is_refused(harness: Harness) -> None:
    clicking = Clicking(harness)
    clicking.mouse(64.0, 10.0)
    clicking.refused("PromptOutsideImage", "outside the 64 x 48 image")


def test_background_is_taken_from_the_object_under_or_near_the_pixel(harness: Harness) -> None:
    clicking = Clicking(harness)
    clicking.mouse(30.0, 20.0, left=False)
    clicking.refused("PromptError", "no object within 30 px")
    assert harness.add(BoxPrompt(7, RED_BOX)).success
    assert len(clicking.taken(1)) == 1
    clicking.mouse(30.0, 20.0, left=False)  # five pixels beside the square
    prompt = clicking.taken(2)[1]
    assert isinstance(prompt, PointPrompt)
    assert (prompt.object_id, prompt.labels.tolist()) == (7, [0])


def test_with_correct_a_click_on_an_object_means_that_object(harness: Harness) -> None:
    clicking = Clicking(harness, clicks__action="correct", clicks__reach_px=4)
    assert harness.add(BoxPrompt(7, RED_BOX)).success
    clicking.taken(1)
    clicking.mouse(*RED_AT)
    assert clicking.taken(2)[1].object_id == 7
    clicking.mouse(28.0, 20.0)  # three pixels beside it
    assert clicking.taken(3)[2].object_id == 7
    clicking.mouse(*BLUE_AT)  # far from it: another object
    assert clicking.taken(4)[3].object_id == 1


# ---------------------------------------------------------------------- the lens


def lens_frame(camera: CameraIntrinsics, depth_m: float) -> RgbdFrame:
    shape = (camera.height, camera.width)
    return RgbdFrame(np.zeros((*shape, 3), np.uint8), np.full(shape, depth_m, np.float32), camera, 1, "camera")


@pytest.mark.parametrize("pixel", [(600.0, 440.0), (20.0, 30.0), (320.0, 240.0)])
def test_the_lens_is_part_of_the_projection(pixel: tuple[float, float]) -> None:
    bent = CameraIntrinsics(
        640, 480, 380.0, 380.0, 318.0, 241.0, DistortionModel.PLUMB_BOB, (-0.055, 0.065, 0.0, 0.001, -0.02)
    )
    point = at_pixel(pixel, 1.0, bent)
    x, y = pixel_of(lens_frame(bent, 1.0), point, GEOMETRY, 0.05)
    assert (x, y) == pytest.approx(pixel, abs=1e-3)
    if pixel != (320.0, 240.0):
        straight = replace(bent, distortion_model=DistortionModel.NONE, distortion=())
        assert pixel_of(lens_frame(straight, 1.0), point, GEOMETRY, 0.05) != pytest.approx(pixel, abs=2)


def test_a_point_before_or_at_the_surface_is_seen_and_one_behind_it_is_not() -> None:
    frame = make_frame()
    for depth_m in (0.3, 0.5, 0.54):
        assert pixel_of(frame, at_pixel(RED_AT, depth_m), GEOMETRY, 0.05) == pytest.approx(RED_AT, abs=1e-4)
    with pytest.raises(PromptError, match="hidden"):
        pixel_of(frame, at_pixel(RED_AT, 0.56), GEOMETRY, 0.05)
    # Where there is no depth nothing is known to be in front.
    depth_m = make_depth_m()
    depth_m[:] = 0
    blind = RgbdFrame(make_rgb(), depth_m, CAMERA, 1, FRAME_ID)
    assert tuple(blind.rgb[20, 17]) == RED
    assert pixel_of(blind, at_pixel(RED_AT, 3.0), GEOMETRY, 0.05) == pytest.approx(RED_AT, abs=1e-4)
    with pytest.raises(PromptOutsideImage):
        pixel_of(frame, at_pixel((64.0, 10.0), 1.0), GEOMETRY, 0.05)
