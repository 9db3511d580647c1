"""The web console at the node: what a page does reaches DDS, and what goes wrong leaves the node alone."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_backend import Client, connected, within
from fake_tracker import FRAME_ID, HEIGHT, RED_BOX, RED_POINT, WIDTH, ColorTracker, red_mask
from ros_harness import Harness, values_of
from sam_perception.srv import RenameObject

from sam_perception.config import PerceptionConfig
from sam_perception.errors import DepthNotAligned, StampError
from sam_perception.frame import RgbdFrame
from sam_perception.perception import Perception
from sam_perception.prompts import BoxPrompt, PointPrompt, Prompt
from sam_perception.ros.health import Health
from sam_perception.scene import Region, Regions

SECOND = 10**9
NOW = 1_753_000_000_123_456_789  # beyond 2^53, as today's stamps are
LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 - that it is refused or guarded is tested


def free_port() -> int:
    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        return int(found.getsockname()[1])


class RecordingTracker(ColorTracker):
    """Keeps the prompts that it got."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[Prompt] = []

    def prompt(self, prompt: Prompt) -> None:
        self.prompts.append(prompt)
        super().prompt(prompt)


class NoRegion:
    """Finds nothing."""

    def search(self, frame: RgbdFrame, _: Any) -> Generator[None, None, Regions]:
        yield
        return Regions(frame.stamp_ns, frame.frame_id, WIDTH, HEIGHT)


class RedRegion:
    """Finds two regions: the red square, and everything."""

    def search(self, frame: RgbdFrame, _: Any) -> Generator[None, None, Regions]:
        yield
        whole = np.ones((HEIGHT, WIDTH), bool)
        red = red_mask()
        regions = (
            Region(1, whole, (0, 0, WIDTH, HEIGHT), whole.size, 0.9, 0.9, (1.0, 1.0)),
            Region(2, red, (10, 10, 16, 20), int(red.sum()), 0.8, 0.9, RED_POINT),
        )
        return Regions(frame.stamp_ns, frame.frame_id, WIDTH, HEIGHT, regions)


def server_of(harness: Harness, node: Any) -> Any:
    """The node's server, when it listens."""
    harness.until(lambda: node._console._server is not None and node._console._server.address)
    return node._console._server


def rename(harness: Harness, object_id: int, label: str) -> RenameObject.Response:
    request = RenameObject.Request(object_id=object_id, label=label)
    return harness.call(RenameObject, "/sam_perception/rename_object", request)


def console_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("sam_perception console")]


# --- renaming ---------------------------------------------------------------------------------------


def test_objects_are_renamed_by_service(harness: Harness) -> None:
    harness.node()
    harness.objects()
    assert harness.add(BoxPrompt(3, RED_BOX, label="mug")).success
    assert rename(harness, 3, "cup").success  # it waits for its frame
    assert list(harness.list_objects().waiting) == [3]
    assert [o.label for o in harness.scene_at(harness.send(SECOND)).objects] == ["cup"]
    answer = rename(harness, 3, "  red cup ")
    assert (answer.success, answer.message) == (True, "object 3 is called 'red cup' from the next frame on")
    assert list(harness.list_objects().waiting) == []  # a name waits, but no prompt does
    assert [(o.id, o.label) for o in harness.scene_at(harness.send(2 * SECOND)).objects] == [(3, "red cup")]
    assert rename(harness, 3, "").success
    assert [o.label for o in harness.scene_at(harness.send(3 * SECOND)).objects] == [""]


@pytest.mark.parametrize(
    ("object_id", "label", "complaint"),
    [
        (4, "cup", r"UnknownObject: no object 4 to rename: known are \[3\]"),
        (0, "cup", "UnknownObject: no object 0 to rename"),
        (3, "x" * 129, "PromptError: name has 129 characters: use at most 128"),
        (3, "two\nlines", "PromptError: name is .*: use characters that can be shown"),
    ],
)
def test_what_cannot_be_renamed_is_refused(harness: Harness, object_id: int, label: str, complaint: str) -> None:
    harness.node()
    harness.objects()
    harness.add(BoxPrompt(3, RED_BOX, label="mug"))
    answer = rename(harness, object_id, label)
    assert not answer.success
    assert re.match(complaint, answer.message)
    assert [o.label for o in harness.scene_at(harness.send(SECOND)).objects] == ["mug"]


