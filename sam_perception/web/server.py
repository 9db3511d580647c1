"""The console's server, in a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from sam_perception.web.backend import Backend
from sam_perception.web.guard import Guard
from sam_perception.web.pictures import Projector
from sam_perception.web.session import Room, Session
from sam_perception.web.settings import WebConfig
from sam_perception.web.wire import MAX_MESSAGE_BYTES

MAX_SESSIONS = 16

_STATIC = Path(__file__).parent / "static"
_BIND_AGAIN_S = 3.0  # a port that is in use now may become free: that of a node that has just ended
_END_S = 1.0  # for a page to hear that this is the end
_ALIVE_S = 15.0  # a page that has not answered for longer is gone
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Only what this server serves itself; pages of others can neither frame it nor be reached from it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ConsoleServer:
    """Serves the page and its WebSocket from `start` to `stop`.

    A port that is in use does no harm: `problem` says so, and it is tried again every few seconds.

    Args:
        config: a port of 0 means any that is free.
        backend: what is shown and asked.
        on_change: called in the server's thread when `address` or `problem` have changed.

    Raises:
        ConfigError: the token is too short for a console that is open to the network.
    """

    def __init__(self, config: WebConfig, backend: Backend, on_change: Callable[[], None] = lambda: None) -> None:
        self._config, self._backend, self._on_change = config, backend, on_change
        self._guard = Guard(config)
        self._files = _read_files()
        self._sessions: set[Session] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._running = threading.Event()
        self._lock = threading.Lock()
        self._address: tuple[str, int] | None = None
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="sam_perception console", daemon=True)

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port that it listens on; None while it does not."""
        with self._lock:
            return self._address

    @property
    def problem(self) -> str:
        """Why it does not listen, and what to do; empty while all is well."""
        with self._lock:
            return self._problem

    @property
    def token(self) -> str:
        """What a browser has to know; empty: nothing."""
        return self._guard.token

    @property
    def url(self) -> str:
        """Where a browser finds it, with the token; empty while it does not listen."""
        address = self.address
        if address is None:
            return ""
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        # Behind the #, so that it is in no request, no log and no Referer header.
        return f"http://{host}:{address[1]}/" + (f"#token={self.token}" if self.token else "")

    @property
    def watchers(self) -> int:
        """Pages that are connected."""
        return len(self._sessions)

    def start(self) -> None:
        """Begin to listen; returns at once."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """End everything; whether the thread has ended within the time."""
        if not self._thread.ident:
            return True
        self._running.wait(timeout_s)
        if self._loop is not None and self._stopping is not None and not self._loop.is_closed():
            with suppress(RuntimeError):  # the loop has closed just now
                self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # ------------------------------------------------------------------ in the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            self._tell(None, f"the console has ended ({type(error).__name__}: {error}): configure the node again")
        finally:
            self._running.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._running.set()
        with (
            ThreadPoolExecutor(1, "sam_perception console quick") as quick,
            ThreadPoolExecutor(1, "sam_perception console slow") as slow,
        ):
            config = self._config
            projector = Projector(self._backend, quick, config.jpeg_quality)
            self._room = Room(self._backend, self._guard, projector, quick, slow, config.rate_hz, config.jpeg_quality)
            runner = web.AppRunner(self._application(), access_log=None, handle_signals=False, shutdown_timeout=_END_S)
            await runner.setup()
            try:
                while not self._stopping.is_set():
                    listening = await self._listen(runner)
                    await _wait(self._stopping, None if listening else _BIND_AGAIN_S)
            finally:
                await asyncio.gather(*(s.close(1001, "the node ends") for s in tuple(self._sessions)))
                await runner.cleanup()
                self._tell(None, "")
                slow.shutdown(wait=False, cancel_futures=True)

    async def _listen(self, runner: web.AppRunner) -> bool:
        config = self._config
        site = web.TCPSite(runner, config.host, config.port)
        try:
            await site.start()
        except OSError as error:
            await site.stop()
            self._tell(
                None,
                f"cannot listen on {config.host}:{config.port} ({error.strerror or error}): end what else uses the "
                f"port, or set web.port to another one; it is tried again every {_BIND_AGAIN_S:.0f} s",
            )
            return False
        host, port = runner.addresses[0][:2]
        self._tell((str(host), int(port)), "")
        return True

    def _tell(self, address: tuple[str, int] | None, problem: str) -> None:
        with self._lock:
            changed = (address, problem) != (self._address, self._problem)
            self._address, self._problem = address, problem
        if changed:
            self._on_change()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._check], client_max_size=MAX_MESSAGE_BYTES)
        application.router.add_get("/socket", self._socket)
        application.router.add_get("/{name:[a-z._]*}", self._file)
        return application

    @web.middleware
    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._guard.host_allowed(request.headers.get("Host")):
            text = "This console is not served under this name. Use the address that the node logs, or add the name "
            return web.Response(status=403, text=text + "to web.allowed_hosts.\n", headers=_HEADERS)
        return await handler(request)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        found = self._files.get(request.match_info["name"] or "index.html")
        if found is None:
            return web.Response(status=404, text="There is no such file.\n", headers=_HEADERS)
        kind, body = found
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=_HEADERS)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        headers = request.headers
        if not self._guard.origin_allowed(headers.get("Origin"), headers.get("Host")):
            return web.Response(status=403, text="Only the console's own page may connect.\n", headers=_HEADERS)
        if len(self._sessions) >= MAX_SESSIONS:
            return web.Response(status=503, text=f"{MAX_SESSIONS} pages are connected already.\n", headers=_HEADERS)
        socket = web.WebSocketResponse(
            max_msg_size=MAX_MESSAGE_BYTES, heartbeat=_ALIVE_S, timeout=_END_S, compress=False
        )
        session = Session(self._room, socket)
        self._sessions.add(session)
        try:
            await socket.prepare(request)
            await session.run()
        finally:
            self._sessions.discard(session)
        return socket


def _read_files() -> dict[str, tuple[str, bytes]]:
    """The page's files by name, with their types: nothing else can be asked for."""
    return {path.name: (_TYPES[path.suffix], path.read_bytes()) for path in _STATIC.iterdir() if path.suffix in _TYPES}


async def _wait(event: asyncio.Event, timeout_s: float | None) -> None:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except asyncio.TimeoutError:
        return
