"""Chromium without a screen, told what to do over its DevTools protocol, which is JSON on a WebSocket."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

TIMEOUT_S = 60.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str:
    """The browser's path; the test is skipped where there is none."""
    for name in _BROWSERS:
        path = shutil.which(name)
        if path:
            return path
    pytest.skip(f"none of {', '.join(_BROWSERS)} is installed: apt-get install chromium")


@contextmanager
def browser(folder: Path, size: tuple[int, int] = (1360, 850)) -> Iterator[Page]:
    """One page in a browser of its own, whose profile lies in `folder`."""
    command = [find_browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--no-first-run", "--disable-extensions", "--disable-background-networking", "--hide-scrollbars"]
    command += [
        "--remote-debugging-port=0",
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={size[0]},{size[1]}",
    ]
    command.append("about:blank")
    # A session of its own, so that the helpers that it starts can be ended with it.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        port = _port(folder / "profile" / "DevToolsActivePort", process)
        with Page(port, size) as page:
            yield page
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT_S)


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    end_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) >= 2:
            return int(lines[0])
        assert process.poll() is None, f"the browser ended with {process.returncode}"
        _pause(0.02)
    raise AssertionError(f"the browser has not opened its DevTools port within {TIMEOUT_S} s")


def _pause(duration_s: float) -> None:
    asyncio.run(asyncio.sleep(duration_s))


class Page:
    """A tab: goes to addresses, evaluates expressions, moves the mouse and presses keys, takes pictures."""

    def __init__(self, port: int, size: tuple[int, int]) -> None:
        self._port, self._size = port, size
        self._loop = asyncio.new_event_loop()
        self._number = 0
        self.console: list[str] = []  # errors and exceptions that the page has written

    def __enter__(self) -> Page:
        self._loop.run_until_complete(self._connect())
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        width, height = self._size
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._session.close())
        self._loop.close()

    async def _connect(self) -> None:
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{self._port}/json/list") as answer:
            (target,) = [entry for entry in await answer.json() if entry["type"] == "page"]
        self._socket = await self._session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, parameters), TIMEOUT_S))

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_str(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads((await self._socket.receive()).data)
            if message.get("id") == self._number:
                assert "error" not in message, message["error"]
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.console.append(json.dumps(parameters["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.console.append(parameters["entry"]["text"])

    # ------------------------------------------------------------------ what a person does

    def open(self, url: str) -> None:
        """Go to an address and wait for its page; `about:blank` first, so that another fragment loads it anew."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, which may be a promise."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, expression: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Wait until an expression is truthy; its value."""
        end_s = time.monotonic() + timeout_s
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end_s, f"not so within {timeout_s} s: {expression}; console: {self.console}"
            self._loop.run_until_complete(asyncio.sleep(0.02))
        return value

    def mouse(self, kind: str, x: float, y: float, *, shift: bool = False, down: bool = False) -> None:
        """`mouseMoved`, `mousePressed` or `mouseReleased` at a place of the window."""
        button = "none" if kind == "mouseMoved" and not down else "left"
        self.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button=button,
            buttons=1 if down else 0,
            clickCount=0 if kind == "mouseMoved" else 1,
            modifiers=8 if shift else 0,
        )

    def click(self, x: float, y: float, *, shift: bool = False) -> None:
        """Move there, press and release."""
        self.mouse("mouseMoved", x, y, shift=shift)
        self.mouse("mousePressed", x, y, shift=shift, down=True)
        self.mouse("mouseReleased", x, y, shift=shift)

    def hover(self, x: float, y: float, expression: str) -> None:
        """Move about a place, as a hand does, until an expression is true."""
        end_s = time.monotonic() + TIMEOUT_S
        for step in itertools.cycle((0.0, 2.0)):
            self.mouse("mouseMoved", x + step, y)
            if self.evaluate(expression):
                return
            assert time.monotonic() < end_s, f"not so within {TIMEOUT_S} s: {expression}"
            self._loop.run_until_complete(asyncio.sleep(0.02))

    def drag(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Press at one place, release at another."""
        self.mouse("mouseMoved", x0, y0)
        self.mouse("mousePressed", x0, y0, down=True)
        self.mouse("mouseMoved", (x0 + x1) / 2, (y0 + y1) / 2, down=True)
        self.mouse("mouseMoved", x1, y1, down=True)
        self.mouse("mouseReleased", x1, y1)

    def press(self, selector: str) -> None:
        """Click in the middle of an element."""
        self.click(*self.place(selector))

    def place(self, selector: str) -> tuple[float, float]:
        """The middle of an element in the window, once it is there."""
        found = f"document.querySelector({json.dumps(selector)})"
        x, y = self.until(
            f"(() => {{ const e = {found}; if (!e) return null; e.scrollIntoView({{block: 'nearest'}}); "
            "const r = e.getBoundingClientRect(); return r.width ? [r.x + r.width / 2, r.y + r.height / 2] : null; })()"
        )
        return x, y

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.call("Input.insertText", text=text)

    def key(self, key: str) -> None:
        """Press and release a key by its name, such as Enter."""
        code = {"Enter": 13, "Escape": 27}.get(key, ord(key.upper()) if len(key) == 1 else 0)
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=code,
                **(text if kind == "keyDown" else {}),
            )

    def screenshot(self, path: Path) -> None:
        """A PNG of the window."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    # ------------------------------------------------------------------ the console's own parts

    def pixel_place(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the picture lies in the window."""
        left, top, width, height, columns, rows = self.evaluate(
            "(() => { const c = document.getElementById('picture'), r = c.getBoundingClientRect();"
            "return [r.x, r.y, r.width, r.height, c.width, c.height]; })()"
        )
        return left + (x + 0.5) * width / columns, top + (y + 0.5) * height / rows

    def pixel(self, x: int, y: int) -> tuple[int, int, int]:
        """RGB of a pixel of the picture that is shown."""
        values = self.evaluate(
            f"[...document.getElementById('picture').getContext('2d').getImageData({x}, {y}, 1, 1).data].slice(0, 3)"
        )
        red, green, blue = values
        return red, green, blue