# --- the page's requests ----------------------------------------------------------------------------


def test_without_a_port_there_is_no_console(harness: Harness) -> None:
    node = harness.node()
    assert node._console._server is None
    assert console_threads() == []
    assert not [s for s in node._statuses() if s.name == "console"]


def test_a_click_reaches_the_tracker_with_the_shown_stamp_and_comes_back_on_dds(harness: Harness) -> None:
    tracker = RecordingTracker()
    node = harness.node(tracker, web__port=free_port())
    harness.objects()

    async def work(page: Client) -> None:
        report = await page.hear("report")
        assert (report["node"], report["state"]) == ("/sam_perception", "active")
        harness.scene_at(harness.send(NOW))
        shown = await page.frame()
        assert (shown["stamp"], shown["frame_id"], shown["objects"]) == (str(NOW), FRAME_ID, [])
        answer = await page.ask("prompt", stamp=shown["stamp"], points=[[*RED_POINT, 1]])
        assert (answer["ok"], answer["object_id"]) == (True, 1)
        (mug,) = harness.scene_at(harness.send(NOW + SECOND)).objects
        assert mug.id == 1
        shown = await page.frame()
        (listed,) = shown["objects"]
        assert (listed["id"], listed["state"]) == (1, "TRACKED")
        # Positions are there, as on ~/objects.
        np.testing.assert_allclose(listed["position_m"], [mug.centroid.x, mug.centroid.y, mug.centroid.z], atol=1e-4)
        assert (await page.ask("prompt", stamp=shown["stamp"], object_id=1, points=[[60, 40, 0]]))["ok"]
        assert (await page.ask("prompt", stamp=shown["stamp"], box=list(RED_BOX), label="box"))["object_id"] == 2
        assert (await page.ask("rename", object_id=1, label="mug"))["ok"]
        scene = harness.scene_at(harness.send(NOW + 2 * SECOND))
        assert [(o.id, o.label) for o in scene.objects] == [(1, "mug"), (2, "box")]
        assert (await page.ask("remove", object_id=1))["ok"]
        assert [t["id"] for t in (await page.frame())["objects"]] == [2]  # at once, before another frame
        assert (await page.ask("reset"))["text"] == "1 objects are forgotten"
        assert harness.scene_at(harness.send(NOW + 3 * SECOND)).objects == []

    serve(harness, node, work)
    click, correction, box = tracker.prompts
    assert isinstance(click, PointPrompt)
    assert (click.stamp_ns, click.points.tolist(), click.labels.tolist()) == (NOW, [list(RED_POINT)], [1])
    assert isinstance(correction, PointPrompt)
    assert (correction.object_id, correction.labels.tolist(), correction.stamp_ns) == (1, [0], NOW + SECOND)
    assert isinstance(box, BoxPrompt)
    assert (box.box, box.stamp_ns) == (RED_BOX, NOW + SECOND)


def serve(harness: Harness, node: Any, work: Any) -> None:
    server = server_of(harness, node)

    async def as_page() -> None:
        async with connected(server) as page:
            await work(page)

    within(as_page)


def test_refusals_are_the_services_own(harness: Harness) -> None:
    node = harness.node(web__port=free_port(), max_objects=1)

    async def work(page: Client) -> None:
        harness.send(SECOND)
        shown = await page.frame()
        outside = await page.ask("prompt", stamp=shown["stamp"], points=[[WIDTH + 5, 1, 1]])
        assert not outside["ok"]
        assert outside["text"].startswith("PromptOutsideImage: points [[69.0, 1.0]] lie outside the 64 x 48 image")
        unknown = await page.ask("remove", object_id=9)
        assert unknown["text"].startswith("UnknownObject: no object 9 to remove")
        assert (await page.ask("prompt", stamp="0", points=[[*RED_POINT, 1]]))["ok"]
        full = await page.ask("prompt", stamp="0", points=[[*RED_POINT, 1]])
        assert full["text"].startswith("NoFreeSlot:")
        assert not (await page.ask("prompt", stamp="0", region=3))["ok"]
        words = await page.ask("prompt", stamp="0", object_id=1, text="a red mug")
        assert not words["ok"]
        assert "words.model is empty" in words["text"]

    serve(harness, node, work)


