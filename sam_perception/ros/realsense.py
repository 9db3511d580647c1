"""`realsense_node`: the process around the camera's node."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from sam_perception.errors import PerceptionError
from sam_perception.sources.realsense import RealSenseCamera, RealSenseConfig

_SPIN_S = 0.2


def main(
    args: Sequence[str] | None = None, make_camera: Callable[[RealSenseConfig], RealSenseCamera] = RealSenseCamera
) -> int:
    """Publish the camera until SIGINT or SIGTERM; 0 then, 2 where the node cannot be started.

    A camera that is not there is waited for, and said so in diagnostics.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
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
    except PerceptionError as error:
        sys.stderr.write(f"realsense_node: {error.kind}: {error}\n")
        return 2
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop.is_set():
        executor.spin_once(timeout_sec=_SPIN_S)
    if not node.close():
        # The SDK is starting a camera that does not answer, which takes it up to 15 s.
        sys.stderr.flush()
        os._exit(0)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
