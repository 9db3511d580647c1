"""`realsense_node`: the process around the camera's node."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from sam_perception.errors import PerceptionError
from sam_perception.sources.realsense import RealSenseCamera, RealSenseConfig

_END_S = 1.0  # for a callback in work to come to its end


def main(
    args: Sequence[str] | None = None, make_camera: Callable[[RealSenseConfig], RealSenseCamera] = RealSenseCamera
) -> int:
    """Publish the camera until SIGINT or SIGTERM, or until callbacks keep failing.

    Returns 0 after a signal, 1 where callbacks kept failing, 2 where the node cannot be started. A camera that
    is not there is waited for, and said so in diagnostics.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        node, executor = _make(args, make_camera)
    except PerceptionError as error:
        sys.stderr.write(f"realsense_node: {error.kind}: {error}\n")
        return 2
    from sam_perception.ros.spinning import Spinner

    spinner = Spinner(executor, stop, "realsense_node")
    spinner.start()
    stop.wait()
    ended = spinner.end(_END_S)
    code = 1 if spinner.failed else 0
    # The SDK may be starting a camera that does not answer, which takes it up to 15 s.
    if not node.close() or not ended:
        sys.stderr.flush()
        os._exit(code)
    import rclpy

    node.destroy_node()
    rclpy.try_shutdown()
    return code


def _make(args: Sequence[str] | None, make_camera: Callable[[RealSenseConfig], RealSenseCamera]) -> tuple[Any, Any]:
    from sam_perception._ros_environment import ensure_ros_environment

    ensure_ros_environment()
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from sam_perception.ros.logs import ToRosLog
    from sam_perception.ros.realsense_node import RealSenseNode

    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node = RealSenseNode(make_camera)
    log = logging.getLogger("sam_perception")
    log.setLevel(logging.INFO)
    log.addHandler(ToRosLog(node.get_logger()))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    return node, executor


if __name__ == "__main__":
    sys.exit(main())