def test_a_region_of_the_picture_becomes_an_object(harness: Harness) -> None:
    tracker = ColorTracker()

    def make(config: PerceptionConfig) -> Perception:
        return Perception(config, tracker, RedRegion())

    node = harness.node(tracker, make=make, web__port=free_port())
    harness.objects()

    async def work(page: Client) -> None:
        await page.say("everything", ask=1)
        refused = await page.hear("answer")  # no picture yet
        assert "no picture yet" in refused["text"]
        harness.scene_at(harness.send(NOW))
        await page.say("everything", ask=2)
        cut = await page.hear("regions")
        assert (cut["stamp"], [(r["id"], r["area"]) for r in cut["regions"]]) == (str(NOW), [(2, 320), (1, 3072)])
        assert (await page.ask("prompt", stamp=cut["stamp"], region=2))["object_id"] == 1
        (found,) = harness.scene_at(harness.send(NOW + SECOND)).objects
        assert (found.roi.x_offset, found.roi.y_offset, found.roi.width, found.roi.height) == (10, 10, 16, 20)

    serve(harness, node, work)


def test_a_picture_without_regions_is_a_refusal_with_its_cure(harness: Harness) -> None:
    node = harness.node(
        make=lambda config: Perception(config, ColorTracker(), NoRegion()),
        web__port=free_port(),
    )

    async def work(page: Client) -> None:
        harness.send(NOW)
        await page.frame()
        await page.say("everything", ask=5)
        refused = await page.hear("answer")
        assert (refused["ask"], refused["ok"]) == (5, False)
        assert "everything.pred_iou_thresh" in refused["text"]

    serve(harness, node, work)


def test_the_last_refusal_of_each_kind_is_kept_newest_first() -> None:
    now_s = [10.0]
    health = Health(clock=lambda: now_s[0])
    for error in (StampError("a"), DepthNotAligned("b"), StampError("c")):
        health.refused(error)
        now_s[0] += 1.0
    assert [(e.kind, e.message, e.age_s) for e in health.snapshot().refusals] == [
        ("StampError", "c", 1.0),
        ("DepthNotAligned", "b", 2.0),
    ]


def test_the_page_sees_the_states_of_the_lifecycle_and_what_was_refused(harness: Harness) -> None:
    node = harness.node(web__port=free_port(), autostart=False, wait_active=False)
    assert harness.change_state("configure")

    async def work(page: Client) -> None:
        assert (await page.hear("report"))["state"] == "inactive"
        assert harness.change_state("activate")
        while (await page.hear("report"))["state"] != "active":
            pass

        def shear(_: Any, depth: Any, __: Any) -> None:
            depth.header.frame_id = "elsewhere"

        harness.send(SECOND, edit=shear)
        while not (refusals := (await page.hear("report"))["refusals"]):
            pass
        assert refusals[0]["kind"] == "FrameIdMismatch"
        assert "align_depth" in refusals[0]["message"]
        assert harness.change_state("deactivate")
        assert harness.change_state("cleanup")
        while (await page.hear("report"))["state"] != "unconfigured":
            pass
        answer = await page.ask("prompt", stamp="0", points=[[1, 1, 1]])
        assert "configure and activate it" in answer["text"]
        await page.say("everything", ask=99)
        assert "has no model" in (await page.hear("answer"))["text"]

    serve(harness, node, work)


def test_a_console_that_shows_why_the_model_is_missing(harness: Harness) -> None:
    node = harness.node(make=Perception, web__port=free_port(), model="/no/such/model", wait_active=False)

    async def work(page: Client) -> None:
        own: dict[str, Any] = {}
        while own.get("level") != 2:  # the first reports may be from before it was tried
            statuses = (await page.hear("report"))["diagnostics"]
            own = next((status for status in statuses if status["name"] == "node"), {})
        assert "cannot be configured: ModelNotFound" in own["message"]

    serve(harness, node, work)


