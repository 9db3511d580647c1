"""One page that is connected."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMsgType, web

from sam_perception.errors import ConsoleError, PerceptionError
from sam_perception.web import describe
from sam_perception.web.backend import Backend, CutUp, Done, Seen
from sam_perception.web.guard import Guard, RateLimit
from sam_perception.web.pictures import Picture, Projector, encode
from sam_perception.web.wire import Action, Ask, Everything, Hello, Probe, PromptRequest, Ready, Remove, Rename, parse

CLOSE_BAD_MESSAGE = 1008  # policy violation
CLOSE_NO_TOKEN = 4401  # what the page understands as "ask the person for the token"

_HELLO_S = 5.0  # for the page to say its token
_WRONG_TOKEN_S = 1.0  # until the answer to a wrong one, so that guessing takes time
_REPORT_S = 1.0
_MESSAGES_HZ, _MESSAGES_BURST = 60.0, 120  # a hand on a mouse sends about 20 a second
_ASKED_AT_ONCE = 4
_SHOWN = 3  # frames kept for probes: the one that is shown and those on their way


@dataclass(frozen=True)
class Room:
    """What sessions share."""

    backend: Backend
    guard: Guard
    projector: Projector
    quick: Executor  # for what takes milliseconds
    slow: Executor  # for what may take seconds
    rate_hz: float
    quality: int


class Session:
    """Takes what a page says and sends it pictures, reports and answers until either side ends."""

    def __init__(self, room: Room, socket: web.WebSocketResponse) -> None:
        self._room, self._socket = room, socket
        self._limit = RateLimit(_MESSAGES_HZ, _MESSAGES_BURST)
        self._ready = asyncio.Event()
        self._view = "overlay"
        self._shown: deque[Picture] = deque(maxlen=_SHOWN)
        self._asked: set[asyncio.Task[None]] = set()
        self._report_now = asyncio.Event()

    async def run(self) -> None:
        """Return when the connection has ended."""
        if not await self._greet():
            return
        helpers = [asyncio.create_task(self._guarded(work)) for work in (self._send_pictures, self._send_reports)]
        try:
            await self._listen()
        finally:
            for task in (*helpers, *self._asked):
                task.cancel()
            await asyncio.gather(*helpers, *self._asked, return_exceptions=True)

    async def close(self, code: int, reason: str) -> None:
        """End it from this side."""
        with suppress(ConnectionError):
            await self._socket.close(code=code, message=reason.encode()[:120])

    async def _greet(self) -> bool:
        """Whether the page said the token; nothing is shown or done before."""
        try:
            message = await self._socket.receive(timeout=_HELLO_S)
            said = parse(message.data) if message.type is WSMsgType.TEXT else None
        except (asyncio.TimeoutError, ConsoleError):
            said = None
        if not isinstance(said, Hello):
            await self.close(CLOSE_BAD_MESSAGE, "say hello first")
            return False
        if not self._room.guard.token_allowed(said.token):
            if said.token:
                await asyncio.sleep(_WRONG_TOKEN_S)
            await self.close(CLOSE_NO_TOKEN, "wrong token" if said.token else "token needed")
            return False
        await self._send("welcome", {"rate_hz": self._room.rate_hz})
        return True

    async def _listen(self) -> None:
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                await self.close(CLOSE_BAD_MESSAGE, "send text")
            elif not self._limit.allow():
                await self.close(CLOSE_BAD_MESSAGE, "too many messages")
            else:
                try:
                    await self._take(parse(message.data))
                except ConsoleError as error:
                    await self._send("refused", {"text": str(error)})

    async def _take(self, said: Any) -> None:
        if isinstance(said, Ready):
            self._view = said.view
            self._ready.set()
        elif isinstance(said, Probe):
            await self._answer_probe(said)
        elif isinstance(said, Ask):
            if len(self._asked) >= _ASKED_AT_ONCE:
                busy = f"{_ASKED_AT_ONCE} requests are in work: wait for their answers"
                await self._send("answer", {"ask": said.number, "ok": False, "text": busy})
                return
            task = asyncio.create_task(self._guarded(lambda: self._do(said)))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`; where it fails in a way that nobody thought of, tell the page instead of going silent."""
        try:
            await work()
        except ConnectionError:
            return  # the page has gone, which the listener sees as well
        except Exception as error:
            await self.close(1011, f"{type(error).__name__}: {error}")
            raise

    # ------------------------------------------------------------------ what is sent

    async def _send_pictures(self) -> None:
        loop, sent_s = asyncio.get_running_loop(), 0.0
        after: tuple[Seen | None, str] = (None, self._view)
        while True:
            await self._ready.wait()
            await asyncio.sleep(max(0.0, sent_s + 1 / self._room.rate_hz - loop.time()))
            picture = await self._room.projector.next(lambda: self._view, after)
            self._ready.clear()
            self._shown.append(picture)
            sent_s = loop.time()
            await self._socket.send_bytes(describe.frame_message(picture))
            after = (picture.seen, picture.view)

    async def _send_reports(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._report_now.clear()
            report = await loop.run_in_executor(self._room.quick, self._room.backend.report)
            await self._socket.send_str(describe.report_message(report))
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._report_now.wait(), _REPORT_S)

    async def _answer_probe(self, probe: Probe) -> None:
        for picture in reversed(self._shown):
            if picture.scene.stamp_ns == probe.stamp_ns:
                await self._send("probe", describe.probe_values(probe, picture.seen, picture.scene))
                return

    async def _do(self, ask: Ask) -> None:
        loop, room = asyncio.get_running_loop(), self._room
        executor = room.slow if isinstance(ask.action, Everything) else room.quick
        try:
            done = await loop.run_in_executor(executor, perform, room.backend, ask.action)
        except PerceptionError as error:
            await self._send("answer", {"ask": ask.number, "ok": False, "text": str(error)})
            return
        if isinstance(done, CutUp):
            jpeg = await loop.run_in_executor(executor, encode, done.seen.frame.rgb, room.quality)
            self._shown.append(Picture(done.seen, done.seen.scene, "color", jpeg))
            await self._socket.send_bytes(describe.regions_message(ask.number, done, jpeg))
            return
        self._report_now.set()
        await self._send("answer", {"ask": ask.number, "ok": True, "text": done.text, "object_id": done.object_id})

    async def _send(self, kind: str, values: dict[str, Any]) -> None:
        with suppress(ConnectionError):
            await self._socket.send_str(describe.text_of(kind, values))


def perform(backend: Backend, action: Action) -> Done | CutUp:
    """Do what a page asked for.

    Raises:
        PerceptionError: it cannot be done; the text says why and what to do.
    """
    if isinstance(action, PromptRequest):
        return backend.prompt(action)
    if isinstance(action, Rename):
        return backend.rename(action.object_id, action.label)
    if isinstance(action, Remove):
        return backend.remove(action.object_id)
    if isinstance(action, Everything):
        return backend.regions()
    return backend.reset()
