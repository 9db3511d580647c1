"""A person at the console: a bag plays in a loop, they click on an object in Chromium, and it is on `~/objects`."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from chromium import TIMEOUT_S, Page, browser
from ros_harness import Harness
from sam_perception.msg import TrackedObject, TrackedObjectArray
from sensor_msgs.msg import Image

from sam_perception.frame import RgbdFrame
from sam_perception.messages import stamp_ns_of
from sam_perception.overlay import color_of
from sam_perception.perception import Perception
from sam_perception.sinks.bag import BagSink
from sam_perception.sources import open_source
from sam_perception.sources.synthetic import SyntheticSource

pytest.importorskip("torch", reason="torch is not installed")

FRAMES = 6  # of the loop: the objects are nearly where they were
PERIOD_NS = 200_000_000  # a camera so slow that the loop's end is more than half a second after its beginning
SPACE = f"bench_{os.getpid()}"  # topics of our own: this takes longer than others need to come upon our domain
PROMPTS = Path(__file__).parents[1] / "data" / "kitchen_prompts.yaml"
CONNECTED = "document.getElementById('link').textContent === 'connected'"
SHOWN = "document.getElementById('picture').dataset.stamp"
LISTED = "[...document.querySelectorAll('#objects .object')].map((o) => [+o.dataset.id, o.dataset.state])"


class Player:
    """Plays frames in a loop like `ros2 bag play --loop`: the stamps are the recorded ones, again and again.

    The next frame follows when the node has done the last one; it can be paused, as a bag can.
    """

    def __init__(self, harness: Harness, frames: Sequence[RgbdFrame], hold_first: bool) -> None:
        self._harness, self._frames, self._hold_first = harness, frames, hold_first
        self._going, self._stop = threading.Event(), threading.Event()
        self._busy = threading.Lock()
        self._going.set()
        self.loops = self._stamp_ns = 0
        self.failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Player:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._going.set()
        self._thread.join(TIMEOUT_S)
        assert self.failed is None, self.failed

    def pause(self) -> int:
        """The stamp of the last frame, when the node has done it."""
        self._going.clear()
        with self._busy:
            return self._stamp_ns

    def go_on(self) -> None:
        self._going.set()

    def _run(self) -> None:
        try:
            for index, frame in enumerate(itertools.cycle(self._frames)):
                self.loops = index // len(self._frames)
                while not self._play(frame):
                    if self._stop.is_set():
                        return
        except BaseException as error:
            self.failed = error

    def _play(self, frame: RgbdFrame) -> bool:
        """Whether the frame was played, rather than paused before."""
        objects = self._harness.objects(SPACE)
        self._going.wait()
        with self._busy:
            if self._stop.is_set() or not self._going.is_set():
                return False
            before = len(objects.messages)
            self._stamp_ns = self._harness.send(frame, namespace=SPACE)
            self._harness.until(lambda: len(objects.messages) > before or self._stop.is_set(), TIMEOUT_S)
            if self._hold_first:
                self._hold_first = False
                self._going.clear()
            return True


@contextmanager
def console(
    harness: Harness, tmp_path: Path, frames: Sequence[RgbdFrame], *, hold_first: bool = False, **parameters: Any
) -> Iterator[tuple[Page, Player]]:
    """The real node with the model that ships, its console in a browser, and a bag that plays."""
    with BagSink(tmp_path / "bag", inputs=True, outputs=False) as sink:
        for frame in frames:
            sink.write(frame)
    with open_source(tmp_path / "bag") as source:
        recorded = list(source)
    assert [frame.stamp_ns for frame in recorded] == [frame.stamp_ns for frame in frames]
    node = harness.node(
        make=Perception,
        namespace=SPACE,
        wait_active=False,
        model="nano",
        device="cpu",
        web__port=free_port(),
        **parameters,
    )
    harness.until(lambda: node.state_label == "active", TIMEOUT_S)
    harness.until(lambda: node._console._server.address, TIMEOUT_S)
    with browser(tmp_path) as page, Player(harness, recorded, hold_first) as player:
        page.open(node._console._server.url)
        page.until(CONNECTED)
        page.until(SHOWN)
        yield page, player


def slowly(frames: Sequence[RgbdFrame]) -> list[RgbdFrame]:
    return [replace(frame, stamp_ns=frames[0].stamp_ns + i * PERIOD_NS) for i, frame in enumerate(frames)]


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def at(messages: Sequence[Any], stamp_ns: int) -> Any:
    """The newest message of a stamp, which comes again with each loop."""
    return [message for message in messages if stamp_ns_of(message.header.stamp) == stamp_ns][-1]


def mask_of(tracked: TrackedObject, width: int, height: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    roi = tracked.roi
    cropped = np.frombuffer(tracked.mask.data, np.uint8).reshape(roi.height, roi.width) > 0
    mask[roi.y_offset : roi.y_offset + roi.height, roi.x_offset : roi.x_offset + roi.width] = cropped
    return mask


def check_drawn(page: Page, rgb: np.ndarray, mask: np.ndarray, object_id: int) -> None:
    """The page's picture is tinted with the object's colour inside its mask, and nowhere far from it."""
    # The picture's own border counts as the mask's rim, along which the contour is drawn.
    rimless = cv2.erode(np.pad(mask.astype(np.uint8), 8), np.ones((9, 9), np.uint8))[8:-8, 8:-8]
    inside = np.argwhere(rimless)
    inside = inside[len(inside) // 2 :]  # the lower half: the caption may lie on the upper one
    around = cv2.dilate(mask.astype(np.uint8), np.ones((61, 61), np.uint8)) == 0
    around[:, : rgb.shape[1] // 8] = around[: rgb.shape[0] // 8] = False
    assert len(inside) >= 5
    tint = np.array(color_of(object_id), float)
    for row, column in inside[:: max(1, len(inside) // 5)]:
        before, shown = rgb[row, column].astype(float), np.array(page.pixel(int(column), int(row)), float)
        # The fill is 0.38 of the colour (overlay.py); JPEG and a caption's letters cost some.
        np.testing.assert_allclose(shown, 0.62 * before + 0.38 * tint, atol=45)
    outside = np.argwhere(around)
    for row, column in outside[:: max(1, len(outside) // 5)]:
        shown = np.array(page.pixel(int(column), int(row)), float)
        np.testing.assert_allclose(shown, rgb[row, column], atol=60)


def purple(rgb: np.ndarray) -> np.ndarray:
    """The purple magazine by its colour: the largest purple patch on the table, its print filled in."""
    hue, saturation, value = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV))
    patches = ((hue > 138) & (hue < 172) & (saturation > 50) & (value > 50)).astype(np.uint8)
    patches[:300] = 0  # the shelf, which has purple things too
    patches = cv2.morphologyEx(patches, cv2.MORPH_CLOSE, np.ones((11, 11), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(patches)
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


def click_and_follow(
    harness: Harness, page: Page, player: Player, frames: Sequence[RgbdFrame], x: float, y: float
) -> tuple[RgbdFrame, np.ndarray]:
    """Click on a pixel of the playing picture; a later frame that the page shows, and the object's mask in it."""
    by_stamp = {frame.stamp_ns: frame for frame in frames}
    objects = harness.objects(SPACE)
    page.click(*page.pixel_place(x, y))
    page.until(f"JSON.stringify({LISTED}) === '[[1,\"TRACKED\"]]'")
    found: TrackedObjectArray = objects.wait(lambda m: [o.id for o in m.objects] == [1], TIMEOUT_S)
    assert found.objects[0].state == TrackedObject.TRACKED
    stamp_ns = player.pause()
    page.until(f"{SHOWN} === '{stamp_ns}'")
    frame = by_stamp[stamp_ns]
    (tracked,) = at(objects.messages, stamp_ns).objects
    return frame, mask_of(tracked, frame.width, frame.height)