# --- beginning and end ------------------------------------------------------------------------------


def test_a_port_in_use_is_a_diagnostic_and_the_node_works(harness: Harness) -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        harness.node(web__port=port)
        harness.objects()
        status = harness.status("console", lambda s: s.level == s.ERROR)
        assert f"cannot listen on {LOOPBACK}:{port}" in status.message
        assert "set web.port" in status.message
        harness.add(BoxPrompt(1, RED_BOX))
        assert [o.id for o in harness.scene_at(harness.send(SECOND)).objects] == [1]
    fine = harness.status("console", lambda s: s.level == s.OK)
    assert values_of(fine)["address"] == f"{LOOPBACK}:{port}"


def test_a_short_token_on_the_network_is_a_diagnostic(harness: Harness) -> None:
    harness.node(web__port=free_port(), web__host=EVERYWHERE, **{"web.token": "short"})
    status = harness.status("console", lambda s: s.level == s.ERROR)
    assert "ConfigError: web.token has 5 characters" in status.message
    assert console_threads() == []


def test_without_aiohttp_the_diagnostic_says_how_to_get_it(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sam_perception.web.server", None)
    harness.node(web__port=free_port())
    status = harness.status("console", lambda s: s.level == s.ERROR)
    assert "pip install aiohttp" in status.message
    assert harness.state() == "active"


def test_the_console_moves_with_its_settings_and_ends_with_the_node(harness: Harness) -> None:
    from rclpy.parameter import Parameter

    first, second = free_port(), free_port()
    node = harness.node(web__port=first)
    assert server_of(harness, node).address == (LOOPBACK, first)
    (refused,) = node.set_parameters([Parameter("web.port", value=second)])
    assert not refused.successful
    assert "in use" in refused.reason
    assert harness.change_state("deactivate")
    assert harness.change_state("cleanup")
    assert server_of(harness, node).address == (LOOPBACK, first)  # still there, to say what the node does
    assert node.set_parameters([Parameter("web.port", value=second)])[0].successful
    assert harness.change_state("configure")
    harness.until(lambda: server_of(harness, node).address == (LOOPBACK, second))
    assert harness.change_state("shutdown")
    assert console_threads() == []


def test_sigint_ends_the_process_while_a_page_watches(harness: Harness, tmp_path: Path) -> None:
    port, here = free_port(), Path(__file__).parent
    log = tmp_path / "log"
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(harness.domain),
        "PYTHONPATH": os.pathsep.join([str(here.parent), str(here.parents[1])]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(here / "run_node.py"), "--ros-args", "-p", f"web.port:={port}"]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
    try:
        harness.until(lambda: process.poll() is not None or "web console on" in log.read_text(), 60)
        assert f"web console on http://{LOOPBACK}:{port}/" in log.read_text()

        class Served:
            address = (LOOPBACK, port)

        async def work() -> None:
            async with connected(Served()) as page:  # type: ignore[arg-type]
                while (await page.hear("report"))["state"] != "active":
                    pass
                await page.say("ready", view="overlay")
                signalled_s.append(time.monotonic())
                process.send_signal(signal.SIGINT)
                heard = await page.hear("closed")
                assert (heard["code"], heard["reason"]) == (1001, "the node ends")

        signalled_s: list[float] = []
        within(work)
        assert process.wait(20) == 0, log.read_text()
        assert time.monotonic() - signalled_s[0] < 5.0
        assert "Traceback" not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(20)


def test_a_token_is_made_and_logged_beyond_loopback(harness: Harness) -> None:
    port = free_port()
    node = harness.node(web__port=port, web__host=EVERYWHERE)
    server = server_of(harness, node)
    assert len(server.token) >= 32
    assert server.url == f"http://0.0.0.0:{port}/#token={server.token}"
    assert node.get_parameter("web.token").value == ""  # which anybody on the network may read

    async def work() -> None:
        async with connected(server, "") as page:
            assert (await page.hear("closed"))["code"] == 4401
        async with connected(server, server.token) as page:
            assert (await page.hear("report"))["state"] == "active"

    within(work)
