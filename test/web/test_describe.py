"""What the page is told, and the pictures."""

from __future__ import annotations

import json
import struct

import cv2
import numpy as np
from fake_backend import FIRST_NS, make_shot
from fake_tracker import BLUE, CAMERA, FRAME_ID, HEIGHT, RED_POINT, WIDTH, make_frame, red_mask

from sam_perception.overlay import color_of, draw_overlay
from sam_perception.scene import Region
from sam_perception.web import describe
from sam_perception.web.backend import Report
from sam_perception.web.pictures import make_picture
from sam_perception.web.wire import Probe


def decoded(jpeg: bytes) -> np.ndarray:
    """(H, W, 3) RGB, by OpenCV's decoder."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def test_a_frame_carries_its_stamp_exactly_and_its_objects() -> None:
    shot = make_shot(FIRST_NS, {3: "mug", 5: ""})
    message = describe.frame_message(make_picture(shot, shot.scene, "overlay", 95))
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    assert (header["type"], header["stamp"], header["frame_id"]) == ("frame", str(FIRST_NS), FRAME_ID)
    assert (header["width"], header["height"]) == (WIDTH, HEIGHT)
    mug, lost = header["objects"]
    assert (mug["id"], mug["label"], mug["state"], mug["pixels"]) == (3, "mug", "TRACKED", int(red_mask().sum()))
    assert mug["position_m"] == [0.1, 0.2, 0.5]
    np.testing.assert_allclose(mug["sigma_m"], 1e-3)
    assert mug["color"] == "#{:02x}{:02x}{:02x}".format(*color_of(3))
    assert (lost["state"], lost["position_m"], lost["unseen_s"]) == ("LOST", None, None)
    picture = decoded(message[4 + length :])
    expected = draw_overlay(shot.frame.rgb, shot.scene.objects)
    # JPEG halves the resolution of colours, not that of brightness.
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs((picture - expected.astype(float)) @ luma).mean() < 3
    # Inside the mask and below the caption the fill has changed the colour, beside it nothing has.
    assert np.abs(picture[26, 17].astype(int) - shot.frame.rgb[26, 17]).max() > 20


def test_the_colour_view_is_the_cameras_picture_red_first() -> None:
    shot = make_shot(FIRST_NS, {3: "mug"})
    picture = decoded(make_picture(shot, shot.scene, "color", 95).jpeg)
    assert np.abs(picture[20, 48].astype(int) - BLUE).max() < 12
    assert np.abs(picture.astype(int) - shot.frame.rgb).mean() < 4


def test_the_depth_view_is_red_near_and_blue_far_and_dark_where_nothing_is_known() -> None:
    depth_m = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    depth_m[:, :20] = 0.5
    depth_m[:, 40:] = 0.0
    depth_m[:, 52:] = np.nan
    frame = make_frame(FIRST_NS, depth_m=depth_m)
    shot = make_shot(FIRST_NS)
    picture = make_picture(type(shot)(frame, shot.scene), shot.scene, "depth", 95)
    assert picture.depth_range_m == (0.5, 2.0)
    rgb = decoded(picture.jpeg).astype(int)
    near, far, none = rgb[24, 8], rgb[24, 30], rgb[24, 56]
    assert near[0] > near[2] + 60
    assert far[2] > far[0]
    assert none.max() < 60
    nothing = make_frame(FIRST_NS, depth_m=np.zeros((HEIGHT, WIDTH), np.float32))
    assert make_picture(type(shot)(nothing, shot.scene), shot.scene, "depth", 95).depth_range_m is None


def test_under_the_cursor_are_depth_position_and_object() -> None:
    shot = make_shot(FIRST_NS, {3: "mug"})
    x, y = RED_POINT
    values = describe.probe_values(Probe(FIRST_NS, x + 0.4, y - 0.4), shot, shot.scene)
    assert (values["x"], values["y"], values["depth_m"], values["object_id"]) == (x, y, 0.5, 3)
    # The pinhole formula by hand.
    expected = [(x - CAMERA.cx) / CAMERA.fx * 0.5, (y - CAMERA.cy) / CAMERA.fy * 0.5, 0.5]
    np.testing.assert_allclose(values["position_m"], expected, rtol=1e-6)
    beside = describe.probe_values(Probe(FIRST_NS, 1e4, 1e4), shot, shot.scene)
    assert (beside["x"], beside["y"], beside["object_id"]) == (WIDTH - 1, HEIGHT - 1, 0)
    unknown = describe.probe_values(Probe(FIRST_NS, 0, 0), shot, shot.scene)
    assert (unknown["depth_m"], unknown["position_m"]) == (None, None)
    assert json.loads(describe.text_of("probe", unknown))["depth_m"] is None


def test_a_regions_outlines_fill_to_its_mask_with_its_hole() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:40, 10:60] = True
    mask[15:25, 20:40] = False
    outlines = describe.region_values(Region(4, mask, (10, 5, 50, 35), int(mask.sum()), 0.7, 0.9, (12.0, 7.0)))
    assert (outlines["id"], outlines["area"], outlines["score"]) == (4, int(mask.sum()), 0.7)
    assert len(outlines["outlines"]) == 2
    filled = np.zeros((HEIGHT, WIDTH), np.uint8)
    rings = [np.array(ring, np.int32).reshape(-1, 1, 2) for ring in outlines["outlines"]]
    cv2.fillPoly(filled, rings, 1)  # by the even-odd rule
    both, either = (mask & (filled > 0)).sum(), (mask | (filled > 0)).sum()
    assert both / either > 0.93  # OpenCV draws a hole's rim too


def test_a_report_has_no_number_that_json_does_not_know() -> None:
    report = Report("/n", "active", "nano", "cpu", latency_ms={"a": (float("nan"), 1.23456789, float("inf"))})
    heard = json.loads(describe.report_message(report), parse_constant=lambda name: AssertionError(name))
    assert heard["latency_ms"]["a"] == [None, 1.23457, None]