def test_an_object_of_the_demos_table_is_clicked_and_followed(harness: Harness, tmp_path: Path) -> None:
    source = SyntheticSource(width=320, height=240)
    seen = list(itertools.islice(source.with_truth(), FRAMES))
    frames = slowly([frame for frame, _ in seen])
    truths = {frame.stamp_ns: truth for frame, (_, truth) in zip(frames, seen, strict=True)}
    mug = source.labels.index("mug") + 1
    # The pixel farthest from the mug's rim, as a person would click.
    depth = cv2.distanceTransform(seen[0][1].mask(mug).astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    with console(harness, tmp_path, frames) as (page, player):
        frame, mask = click_and_follow(harness, page, player, frames, float(x), float(y))
        truth = truths[frame.stamp_ns].mask(mug)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.5
        check_drawn(page, frame.rgb, mask, 1)
        before = player.loops
        player.go_on()
        harness.until(lambda: player.loops >= before + 2 or player.failed, TIMEOUT_S)
        assert page.evaluate(f"JSON.stringify({LISTED})").startswith("[[1,")  # kept, though time went back twice
        page.press(".object .name")
        page.press(".object .remove")
        page.until(f"{LISTED}.length === 0")
        messages = harness.objects(SPACE).messages
        harness.until(lambda: messages[-1].objects == [] or player.failed, TIMEOUT_S)
        assert page.console == []


def test_an_object_of_a_real_kitchen_is_clicked_in_a_playing_bag(
    harness: Harness, tmp_path: Path, shared_data: Path
) -> None:
    with open_source(shared_data / "seq_kitchen_7scenes") as source:
        frames = slowly(list(itertools.islice(source, FRAMES)))
    entries = {entry["label"]: entry["box"] for entry in yaml.safe_load(PROMPTS.read_text())}
    x0, y0, x1, y1 = entries["purple magazine"]
    with console(harness, tmp_path, frames) as (page, player):
        frame, mask = click_and_follow(harness, page, player, frames, (x0 + x1) / 2, (y0 + y1) / 2)
        truth = purple(frame.rgb)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.5
        check_drawn(page, frame.rgb, mask, 1)
        overlay = harness.inbox(f"/{SPACE}/sam_perception/overlay", Image)
        player.go_on()
        assert overlay.wait(timeout_s=TIMEOUT_S).width == 640
        page.mouse("mouseMoved", *page.pixel_place((x0 + x1) / 2, (y0 + y1) / 2))
        page.until("document.getElementById('cursor').textContent.includes('object 1')")
        assert json.loads(page.evaluate(f"JSON.stringify({LISTED})"))[0][0] == 1
        assert page.console == []


@pytest.mark.slow
def test_the_whole_recording_goes_round_under_one_id(harness: Harness, tmp_path: Path, shared_data: Path) -> None:
    with open_source(shared_data / "seq_kitchen_7scenes") as source:
        frames = list(source)
    x0, y0, x1, y1 = next(e["box"] for e in yaml.safe_load(PROMPTS.read_text()) if e["label"] == "purple magazine")
    with console(harness, tmp_path, frames, hold_first=True) as (page, player):
        objects = harness.objects(SPACE)
        page.click(*page.pixel_place((x0 + x1) / 2, (y0 + y1) / 2))
        page.until(f"{LISTED}.length === 1")
        before = len(objects.messages)
        player.go_on()
        harness.until(lambda: player.loops >= 1 or player.failed, 30 * TIMEOUT_S)
        # At the latest now the second round's first frame is in work.
        again = harness.until(lambda: first_of_round(objects.messages[before + 1 :], frames[0]), TIMEOUT_S)
        rounds = objects.messages[before:]
        assert len(rounds) >= len(frames)  # all but the first, which was clicked on, and that one again
        assert {tuple(o.id for o in message.objects) for message in rounds} == {(1,)}
        (tracked,) = again.objects
        mask, truth = mask_of(tracked, 640, 480), purple(frames[0].rgb)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.5  # found again, though it had left the view
        page.until(f"{LISTED}.length === 1")
        assert page.console == []


def first_of_round(messages: Sequence[Any], frame: RgbdFrame) -> Any:
    """The message of a round's first frame; None before it is there."""
    return next((m for m in messages if stamp_ns_of(m.header.stamp) == frame.stamp_ns), None)
