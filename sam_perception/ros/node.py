"""`perception_node`: the process around the node."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from sam_perception.config import PerceptionConfig
from sam_perception.errors import PerceptionError
from sam_perception.perception import Perception

_END_S = 1.5  # from the signal to the process's end, whatever inference is doing
_FAILURES = 10  # callbacks in a row


def main(
    args: Sequence[str] | None = None, make_perception: Callable[[PerceptionConfig], Perception] = Perception
) -> int:
    """Run the node until SIGINT or SIGTERM; 0 then, 2 where it could not be started, 1 where callbacks keep failing.

    The main thread waits for signals, so that a model that takes seconds to load, or to look at a
    picture, does not delay the end. A second signal is not needed.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        node, executor = _make(args, make_perception)
    except PerceptionError as error:
        sys.stderr.write(f"perception_node: {error.kind}: {error}\n")
        return 2
    spinner = _Spinner(executor, stop)
    spinner.start()
    stop.wait()
    _end(node, executor, spinner)
    return 1 if spinner.failed else 0


def _make(args: Sequence[str] | None, make_perception: Callable[[PerceptionConfig], Perception]) -> tuple[Any, Any]:
    from sam_perception._ros_environment import ensure_ros_environment

    ensure_ros_environment()
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from sam_perception.ros.perception_node import PerceptionNode

    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node = PerceptionNode(make_perception)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    return node, executor


class _Spinner(threading.Thread):
    """Runs callbacks until told to stop."""

    def __init__(self, executor: Any, stop: threading.Event) -> None:
        super().__init__(name="sam_perception executor", daemon=True)
        self._executor, self._stop_event = executor, stop
        self.failed = False

    def run(self) -> None:
        from rclpy.executors import ExternalShutdownException

        failures = 0
        while not self._stop_event.is_set():
            try:
                self._executor.spin_once(timeout_sec=1.0)
                failures = 0
            except ExternalShutdownException:
                break
            except Exception:
                # One bad callback must not end the others; where all are bad, nothing will come.
                sys.stderr.write(f"perception_node: a callback failed:\n{traceback.format_exc()}")
                failures += 1
                self.failed = failures >= _FAILURES
                if self.failed:
                    break
        self._stop_event.set()


def _end(node: Any, executor: Any, spinner: _Spinner) -> None:
    import rclpy

    deadline_s = time.monotonic() + _END_S
    executor.wake()
    spinner.join(_END_S / 2)
    if not spinner.is_alive():
        if node.state_label in ("unconfigured", "inactive", "active"):
            node.trigger_shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    alive = [thread for thread in threading.enumerate() if thread.name.startswith("sam_perception")]
    for thread in alive:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    if any(thread.is_alive() for thread in alive):
        # Loading or inference is deep in native code, and Python cannot end while a thread is there.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1 if spinner.failed else 0)


if __name__ == "__main__":
    sys.exit(main())
