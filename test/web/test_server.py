"""The server by its protocol, with a node that is none."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import aiohttp
import numpy as np
import pytest
from fake_backend import FIRST_NS, TIMEOUT_S, FakeBackend, connected, serving, within
from fake_tracker import CAMERA, RED_BOX, RED_POINT

from sam_perception.web import server as server_module
from sam_perception.web import session as session_module
from sam_perception.web.server import MAX_SESSIONS, ConsoleServer
from sam_perception.web.settings import WebConfig
from sam_perception.web.wire import MAX_MESSAGE_BYTES, PromptRequest

TOKEN = "a token of this robot"
OPEN: dict[str, Any] = {"host": "0.0.0.0", "token": TOKEN}


def console_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("sam_perception console")]


async def get(server: ConsoleServer, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    assert server.address is not None
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{server.address[1]}{path}", headers=headers, allow_redirects=False) as answer,
    ):
        return answer.status, dict(answer.headers), await answer.text()


# --- files ------------------------------------------------------------------------------------------


def test_the_page_and_all_that_it_names_is_served_from_here_alone() -> None:
    async def work() -> None:
        status, headers, page = await get(server, "/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        named = set(re.findall(r'(?:href|src)="([^"]+)"', page))
        assert {"console.css", "main.js", "icon.svg"} <= named
        for name in named | {"link.js", "stage.js", "objects.js", "regions.js", "status.js"}:
            status, headers, text = await get(server, f"/{name}")
            assert status == 200
            assert headers["Content-Type"].startswith(("text/", "image/svg+xml"))
            for imported in re.findall(r'from "\./([^"]+)"', text):
                assert (await get(server, f"/{imported}"))[0] == 200
            # Works without any other server (the namespace of SVG is a name, not an address).
            assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)

    with serving(FakeBackend()) as server:
        within(work)


@pytest.mark.parametrize("path", ["/nothing", "/../server.py", "/%2e%2e/server.py", "/static/main.js", "//main.js"])
def test_nothing_else_is_served(path: str) -> None:
    async def work() -> None:
        assert server.address is not None
        # By hand, since clients tidy such paths up.
        reader, writer = await asyncio.open_connection("127.0.0.1", server.address[1])
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 404")
        assert b"import" not in answer
        writer.close()

    with serving(FakeBackend()) as server:
        within(work)


# --- who may come in --------------------------------------------------------------------------------


def test_other_names_for_this_address_are_refused_for_page_and_socket() -> None:
    async def work() -> None:
        for path in ("/", "/main.js", "/socket"):
            status, _, text = await get(server, path, Host="evil.example.com")
            assert status == 403
            assert "web.allowed_hosts" in text
        assert (await get(server, "/", Host="localhost:1"))[0] == 200
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            async with connected(server, headers={"Host": "evil.example.com", "Origin": "http://evil.example.com"}):
                pass

    with serving(FakeBackend()) as server:
        within(work)


@pytest.mark.parametrize("origin", ["", "null", "http://evil.example.com", "http://127.0.0.1", "http://127.0.0.1:1"])
def test_pages_of_other_sites_cannot_connect(origin: str) -> None:
    backend = FakeBackend()

    async def work() -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            async with connected(server, headers={"Origin": origin}):
                pass

    with serving(backend) as server:
        within(work)
    assert backend.completed == 0


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x"])
def test_without_the_token_there_is_no_picture_no_report_and_no_action(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_WRONG_TOKEN_S", 0.05)
    backend = FakeBackend({1: "mug"})

    async def work() -> None:
        async with connected(server, token) as page:
            await page.say("ready", view="overlay")
            await page.say("reset", ask=1)
            heard = await page.hear("closed")  # and nothing before
            assert heard["code"] == 4401
            assert heard["reason"] == ("wrong token" if token else "token needed")

    with serving(backend, **OPEN) as server:
        within(work)
    assert backend.labels == {1: "mug"}
    assert backend.completed == 0


def test_the_token_opens_the_console() -> None:
    async def work() -> None:
        async with connected(server, TOKEN) as page:
            await page.hear("welcome")
            assert (await page.frame())["stamp"] == str(FIRST_NS)

    with serving(FakeBackend(), **OPEN) as server:
        assert server.url.endswith(f"/#token={TOKEN}")
        within(work)


def test_a_wrong_token_takes_time() -> None:
    async def work() -> None:
        start_s = time.monotonic()
        async with connected(server, "wrong") as page:
            await page.hear("closed")
        assert time.monotonic() - start_s >= 0.9

    with serving(FakeBackend(), **OPEN) as server:
        within(work)


@pytest.mark.parametrize("first", ['{"type": "reset", "ask": 1}', '{"type": "ready", "view": "overlay"}', "nonsense"])
def test_hello_comes_first(first: str) -> None:
    backend = FakeBackend({1: "mug"})

    async def work() -> None:
        async with connected(server, None) as page:
            await page.socket.send_str(first)
            assert (await page.hear("closed"))["code"] == 1008

    with serving(backend) as server:
        within(work)
    assert backend.labels == {1: "mug"}


def test_who_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "_HELLO_S", 0.1)

    async def work() -> None:
        async with connected(server, None) as page:
            assert (await page.hear("closed"))["code"] == 1008

    with serving(FakeBackend()) as server:
        within(work)


def test_there_is_a_limit_to_connections() -> None:
    async def work() -> None:
        async with aiohttp.ClientSession() as session:
            base = f"http://127.0.0.1:{server.address[1]}"  # type: ignore[index]
            sockets = [
                await session.ws_connect(f"{base}/socket", headers={"Origin": base}) for _ in range(MAX_SESSIONS)
            ]
            with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
                await session.ws_connect(f"{base}/socket", headers={"Origin": base})
            for open_socket in sockets:
                await open_socket.close()

    with serving(FakeBackend()) as server:
        within(work)


# --- limits -----------------------------------------------------------------------------------------


def test_long_messages_end_the_connection_unread() -> None:
    backend = FakeBackend({1: "mug"})

    async def work() -> None:
        async with connected(server) as page:
            await page.hear("welcome")
            await page.say("reset", ask=1, padding="x" * MAX_MESSAGE_BYTES)
            assert (await page.hear("closed"))["code"] == 1009

    with serving(backend) as server:
        within(work)
    assert backend.labels == {1: "mug"}


def test_a_flood_ends_the_connection_and_no_other() -> None:
    async def work() -> None:
        async with connected(server) as calm, connected(server) as page:
            await page.hear("welcome")
            for _ in range(1000):
                try:
                    await page.say("probe", stamp="0", x=1, y=1)
                except ConnectionError:
                    break
            heard = await page.hear("closed")
            assert heard["code"] == 1008
            assert (await calm.frame())["stamp"] == str(FIRST_NS)

    with serving(FakeBackend()) as server:
        within(work)


def test_what_is_not_understood_is_said_and_does_no_harm() -> None:
    async def work() -> None:
        async with connected(server) as page:
            for nonsense in ("{", '{"type": "x"}', '{"type": "remove", "ask": 1}'):
                await page.socket.send_str(nonsense)
                assert (await page.hear("refused"))["text"]
            assert (await page.frame())["stamp"] == str(FIRST_NS)
            await page.socket.send_bytes(b"\x00")
            assert (await page.hear("closed"))["code"] == 1008

    with serving(FakeBackend()) as server:
        within(work)


# --- pictures ---------------------------------------------------------------------------------------


def test_only_the_newest_picture_is_sent_and_only_to_who_asks() -> None:
    backend = FakeBackend({1: "mug"})

    async def work() -> None:
        async with connected(server) as page:
            await page.hear("report")  # one second may pass: nothing is drawn
            assert backend.completed == 0
            assert (await page.frame())["stamp"] == str(FIRST_NS)
            newest = 0
            for _ in range(20):
                newest = backend.step()
                await asyncio.sleep(0)
            assert backend.completed == 1
            assert (await page.frame())["stamp"] == str(newest)
            assert backend.completed == 2
            # No newer one, no picture; it comes when there is one.
            await page.say("ready", view="overlay")
            await page.say("probe", stamp=str(newest), x=1, y=1)
            await page.hear("probe")
            assert backend.completed == 2
            newest = backend.step()
            assert (await page.hear("frame"))["stamp"] == str(newest)

    with serving(backend, rate_hz=100.0) as server:
        within(work)


def test_another_view_of_the_same_frame_comes_at_once() -> None:
    async def work() -> None:
        async with connected(server) as page:
            pictures = [await page.frame(view) for view in ("overlay", "depth", "color")]
            assert [p["view"] for p in pictures] == ["overlay", "depth", "color"]
            assert len({p["jpeg"] for p in pictures}) == 3
            assert {p["stamp"] for p in pictures} == {str(FIRST_NS)}
            assert all(p["jpeg"][:2] == b"\xff\xd8" for p in pictures)

    with serving(FakeBackend({1: "mug"})) as server:
        within(work)


def test_pictures_are_made_once_for_all_who_watch() -> None:
    backend = FakeBackend({1: "mug"})

    async def work() -> None:
        async with connected(server) as one, connected(server) as other:
            for _ in range(3):
                first, second = await one.frame(), await other.frame()
                assert first["jpeg"] == second["jpeg"]
                backend.step()
            assert backend.completed == 3

    with serving(backend, rate_hz=100.0) as server:
        within(work)


def test_no_more_pictures_a_second_than_were_set() -> None:
    backend = FakeBackend()

    async def work() -> None:
        async with connected(server) as page:
            await page.frame()
            start_s = time.monotonic()
            for _ in range(2):
                backend.step()
                await page.frame()
            assert time.monotonic() - start_s > 2 / 4.0 - 0.05

    with serving(backend, rate_hz=4.0) as server:
        within(work)


# --- requests ---------------------------------------------------------------------------------------


def test_a_click_names_the_frame_that_was_shown_though_newer_ones_have_come() -> None:
    backend = FakeBackend()

    async def work() -> None:
        async with connected(server) as page:
            shown = (await page.frame())["stamp"]
            backend.step(5)
            answer = await page.ask("prompt", stamp=shown, points=[[*RED_POINT, 1]])
            assert answer == {
                "type": "answer",
                "ask": 1,
                "ok": True,
                "text": "object 1 is taken up",
                "object_id": 1,
            }
            await page.ask("prompt", stamp=shown, object_id=1, points=[[1, 2, 0]])
            await page.ask("prompt", stamp=shown, box=list(RED_BOX), label="mug")

    with serving(backend) as server:
        within(work)
    assert backend.asked == [
        PromptRequest(FIRST_NS, points=((*RED_POINT, 1),)),
        PromptRequest(FIRST_NS, 1, points=((1.0, 2.0, 0),)),
        PromptRequest(FIRST_NS, label="mug", box=RED_BOX),
    ]


def test_objects_are_renamed_removed_and_forgotten_and_refusals_are_told() -> None:
    backend = FakeBackend({1: "", 2: "", 3: ""})

    async def work() -> None:
        async with connected(server) as page:
            assert (await page.ask("rename", object_id=2, label="büchse"))["ok"]
            assert (await page.ask("remove", object_id=1))["ok"]
            assert backend.labels == {2: "büchse", 3: ""}
            refused = await page.ask("remove", object_id=1)
            assert (refused["ok"], refused["text"]) == (False, "no object 1")
            words = await page.ask("prompt", stamp="0", text="a red mug")
            assert (words["ok"], words["text"]) == (False, "words are not understood here")
            assert (await page.ask("reset"))["ok"]
            assert backend.labels == {}

    with serving(backend) as server:
        within(work)


def test_under_the_cursor_is_what_the_shown_frame_has() -> None:
    async def work() -> None:
        async with connected(server) as page:
            stamp = (await page.frame())["stamp"]
            await page.say("probe", stamp="1", x=0, y=0)  # a frame that was never shown has no answer
            await page.say("probe", stamp=stamp, x=RED_POINT[0], y=RED_POINT[1])
            heard = await page.hear("probe")
            assert (heard["stamp"], heard["depth_m"], heard["object_id"]) == (stamp, 0.5, 7)
            x = (RED_POINT[0] - CAMERA.cx) / CAMERA.fx * 0.5
            np.testing.assert_allclose(heard["position_m"][0], x, atol=1e-5)

    with serving(FakeBackend({7: "mug"})) as server:
        within(work)


def test_reports_come_by_themselves_and_after_each_request() -> None:
    backend = FakeBackend({1: "mug"}, state="inactive")

    async def work() -> None:
        async with connected(server) as page:
            report = await page.hear("report")
            assert (report["node"], report["state"], report["model"]) == ("/camera/sam_perception", "inactive", "nano")
            assert report["latency_ms"] == {"receive to publish": [40.0, 55.0, None]}
            assert report["diagnostics"] == [{"name": "frames", "level": 1, "message": "slow"}]
            assert report["refusals"][0]["kind"] == "DepthNotAligned"
            assert report["known_ids"] == [1]
            assert (await page.ask("remove", object_id=1))["ok"]
            while (await page.hear("report"))["known_ids"]:
                pass

    with serving(backend) as server:
        within(work)


def test_regions_come_with_their_picture_and_hold_nothing_up() -> None:
    backend = FakeBackend()

    async def work() -> None:
        async with connected(server) as page:
            backend.gate.clear()
            await page.say("everything", ask=99)
            assert (await page.frame())["stamp"] == str(FIRST_NS)
            assert (await page.ask("prompt", stamp="0", points=[[1, 2, 1]]))["ok"]
            backend.gate.set()
            heard = await page.hear("regions")
            assert (heard["ask"], heard["stamp"]) == (99, str(FIRST_NS))
            # The smallest first, as a cursor picks them.
            assert [(r["id"], r["area"]) for r in heard["regions"]] == [(2, 320), (1, 3072)]
            assert heard["jpeg"][:2] == b"\xff\xd8"
            assert (await page.ask("prompt", stamp=heard["stamp"], region=2))["ok"]

    with serving(backend) as server:
        within(work)
    assert backend.asked[-1] == PromptRequest(FIRST_NS, region=2)


def test_more_requests_at_once_than_allowed_are_refused() -> None:
    backend = FakeBackend()

    async def work() -> None:
        async with connected(server) as page:
            backend.gate.clear()
            for number in range(4):
                await page.say("everything", ask=100 + number)
            answer = await page.ask("reset")
            assert not answer["ok"]
            assert "wait for their answers" in answer["text"]
            backend.gate.set()
            assert {(await page.hear("regions"))["ask"] for _ in range(4)} == {100, 101, 102, 103}
            assert (await page.ask("reset"))["ok"]

    with serving(backend) as server:
        within(work)


def test_a_node_that_fails_costs_one_connection() -> None:
    backend = FakeBackend(failing=True)

    async def work() -> None:
        async with connected(server) as page:
            await page.hear("welcome")
            await page.say("prompt", ask=1, stamp="0", points=[[1, 2, 1]])
            heard = await page.hear("closed")
            assert (heard["code"], heard["reason"]) == (1011, "RuntimeError: nobody thought of this")
        backend.failing = False
        async with connected(server) as page:
            assert (await page.ask("prompt", stamp="0", points=[[1, 2, 1]]))["ok"]

    with serving(backend) as server:
        within(work)


# --- beginning and end ------------------------------------------------------------------------------


def test_the_end_is_told_and_leaves_no_thread() -> None:
    server = ConsoleServer(WebConfig(), FakeBackend())
    assert server.stop(1.0)  # before it has begun
    took_s: list[float] = []

    async def work() -> None:
        async with connected(served) as page:
            await page.frame()
            await page.say("ready", view="overlay")

            def stop() -> None:
                start_s = time.monotonic()
                assert served.stop(TIMEOUT_S)
                took_s.append(time.monotonic() - start_s)

            ending = asyncio.get_running_loop().run_in_executor(None, stop)
            heard = await page.hear("closed")
            assert (heard["code"], heard["reason"]) == (1001, "the node ends")
            await ending

    with serving(FakeBackend()) as served:
        within(work)
        assert served.address is None
    assert console_threads() == []
    assert took_s[0] < 5.0


def test_a_page_that_has_died_does_not_hold_up_the_end() -> None:
    with serving(FakeBackend()) as server:
        assert server.address is not None
        host = f"127.0.0.1:{server.address[1]}"
        # A hand-made page that reads nothing and closes nothing.
        with socket.create_connection(server.address) as line:
            line.sendall(
                f"GET /socket HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                "\r\n".encode()
            )
            assert line.recv(12) == b"HTTP/1.1 101"
            start_s = time.monotonic()
            assert server.stop(TIMEOUT_S)
            assert time.monotonic() - start_s < 5.0
    assert console_threads() == []


def test_a_port_in_use_is_said_and_taken_when_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_BIND_AGAIN_S", 0.05)
    changed = threading.Event()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = ConsoleServer(WebConfig(port=port), FakeBackend(), changed.set)
        server.start()
        assert changed.wait(TIMEOUT_S)
        assert server.address is None
        assert server.url == ""
        assert re.match(rf"cannot listen on 127.0.0.1:{port} \(.*in use.*\): .*set web.port", server.problem)
        changed.clear()
    try:
        assert changed.wait(TIMEOUT_S)
        assert (server.address, server.problem) == (("127.0.0.1", port), "")
        assert server.url == f"http://127.0.0.1:{port}/"
        within(lambda: _greets(server))
    finally:
        assert server.stop(TIMEOUT_S)
    assert console_threads() == []


async def _greets(server: ConsoleServer) -> None:
    async with connected(server) as page:
        await page.hear("welcome")


def test_an_address_that_is_not_ours_is_said() -> None:
    changed = threading.Event()
    # 192.0.2.0/24 is for documentation and no machine's (RFC 5737).
    server = ConsoleServer(WebConfig(host="192.0.2.1", port=8080, token=TOKEN), FakeBackend(), changed.set)
    server.start()
    try:
        assert changed.wait(TIMEOUT_S)
        assert "cannot listen on 192.0.2.1:8080" in server.problem
    finally:
        assert server.stop(TIMEOUT_S)


def test_only_serving_needs_aiohttp() -> None:
    code = "import sys; sys.modules['aiohttp'] = None; import sam_perception.web.backend, sam_perception.web.settings"
    subprocess.run([sys.executable, "-c", code], check=True)
