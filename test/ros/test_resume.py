"""What a node keeps for its next start."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from fake_tracker import BLUE, RED_BOX, ColorTracker, make_frame, make_rgb, red_mask

from sam_perception.errors import NoFreeSlot, SourceError
from sam_perception.perception import Perception
from sam_perception.prompts import BoxPrompt, MaskPrompt
from sam_perception.ros.resume import ObjectStore, store_path

SECOND = 10**9


def kept(path: Path) -> ObjectStore:
    """A red mug that was seen at 1 s and hidden at 2 s, and a blue box that is seen all the time."""
    perception, store = Perception(tracker=ColorTracker()), ObjectStore(path, 60.0)
    perception.prompt(BoxPrompt(1, RED_BOX, label="mug"))
    perception.prompt(MaskPrompt(2, (make_rgb() == BLUE).all(axis=2), label="box"))
    for stamp, red in ((SECOND, True), (2 * SECOND, False)):
        frame = make_frame(stamp, red=red)
        store._next_s = 0.0  # as if a second had passed
        store.keep(frame, perception.step(frame))
    return store


def test_each_object_comes_back_from_the_picture_in_which_it_was_last_seen(tmp_path: Path) -> None:
    kept(tmp_path / "objects.npz")
    tracker = ColorTracker()
    perception = Perception(tracker=tracker)
    ids, errors = ObjectStore(tmp_path / "objects.npz", 60.0).take_up(perception)
    assert (ids, list(errors)) == ((1, 2), [])
    assert tracker.stamps == [SECOND, 2 * SECOND]
    scene = perception.step(make_frame(3 * SECOND))
    assert [(t.id, t.label, t.state.name) for t in scene.objects] == [(1, "mug", "TRACKED"), (2, "box", "TRACKED")]
    np.testing.assert_array_equal(scene.object(1).mask, red_mask())


def test_an_old_file_is_left_alone_and_0_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "objects.npz"
    kept(path)
    os.utime(path, (time.time() - 61, time.time() - 61))
    assert ObjectStore(path, 60.0).take_up(Perception(tracker=ColorTracker())) == ((), ())
    path.unlink()
    perception = Perception(tracker=ColorTracker())
    perception.prompt(BoxPrompt(1, RED_BOX))
    store = ObjectStore(path, 0.0)
    store.keep(make_frame(), perception.step(make_frame()))
    assert not path.exists()
    assert store.take_up(perception) == ((), ())


def test_when_the_last_object_is_gone_so_is_the_file(tmp_path: Path) -> None:
    path = tmp_path / "objects.npz"
    store = kept(path)
    assert path.is_file()
    store.keep(make_frame(3 * SECOND), Perception(tracker=ColorTracker()).step(make_frame(3 * SECOND)))
    assert not path.exists()
    store.discard()  # nothing there: nothing to do


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda _: b"", lambda b: b"PK" + b[100:]])
def test_a_damaged_file_is_an_error_that_says_so(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "objects.npz"
    kept(path)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(SourceError, match=r"objects\.npz cannot be read .*point at the objects again"):
        ObjectStore(path, 60.0).take_up(Perception(tracker=ColorTracker()))


def test_what_has_no_room_is_named(tmp_path: Path) -> None:
    kept(tmp_path / "objects.npz")
    ids, errors = ObjectStore(tmp_path / "objects.npz", 60.0).take_up(Perception(tracker=ColorTracker(max_objects=1)))
    assert ids == (1,)
    assert [type(e) for e in errors] == [NoFreeSlot]


def test_nodes_keep_their_objects_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROS_HOME", str(tmp_path))
    paths = {store_path(domain, name) for domain in (0, 1) for name in ("/sam_perception", "/left/sam_perception")}
    assert len(paths) == 4
    assert all(path.is_relative_to(tmp_path) for path in paths)
