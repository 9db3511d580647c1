"""`perception_node`: the process around the node."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from sam_perception.config import PerceptionConfig
from sam_perception.errors import PerceptionError
from sam_perception.perception import Perception

_END_S = 1.0  # for a callback in work to come to its end


def main(
    args: Sequence[str] | None = None, make_perception: Callable[[PerceptionConfig], Perception] = Perception
) -> int:
    """Run the node until SIGINT or SIGTERM, which end the process with 0, or until callbacks keep failing: with 1.

    Returns 2 where the node cannot be started. The main thread waits for signals, so that a model
    that takes seconds to load, or to look at a picture, does not delay the end.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        node, executor = _make(args, make_perception)
    except PerceptionError as error:
        sys.stderr.write(f"perception_node: {error.kind}: {error}\n")
        return 2
    from sam_perception.ros.spinning import Spinner

    spinner = Spinner(executor, stop, "perception_node")
    spinner.start()
    stop.wait()
    _end(node, spinner)
    # What is left is Python's own tidying-up, which takes a second and more with torch loaded, and cannot
    # be done at all while a thread is deep in native code, loading a model or looking at a picture.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if spinner.failed else 0)


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


def _end(node: Any, spinner: Any) -> None:
    import rclpy

    if spinner.end(_END_S):
        if node.state_label in ("unconfigured", "inactive", "active"):
            node.trigger_shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
