"""A node for the console that needs no ROS, and a page's side of the WebSocket."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from fake_tracker import BLUE, CAMERA, FRAME_ID, HEIGHT, WIDTH, make_depth_m, make_rgb, red_mask

from sam_perception.errors import PromptOutsideImage, UnknownObject
from sam_perception.frame import RgbdFrame
from sam_perception.scene import Lifted, ObjectState, Region, Regions, Scene, Track
from sam_perception.web.backend import CutUp, Done, Report
from sam_perception.web.server import ConsoleServer
from sam_perception.web.settings import WebConfig
from sam_perception.web.wire import PromptRequest

TIMEOUT_S = 30.0
FIRST_NS = 1_753_000_000_123_456_789  # beyond 2^53, as today's stamps are


@dataclass(frozen=True, eq=False)
class Shot:
    frame: RgbdFrame
    scene: Scene


def make_shot(stamp_ns: int, labels: dict[int, str] | None = None) -> Shot:
    """A red square and a blue one; the first object is the red one, all others are not seen."""
    depth_m = make_depth_m()
    depth_m[0, 0] = np.nan
    frame = RgbdFrame(make_rgb(), depth_m, CAMERA, stamp_ns, FRAME_ID)
    nothing = np.zeros((HEIGHT, WIDTH), bool)
    objects = tuple(
        Track(
            object_id,
            label,
            ObjectState.TRACKED if number == 0 else ObjectState.LOST,
            0.9,
            0.8,
            red_mask() if number == 0 else nothing,
            stamp_ns if number == 0 else 0,
            Lifted(centroid=np.array([0.1, 0.2, 0.5]), covariance=np.eye(3) * 1e-6) if number == 0 else Lifted(),
        )
        for number, (object_id, label) in enumerate(sorted((labels or {}).items()))
    )
    return Shot(frame, Scene(stamp_ns, FRAME_ID, WIDTH, HEIGHT, objects, {"segmentation": 1.25}))


@dataclass
class FakeBackend:
    """Keeps what was asked; a gate holds whoever cuts pictures up."""

    labels: dict[int, str] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)
    completed: int = 0  # scenes that were drawn
    state: str = "active"
    failing: bool = False
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()
        self.shot: Shot | None = None
        self.step()

    def step(self, count: int = 1) -> int:
        """Newer frames; the stamp of the last one."""
        stamp_ns = (self.shot.frame.stamp_ns if self.shot else FIRST_NS - 1) + count
        self.shot = make_shot(stamp_ns, self.labels)
        return stamp_ns

    def newest(self) -> Shot | None:
        return self.shot

    def complete(self, seen: Any) -> Scene:
        self.completed += 1
        return seen.scene

    def report(self) -> Report:
        return Report(
            "/camera/sam_perception",
            self.state,
            "nano",
            "cpu",
            rate_hz=12.3,
            input_hz={"color": 30.0},
            latency_ms={"receive to publish": (40.0, 55.0, float("nan"))},
            known_ids=tuple(self.labels),
            diagnostics=[{"name": "frames", "level": 1, "message": "slow"}],
            refusals=[{"kind": "DepthNotAligned", "message": "start with align_depth", "age_s": 2.0}],
        )

    def prompt(self, request: PromptRequest) -> Done:
        if self.failing:
            raise RuntimeError("nobody thought of this")
        self.asked.append(request)
        if request.text:
            raise PromptOutsideImage("words are not understood here")
        object_id = request.object_id or max(self.labels, default=0) + 1
        self.labels.setdefault(object_id, request.label)
        return Done(f"object {object_id} is taken up", object_id)

    def rename(self, object_id: int, label: str) -> Done:
        self._known(object_id)
        self.labels[object_id] = label
        return Done("renamed", object_id)

    def remove(self, object_id: int) -> Done:
        self._known(object_id)
        del self.labels[object_id]
        return Done("forgotten", object_id)

    def reset(self) -> Done:
        self.labels.clear()
        return Done("all forgotten")

    def regions(self) -> CutUp:
        self.gate.wait(TIMEOUT_S)
        assert self.shot is not None
        blue = (make_rgb() == BLUE).all(axis=2)
        whole = np.ones((HEIGHT, WIDTH), bool)
        regions = (
            Region(1, whole, (0, 0, WIDTH, HEIGHT), whole.size, 0.9, 0.9, (0.0, 0.0)),
            Region(2, blue, (40, 10, 16, 20), int(blue.sum()), 0.8, 0.9, (48.0, 20.0)),
        )
        return CutUp(self.shot, Regions(self.shot.frame.stamp_ns, FRAME_ID, WIDTH, HEIGHT, regions))

    def _known(self, object_id: int) -> None:
        if object_id not in self.labels:
            raise UnknownObject(f"no object {object_id}")


@contextmanager
def serving(backend: FakeBackend, **settings: Any) -> Iterator[ConsoleServer]:
    """A server on a port of its own that listens."""
    changed = threading.Event()
    server = ConsoleServer(WebConfig(**settings), backend, changed.set)
    server.start()
    try:
        assert changed.wait(TIMEOUT_S)
        assert server.address is not None, server.problem
        yield server
    finally:
        assert server.stop(TIMEOUT_S), "the console has not ended"


class Client:
    """A page, as the server sees it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._asked = 0

    async def say(self, kind: str, **values: Any) -> None:
        await self.socket.send_str(json.dumps({"type": kind, **values}))

    async def hear(self, kind: str) -> dict[str, Any]:
        """The next message of a kind; others are passed over. A closed connection is of kind `closed`."""
        while True:
            message = await self.socket.receive(timeout=TIMEOUT_S)
            if message.type is aiohttp.WSMsgType.TEXT:
                heard = json.loads(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                (length,) = struct.unpack_from("<I", message.data)
                heard = {**json.loads(message.data[4 : 4 + length]), "jpeg": message.data[4 + length :]}
            else:
                heard = {"type": "closed", "code": self.socket.close_code, "reason": message.extra}
            if heard["type"] == kind:
                return dict(heard)
            assert heard["type"] != "closed", f"closed with {heard['code']} instead of {kind}"

    async def frame(self, view: str = "overlay") -> dict[str, Any]:
        """Say that the last one is shown; the next frame."""
        await self.say("ready", view=view)
        return await self.hear("frame")

    async def ask(self, kind: str, **values: Any) -> dict[str, Any]:
        """The answer to a request."""
        self._asked += 1
        await self.say(kind, ask=self._asked, **values)
        return await self.hear("answer")


@asynccontextmanager
async def connected(
    server: ConsoleServer, token: str | None = "", headers: dict[str, str] | None = None
) -> AsyncIterator[Client]:
    """A page that has said hello, with the page's own headers; without a token it says nothing."""
    assert server.address is not None
    base = f"127.0.0.1:{server.address[1]}"
    given = {"Host": base, "Origin": f"http://{base}", **(headers or {})}
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(
            f"http://{base}/socket", headers={name: value for name, value in given.items() if value}
        )
        async with socket:
            client = Client(socket)
            if token is not None:
                await client.say("hello", token=token)
            yield client


def within(work: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine, for a bounded time."""

    async def bounded() -> None:
        await asyncio.wait_for(work(), 2 * TIMEOUT_S)

    asyncio.run(bounded())
