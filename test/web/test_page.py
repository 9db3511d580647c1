"""The page in a real browser, with a node that is none: what a person does, and what they see."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chromium import Page, browser
from fake_backend import FIRST_NS, TIMEOUT_S, FakeBackend, serving
from fake_tracker import RED_POINT

from sam_perception.overlay import color_of
from sam_perception.web.backend import Report
from sam_perception.web.server import ConsoleServer
from sam_perception.web.settings import WebConfig

TOKEN = "a token of this robot"
CONNECTED = "document.getElementById('link').textContent === 'connected'"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all tests of this module; each goes to a page of its own."""
    with browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_errors(page: Page) -> Iterator[None]:
    page.console.clear()
    yield
    page.evaluate("1")  # takes in what the page has still written
    # That a connection was refused is what the page is for to say; anything else is a fault of ours.
    assert [text for text in page.console if "WebSocket" not in text and "ERR_CONNECTION" not in text] == []


@contextmanager
def camera(backend: FakeBackend, period_s: float = 0.05) -> Iterator[None]:
    """Newer frames until the end."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(period_s):
            backend.step()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def watched(page: Page, backend: FakeBackend, **settings: Any) -> Iterator[ConsoleServer]:
    """A page that shows pictures."""
    with serving(backend, **settings) as server, camera(backend):
        page.open(server.url)
        page.until(CONNECTED)
        page.until("document.getElementById('curtain').hidden")
        yield server


def text(selector: str) -> str:
    return f"(document.querySelector({json.dumps(selector)})?.textContent ?? '')"


def objects() -> str:
    return "[...document.querySelectorAll('#objects .object')].map((o) => [+o.dataset.id, o.dataset.state])"


def wait_asked(page: Page, backend: FakeBackend, count: int = 1) -> list[Any]:
    """What was asked of the node, as soon as there is so much."""
    for _ in range(int(TIMEOUT_S / 0.02)):
        if len(backend.asked) >= count:
            return backend.asked
        page.evaluate("new Promise((done) => setTimeout(done, 20))")
    raise AssertionError(f"{backend.asked} within {TIMEOUT_S} s")


def test_a_click_is_a_point_on_the_pixel_and_frame_that_were_shown(page: Page) -> None:
    backend = FakeBackend()
    with watched(page, backend):
        page.click(*page.pixel_place(*RED_POINT))
        (click,) = wait_asked(page, backend)
        ((x, y, on_object),) = click.points
        assert (round(x), round(y), on_object) == (*RED_POINT, 1)
        assert abs(x - RED_POINT[0]) < 0.1
        assert FIRST_NS < click.stamp_ns <= backend.step()
        assert (click.object_id, click.text, click.region, click.box) == (0, "", 0, None)
        page.until(f"JSON.stringify({objects()}) === '[[1,\"TRACKED\"]]'")
        # Its colour is in the list and in the picture.
        red, green, blue = color_of(1)
        chip = "getComputedStyle(document.querySelector('.chip')).backgroundColor"
        assert page.evaluate(chip) == f"rgb({red}, {green}, {blue})"
        page.until(f"{text('#state')} === 'active'")
        assert page.evaluate(text(".facts")).endswith("0.100, 0.200, 0.500 m")


def test_a_drag_is_a_box_and_corrections_go_to_the_selected_object(page: Page) -> None:
    backend = FakeBackend({4: "mug"})
    with watched(page, backend):
        page.drag(*page.pixel_place(30, 30), *page.pixel_place(12, 8))
        (box,) = wait_asked(page, backend)
        assert (box.object_id, box.points) == (0, ())
        assert [round(edge) for edge in box.box] == [12, 8, 30, 30]
        # A background point needs an object.
        page.click(*page.pixel_place(60, 40), shift=True)
        page.until(f"{text('.toast.bad')}.includes('select one in the list')")
        page.press(".object[data-id='4']")
        page.until(f"{text('#hint')}.includes('4 mug')")
        page.click(*page.pixel_place(60, 40), shift=True)
        page.click(*page.pixel_place(20, 20))
        page.press("[data-tool=background]")
        page.click(*page.pixel_place(1, 46))
        corrections = wait_asked(page, backend, 4)[1:]
        assert [(c.object_id, c.points[0][2]) for c in corrections] == [(4, 0), (4, 1), (4, 0)]
        page.key("Escape")
        page.until(f"{text('#hint')}.includes('Select the object')")


def test_an_object_that_waits_for_its_frame_is_listed_and_stays_selected(page: Page) -> None:
    backend = FakeBackend()
    with serving(backend) as server:
        page.open(server.url)
        page.until("document.getElementById('curtain').hidden")
        page.click(*page.pixel_place(*RED_POINT))
        page.until(f"JSON.stringify({objects()}) === '[[1,\"WAITING\"]]'")
        page.press(".object")
        page.until(f"{text('#hint')}.includes('object 1')")
        backend.step()
        page.until(f"JSON.stringify({objects()}) === '[[1,\"TRACKED\"]]'")
        assert page.evaluate(f"{text('#hint')}.includes('object 1')")


def test_objects_are_renamed_removed_and_forgotten(page: Page) -> None:
    backend = FakeBackend({1: "", 2: "box", 3: "pot"})
    with watched(page, backend):
        page.press(".object[data-id='2']")
        page.press(".object[data-id='2'] .rename")
        page.evaluate("document.activeElement.select()")
        page.type("<b>red</b> box")
        page.key("Enter")
        name = text(".object[data-id='2'] .name")
        page.until(f"{name} === '2<b>red</b> box'")
        assert backend.labels[2] == "<b>red</b> box"  # text stays text
        page.press(".object[data-id='2'] .remove")
        page.until(f"{objects()}.length === 2")
        assert sorted(backend.labels) == [1, 3]
        page.press("#reset")
        page.until("document.getElementById('confirm').open")
        page.press("#confirm [value=no]")
        page.until("!document.getElementById('confirm').open")
        assert sorted(backend.labels) == [1, 3]
        page.press("#reset")
        page.press("#confirm [value=yes]")
        page.until(f"{objects()}.length === 0 && !document.getElementById('none').hidden")
        assert backend.labels == {}


def test_words_are_asked_for_and_the_nodes_refusal_is_shown(page: Page) -> None:
    backend = FakeBackend()
    with watched(page, backend):
        page.press("#text")
        page.type("a red mug")
        page.key("Enter")
        (words,) = wait_asked(page, backend)
        assert (words.text, words.points, words.stamp_ns) == ("a red mug", (), 0)
        page.until(f"{text('.toast.bad')} === 'words are not understood here'")
        assert page.evaluate("document.getElementById('text').value") == "a red mug"  # to be mended


def test_everything_lights_up_under_the_cursor_and_a_click_takes_it(page: Page) -> None:
    backend = FakeBackend()
    with watched(page, backend):
        backend.gate.clear()
        page.key("e")
        page.until(f"{text('#curtain')}.startsWith('Cutting')")
        backend.gate.set()
        page.until(f"{text('#hint')}.startsWith('2 regions')")
        lit = (
            "((x, y) => { const m = document.getElementById('marks'), s = m.width / 64;"
            "return m.getContext('2d').getImageData(Math.round((x + .5) * s), Math.round((y + .5) * s), 1, 1).data; })"
        )
        page.hover(*page.pixel_place(2, 2), f"{lit}(5, 40)[3] > 90")  # the whole picture is under the cursor
        # The smaller region wins.
        page.hover(*page.pixel_place(48, 20), f"{lit}(5, 40)[3] < 90 && {lit}(44, 14)[3] > 90")
        page.click(*page.pixel_place(48, 20))
        (taken,) = wait_asked(page, backend)
        assert (taken.region, taken.points, taken.text) == (2, (), "")
        page.until("document.querySelector('[data-tool=point]').getAttribute('aria-checked') === 'true'")
        page.until(f"{text('#hint')}.includes('new object')")


def test_depth_and_position_stand_under_the_cursor(page: Page) -> None:
    backend = FakeBackend({7: "mug"})
    with watched(page, backend):
        page.mouse("mouseMoved", *page.pixel_place(*RED_POINT))
        shown = page.until(text("#cursor"))
        assert shown == "17, 20 px · depth 0.500 m · x -0.121 y -0.029 z 0.500 m · object 7 mug"
        page.mouse("mouseMoved", *page.pixel_place(0, 0))
        page.until(f"{text('#cursor')} === '0, 0 px · no depth'")
        page.press("[data-view=depth]")
        page.until("!document.getElementById('legend').hidden")
        assert page.evaluate(text("#near")) == "0.50 m"
        near, far = page.pixel(17, 20), page.pixel(34, 44)
        assert near[0] > near[2]
        assert far[2] > far[0]


def test_figures_diagnostics_and_refusals_are_shown(page: Page) -> None:
    with watched(page, FakeBackend()):
        page.until(f"{text('#latency')} === '40 ms (55)'")
        assert page.evaluate(text("#rate")) == "12.3 Hz"
        assert page.evaluate(text("#camera")) == "30.0 Hz"
        assert page.evaluate(text("#node")) == "/camera/sam_perception"
        assert page.evaluate(text("#diagnostics li")) == "frames slow"
        assert page.evaluate("document.querySelector('#diagnostics li').dataset.level") == "1"
        assert page.evaluate(text("#refusals li")) == "DepthNotAligned, 2 s ago start with align_depth"
        page.until(f"parseFloat({text('#shown')}) > 0")


def test_a_lost_connection_is_said_and_comes_back(page: Page) -> None:
    backend = FakeBackend({1: "mug"})
    with watched(page, backend) as server:
        assert server.address is not None
        port = server.address[1]
        assert server.stop(TIMEOUT_S)
        page.until(f"{text('#curtain')}.startsWith('Connection lost (the node ends)')")
        assert page.evaluate("document.getElementById('frame').classList.contains('stale')")
        page.click(*page.pixel_place(*RED_POINT))
        again = ConsoleServer(WebConfig(port=port), backend)
        again.start()
        try:
            page.until(CONNECTED)
            page.until("document.getElementById('curtain').hidden")
            assert not page.evaluate("document.getElementById('frame').classList.contains('stale')")
            assert backend.asked == []  # what was clicked meanwhile is not done later
            page.click(*page.pixel_place(*RED_POINT))
            wait_asked(page, backend)
        finally:
            assert again.stop(TIMEOUT_S)


def test_the_token_is_asked_for_and_leaves_no_trace_in_the_address(page: Page) -> None:
    backend = FakeBackend({1: "mug"})
    with serving(backend, host="0.0.0.0", token=TOKEN) as server, camera(backend):
        assert server.address is not None
        address = f"http://127.0.0.1:{server.address[1]}/"
        page.open(address)
        page.until("document.getElementById('login').open")
        assert backend.completed == 0
        page.press("#token")
        page.type("not the token of the robot")
        page.key("Enter")
        page.until(f"document.getElementById('login').open && {text('#loginreason')}.startsWith('This is not')")
        page.press("#token")
        page.evaluate("document.getElementById('token').select()")
        page.type(TOKEN)
        page.key("Enter")
        page.until(CONNECTED)
        page.until(f"{objects()}.length === 1")
        page.open(f"{address}#token={TOKEN}")
        page.until(CONNECTED)
        assert page.evaluate("location.href") == address


def test_a_node_that_does_not_work_is_said(page: Page) -> None:
    class Idle(FakeBackend):
        def newest(self) -> None:
            return None

        def report(self) -> Report:
            return Report("/sam_perception", "unconfigured", "nano", "cpu")

    with serving(Idle()) as server:
        page.open(server.url)
        page.until(f"{text('#curtain')} === 'The node is unconfigured' && {text('#state')} === 'unconfigured'")
        assert page.evaluate("document.getElementById('state').dataset.level") == "warn"


def test_fingers_point_too(page: Page) -> None:
    def touch(kind: str, *place: float) -> None:
        points = [{"x": place[0], "y": place[1]}] if place else []
        page.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    backend = FakeBackend()
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    try:
        with watched(page, backend):
            touch("touchStart", *page.pixel_place(*RED_POINT))
            touch("touchEnd")
            (tap,) = wait_asked(page, backend)
            assert [(round(x), round(y), on) for x, y, on in tap.points] == [(*RED_POINT, 1)]
            touch("touchStart", *page.pixel_place(10, 8))
            for x in (14, 20, 26):
                touch("touchMove", *page.pixel_place(x, x + 2))
            touch("touchEnd")
            box = wait_asked(page, backend, 2)[1]
            assert [round(edge) for edge in box.box] == [10, 8, 26, 28]
    finally:
        page.call("Emulation.setTouchEmulationEnabled", enabled=False)


def test_a_tablet_has_room_for_all_of_it(page: Page, tmp_path: Path) -> None:
    backend = FakeBackend({1: "mug", 2: "box"})
    page.call("Emulation.setDeviceMetricsOverride", width=820, height=1180, deviceScaleFactor=1, mobile=False)
    try:
        with watched(page, backend):
            page.until(f"{objects()}.length === 2")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            overlapping = (
                "(() => { const a = document.getElementById('screen').getBoundingClientRect(),"
                "b = document.querySelector('aside').getBoundingClientRect();"
                "return a.right > b.left && b.right > a.left && a.bottom > b.top && b.bottom > a.top; })()"
            )
            assert not page.evaluate(overlapping)
            page.screenshot(tmp_path / "tablet.png")
    finally:
        page.call("Emulation.setDeviceMetricsOverride", width=1360, height=850, deviceScaleFactor=1, mobile=False)
