"""The drawn picture: colours, captions, and that nothing else is touched."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from sam_perception.overlay import caption_of, color_of, draw_overlay
from sam_perception.scene import ObjectState, Track

GREY = np.full((120, 160, 3), 90, np.uint8)


def track(object_id: int, state: ObjectState = ObjectState.TRACKED, *, rows: slice = slice(60, 90)) -> Track:
    mask = np.zeros(GREY.shape[:2], bool)
    if state.visible:
        mask[rows, 40:100] = True
    return Track(object_id, "cup", state, 0.9, 0.8, mask, 0)


def test_the_input_is_left_alone_and_pixels_away_from_objects_stay() -> None:
    before = GREY.copy()
    picture = draw_overlay(GREY, [track(1)])
    np.testing.assert_array_equal(GREY, before)
    np.testing.assert_array_equal(picture[100:], GREY[100:])
    np.testing.assert_array_equal(picture[:, 120:], GREY[:, 120:])


def test_inside_is_a_blend_of_picture_and_the_objects_colour() -> None:
    inside = draw_overlay(GREY, [track(3)])[75, 70].astype(int)
    color = np.array(color_of(3))
    assert (np.minimum(color, 90) <= inside).all()
    assert (inside <= np.maximum(color, 90)).all()
    assert np.abs(inside - 90).max() > 20


def test_contour_has_the_objects_pure_colour() -> None:
    assert (draw_overlay(GREY, [track(2)]).reshape(-1, 3) == color_of(2)).all(axis=1).sum() > 100


def test_unseen_objects_are_named_at_the_lower_left() -> None:
    picture = draw_overlay(GREY, [track(5, ObjectState.LOST)])
    changed = np.argwhere((picture != GREY).any(axis=2))
    assert len(changed) > 0
    assert changed[:, 0].min() > 90
    assert changed[:, 1].min() == 0


def test_captions_of_objects_at_one_place_do_not_cover_each_other() -> None:
    both = draw_overlay(GREY, [track(1), track(2)]).reshape(-1, 3)
    counts = [(both == color_of(i)).all(axis=1).sum() for i in (1, 2)]
    assert min(counts) > 150  # each tag's background remains to be seen


def test_nothing_to_draw_and_tiny_pictures() -> None:
    np.testing.assert_array_equal(draw_overlay(GREY, []), GREY)
    speck = Track(1, "", ObjectState.TRACKED, 1.0, 1.0, np.ones((1, 1), bool), 0)
    assert draw_overlay(np.zeros((1, 1, 3), np.uint8), [speck]).shape == (1, 1, 3)


@pytest.mark.parametrize("first", range(1, 30))
def test_neighbouring_ids_have_hues_apart(first: int) -> None:
    hues = [colorsys.rgb_to_hsv(*(c / 255 for c in color_of(i)))[0] for i in (first, first + 1, first + 2)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        apart = abs(hues[a] - hues[b])
        assert min(apart, 1 - apart) > 0.1


@pytest.mark.parametrize("object_id", range(1, 60))
def test_no_colour_is_too_dark_to_see(object_id: int) -> None:
    red, green, blue = color_of(object_id)
    assert 0.30 * red + 0.59 * green + 0.11 * blue > 100


def test_caption_names_a_state_only_when_it_is_unusual() -> None:
    assert caption_of(track(7)) == "7 cup"
    assert caption_of(track(7, ObjectState.OCCLUDED)) == "7 cup [OCCLUDED]"
