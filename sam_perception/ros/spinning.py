"""Threads that run callbacks: of our nodes' processes, and of commands that talk to a node."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

_WAKE_S = 0.2
_END_S = 5.0
_FAILURES = 10  # callbacks in a row
_SAY_AGAIN_S = 5.0  # a callback that fails with every message is not to fill the disk


class Spinner(threading.Thread):
    """Runs a node's callbacks until told to stop, or until ten in a row have failed.

    Args:
        executor: with the node.
        stop: is looked at, and set at the end.
        name: of the executable, for what is said of a callback that failed.
        failed: is called with what a callback raised; None: it goes to stderr.
    """

    def __init__(
        self, executor: Any, stop: threading.Event, name: str, *, failed: Callable[[Exception], None] | None = None
    ) -> None:
        super().__init__(name=f"{name} executor", daemon=True)
        self._executor, self._stop_event, self._process = executor, stop, name
        self._tell = failed or self._say
        self.failed = False
        self._said_s = -_SAY_AGAIN_S

    def run(self) -> None:
        """As a thread."""
        failures = 0
        while not self._stop_event.is_set():
            try:
                self._executor.spin_once(timeout_sec=1.0)
                failures = 0
            except ExternalShutdownException:
                break
            except Exception as error:
                # One bad callback must not end the others; where all are bad, nothing will come.
                self._tell(error)
                failures += 1
                self.failed = failures >= _FAILURES
                if self.failed:
                    break
        self._stop_event.set()

    def end(self, within_s: float) -> bool:
        """Let a callback in work come to its end; whether it did."""
        self._executor.wake()
        self.join(within_s)
        return not self.is_alive()

    def _say(self, error: Exception) -> None:
        if time.monotonic() - self._said_s >= _SAY_AGAIN_S:
            self._said_s = time.monotonic()
            told = "".join(traceback.format_exception(error))
            sys.stderr.write(f"{self._process}: a callback failed:\n{told}")


@contextmanager
def spun_node(name: str, domain_id: int) -> Iterator[Node]:
    """A node whose callbacks run in a thread until the block ends."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain_id, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node(name, context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        stop = threading.Event()

        def spin() -> None:
            with suppress(ExternalShutdownException):
                while not stop.is_set():
                    executor.spin_once(timeout_sec=_WAKE_S)

        spinner = threading.Thread(target=spin, name=name, daemon=True)
        spinner.start()
        try:
            yield node
        finally:
            stop.set()
            spinner.join(_END_S)
            node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
