"""The vocabulary: what is accepted, what is refused and with which words."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sam_perception.errors as errors_module
from sam_perception import (
    BoxPrompt,
    CameraIntrinsics,
    DistortionModel,
    GeometryConfig,
    MaskPrompt,
    ObjectState,
    PerceptionConfig,
    PointPrompt,
    RgbdFrame,
    Scene,
    Track,
    TrackerConfig,
)
from sam_perception.errors import (
    ConfigError,
    DepthNotAligned,
    EmptyPrompt,
    FrameError,
    InvalidIntrinsics,
    MalformedImage,
    PerceptionError,
    PromptError,
    PromptOutsideImage,
    StampError,
    UnknownObject,
)
from sam_perception.prompts import with_object_id
from sam_perception.settings import settings_of, with_settings

WIDTH, HEIGHT = 8, 6
CAMERA = CameraIntrinsics(WIDTH, HEIGHT, 10.0, 11.0, 3.5, 2.5)


# ---------------------------------------------------------------------- errors


def test_every_error_is_of_the_family_and_names_its_kind() -> None:
    kinds = [k for k in vars(errors_module).values() if isinstance(k, type) and issubclass(k, Exception)]
    assert len(kinds) > 15
    for kind in kinds:
        assert issubclass(kind, PerceptionError)
        error = kind("what was seen: what to do")
        assert error.kind == kind.__name__
        assert str(error) == "what was seen: what to do"  # also where the base quotes its argument


def test_errors_are_caught_as_pythons_own_too() -> None:
    with pytest.raises(ValueError, match="fx"):
        CameraIntrinsics(4, 4, 0.0, 1.0, 0.0, 0.0)
    with pytest.raises(KeyError):
        raise UnknownObject("no object 3")


# ---------------------------------------------------------------------- frames


def frame(**changes: Any) -> RgbdFrame:
    fields: dict[str, Any] = {
        "rgb": np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        "depth_m": np.ones((HEIGHT, WIDTH), np.float32),
        "intrinsics": CAMERA,
        "stamp_ns": 5,
        "frame_id": "optical",
    }
    return RgbdFrame(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"rgb": np.zeros((HEIGHT, WIDTH), np.uint8)}, MalformedImage, r"shape \(6, 8\): pass \(H, W, 3\) uint8"),
        ({"rgb": np.zeros((HEIGHT, WIDTH, 3))}, MalformedImage, "colour is float64"),
        ({"rgb": np.zeros((HEIGHT, WIDTH, 4), np.uint8)}, MalformedImage, r"\(6, 8, 4\)"),
        ({"depth_m": np.ones((HEIGHT, WIDTH))}, MalformedImage, "depth is float64"),
        ({"depth_m": np.ones((HEIGHT, WIDTH), np.uint16)}, MalformedImage, "depth is uint16.*metres"),
        ({"depth_m": np.ones((HEIGHT, WIDTH + 1), np.float32)}, DepthNotAligned, r"\(6, 9\).*\(6, 8\).*align_depth"),
        ({"intrinsics": dataclasses.replace(CAMERA, width=9)}, InvalidIntrinsics, "for 9 x 6.*image is 8 x 6"),
        ({"stamp_ns": -1}, StampError, "-1 ns"),
        ({"frame_id": ""}, FrameError, "frame_id is empty"),
    ],
)
def test_frames_that_cannot_be_are_refused(changes: dict[str, Any], kind: type[FrameError], text: str) -> None:
    with pytest.raises(kind, match=text):
        frame(**changes)


def test_a_frame_shares_its_arrays_and_cannot_change_them() -> None:
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    made = frame(rgb=rgb)
    assert np.shares_memory(made.rgb, rgb)
    with pytest.raises(ValueError, match="read-only"):
        made.rgb[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        made.depth_m[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.stamp_ns = 6  # type: ignore[misc]
    rgb[0, 0] = 1  # the caller's own stays writable
    assert (made.width, made.height) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("name", ["fx", "fy", "cx", "cy"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_intrinsics_must_be_finite(name: str, value: float) -> None:
    with pytest.raises(InvalidIntrinsics, match=f"{name}={value}"):
        dataclasses.replace(CAMERA, **{name: value})


def test_intrinsics_must_make_a_camera() -> None:
    for changes in ({"fx": 0.0}, {"fy": -1.0}, {"width": 0}, {"height": -2}):
        with pytest.raises(InvalidIntrinsics, match="must be"):
            dataclasses.replace(CAMERA, **changes)
    with pytest.raises(InvalidIntrinsics, match="not finite"):
        dataclasses.replace(CAMERA, distortion_model=DistortionModel.PLUMB_BOB, distortion=(float("nan"),))


def test_distortion_has_the_models_length() -> None:
    plumb = dataclasses.replace(CAMERA, distortion_model=DistortionModel.PLUMB_BOB, distortion=(0.1, 0.2))
    assert plumb.distortion == (0.1, 0.2, 0.0, 0.0, 0.0)
    padded = (0.1, 0.2, 0.3, 0.4, 0.0, 0.0, 0.0)
    fisheye = dataclasses.replace(CAMERA, distortion_model=DistortionModel.EQUIDISTANT, distortion=padded)
    assert fisheye.distortion == (0.1, 0.2, 0.3, 0.4)
    with pytest.raises(InvalidIntrinsics, match="equidistant has 4 coefficients"):
        dataclasses.replace(fisheye, distortion=(0.1, 0.2, 0.3, 0.4, 0.5))
    np.testing.assert_array_equal(CAMERA.matrix, [[10, 0, 3.5], [0, 11, 2.5], [0, 0, 1]])


# ---------------------------------------------------------------------- prompts


@pytest.mark.parametrize("object_id", [0, -1, 65536, 1.5, "1", True, None])
def test_object_ids_are_whole_numbers_that_fit_the_mask(object_id: Any) -> None:
    with pytest.raises(PromptError, match="65535"):
        PointPrompt(object_id, [[1, 1]])


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: PointPrompt(1, []), EmptyPrompt, "no points"),
        (lambda: PointPrompt(1, [[1, 2, 3]]), PromptError, r"shape \(1, 3\)"),
        (lambda: PointPrompt(1, [[1, np.inf]]), PromptError, "not finite"),
        (lambda: PointPrompt(1, [[1, 1]], [1, 0]), PromptError, "1 points have 2 labels"),
        (lambda: PointPrompt(1, [[1, 1]], [2]), PromptError, r"\[2\]: 1 is foreground"),
        (lambda: PointPrompt(1, [[1, 1]], stamp_ns=-5), PromptError, "-5 ns"),
        (lambda: BoxPrompt(1, (1, 1, 1, 5)), EmptyPrompt, "x_max must exceed x_min"),
        (lambda: BoxPrompt(1, (5, 5, 1, 1)), EmptyPrompt, "is empty"),
        (lambda: BoxPrompt(1, (1, 1, 5)), PromptError, "four finite numbers"),  # type: ignore[arg-type]
        (lambda: BoxPrompt(1, (1, 1, 5, np.nan)), PromptError, "four finite numbers"),
        (lambda: MaskPrompt(1, np.zeros((4, 4), bool)), EmptyPrompt, "4 x 4 mask has no pixel"),
        (lambda: MaskPrompt(1, np.ones((1, 4, 4), bool)), PromptError, r"\(1, 4, 4\)"),
    ],
)
def test_prompts_that_mark_nothing_are_refused(make: Any, kind: type[PromptError], text: str) -> None:
    with pytest.raises(kind, match=text):
        make()


@given(x=st.floats(-2, WIDTH + 2, width=32), y=st.floats(-2, HEIGHT + 2, width=32), background=st.booleans())
def test_a_click_is_inside_when_it_lies_on_a_pixel(x: float, y: float, background: bool) -> None:
    prompt = PointPrompt(1, [[x, y]], [int(not background)])
    # Pixels are squares around whole coordinates.
    if 0 <= np.floor(x + 0.5) <= WIDTH - 1 and 0 <= np.floor(y + 0.5) <= HEIGHT - 1:
        prompt.check_inside(WIDTH, HEIGHT)
    elif x != WIDTH - 0.5 and y != HEIGHT - 0.5:  # the outer edge belongs to nobody
        with pytest.raises(PromptOutsideImage, match="8 x 6 image"):
            prompt.check_inside(WIDTH, HEIGHT)


def test_boxes_and_masks_must_lie_on_the_image() -> None:
    BoxPrompt(1, (0, 0, WIDTH, HEIGHT)).check_inside(WIDTH, HEIGHT)
    for box in ((-1, 0, 4, 4), (0, -1, 4, 4), (0, 0, 8.5, 4), (0, 0, 4, 7)):
        with pytest.raises(PromptOutsideImage, match="leaves the 8 x 6 image"):
            BoxPrompt(1, box).check_inside(WIDTH, HEIGHT)
    with pytest.raises(PromptOutsideImage, match=r"points \[\[9.0, 1.0\]\]"):
        BoxPrompt(1, (0, 0, 4, 4), [[9, 1]]).check_inside(WIDTH, HEIGHT)
    MaskPrompt(1, np.ones((HEIGHT, WIDTH), bool)).check_inside(WIDTH, HEIGHT)
    with pytest.raises(PromptOutsideImage, match="mask is 6 x 8, the image 8 x 6"):
        MaskPrompt(1, np.ones((WIDTH, HEIGHT), bool)).check_inside(WIDTH, HEIGHT)


def test_prompts_keep_their_own_copies() -> None:
    points, mask = np.ones((1, 2), np.float32), np.ones((HEIGHT, WIDTH), bool)
    clicks, drawn = PointPrompt(1, points), MaskPrompt(1, mask)
    points[:], mask[:] = 7, False
    assert clicks.points.tolist() == [[1, 1]]
    assert clicks.labels.tolist() == [1]
    assert drawn.mask.all()
    for array in (clicks.points, clicks.labels, drawn.mask):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
    other = with_object_id(clicks, 9)
    assert (other.object_id, clicks.object_id) == (9, 1)


# ---------------------------------------------------------------------- scenes


def track(object_id: int, mask_score: float, box: tuple[int, int, int, int] | None) -> Track:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    if box is not None:
        x0, y0, x1, y1 = box
        mask[y0:y1, x0:x1] = True
    return Track(object_id, "", ObjectState.TRACKED if box else ObjectState.LOST, 0.9, mask_score, mask, 1)


def test_where_masks_overlap_the_surer_one_wins_whatever_the_order() -> None:
    sure, unsure, gone = track(3, 0.9, (0, 0, 4, 4)), track(8, 0.5, (2, 2, 6, 6)), track(2, 1.0, None)
    for objects in ((gone, sure, unsure), (unsure, sure, gone)):
        ids = Scene(1, "optical", WIDTH, HEIGHT, objects).id_mask
        assert ids.dtype == np.uint16
        expected = np.zeros((HEIGHT, WIDTH), int)
        expected[2:6, 2:6] = 8
        expected[0:4, 0:4] = 3
        np.testing.assert_array_equal(ids, expected)
    assert not Scene(1, "optical", WIDTH, HEIGHT).id_mask.any()


def test_the_roi_bounds_the_mask() -> None:
    assert track(1, 1.0, (2, 1, 5, 6)).roi == (2, 1, 3, 5)
    assert track(1, 1.0, None).roi == (0, 0, 0, 0)
    rng = np.random.default_rng(0)
    mask = rng.random((HEIGHT, WIDTH)) > 0.8
    x, y, w, h = dataclasses.replace(track(1, 1.0, None), mask=mask).roi
    assert mask[y : y + h, x : x + w].sum() == mask.sum()
    assert all(edge.any() for edge in (mask[y], mask[y + h - 1], mask[:, x], mask[:, x + w - 1]))


def test_objects_are_found_by_id() -> None:
    scene = Scene(1, "optical", WIDTH, HEIGHT, (track(3, 0.9, None),))
    assert scene.object(3).id == 3
    with pytest.raises(UnknownObject, match=r"no object 4 in this scene, it has \[3\]"):
        scene.object(4)


def test_visible_states_are_those_with_a_mask() -> None:
    assert {s for s in ObjectState if s.visible} == {ObjectState.TRACKED, ObjectState.REACQUIRED}
    # The message's constants are these numbers.
    msg = pytest.importorskip("sam_perception.msg", reason="the messages are not built")
    assert all(getattr(msg.TrackedObject, s.name) == s.value for s in ObjectState)


# ---------------------------------------------------------------------- config


def all_settings() -> list[Any]:
    return list(settings_of(PerceptionConfig()))


def test_defaults_are_within_their_own_limits_and_described() -> None:
    for s in all_settings():
        assert len(s.doc) > 10, s.name
        with_settings(PerceptionConfig(), {s.name: s.default})


@pytest.mark.parametrize("s", [s for s in all_settings() if s.low is not None], ids=lambda s: s.name)
def test_numbers_outside_their_limits_are_refused(s: Any) -> None:
    kind = type(s.default)
    for limit, beyond in ((s.low, s.low - 1), (s.high, s.high + 1)):
        with pytest.raises(ConfigError, match=f"{s.name.rpartition('.')[2]} is .*must lie between"):
            with_settings(PerceptionConfig(), {s.name: kind(beyond)})
        changed = with_settings(PerceptionConfig(), {s.name: kind(limit)})
        assert {x.name: x.default for x in settings_of(changed)}[s.name] == limit
    if kind is float:
        with pytest.raises(ConfigError):
            with_settings(PerceptionConfig(), {s.name: float("nan")})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"modle": "nano"}, "unknown setting 'modle': known here are model, device"),
        ({"geometry.min_deph_m": 0.1}, "unknown setting 'min_deph_m'"),
        ({"max_objects": "8"}, r"max_objects is '8' \(str\): pass a int"),
        ({"max_objects": True}, r"max_objects is True \(bool\): pass a int"),
        ({"max_objects": 8.0}, r"\(float\): pass a int"),
        ({"geometry.remove_outliers": 1}, r"\(int\): pass a bool"),
        ({"dtype": "float8"}, "choose one of auto, float32"),
        ({"geometry": 3}, "geometry is a group"),
        ({"model.name": "nano"}, "model is not a group"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        with_settings(PerceptionConfig(), values)


def test_settings_change_by_dotted_names_and_by_groups() -> None:
    base = PerceptionConfig()
    dotted = with_settings(base, {"model": "edgetam", "geometry.min_depth_m": 1, "tracker.confirm_frames": 5})
    nested = with_settings(
        base, {"model": "edgetam", "geometry": {"min_depth_m": 1.0}, "tracker": {"confirm_frames": 5}}
    )
    assert dotted == nested
    assert dotted.geometry == GeometryConfig(min_depth_m=1.0)
    assert type(dotted.geometry.min_depth_m) is float
    assert dotted.tracker == TrackerConfig(confirm_frames=5)
    assert base == PerceptionConfig()
