"""The process around the merging node: `python3 -m sam_perception.ros.merge --ros-args -p cameras:="left right"`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence

from sam_perception.errors import PerceptionError

_END_S = 1.0  # for a callback in work to come to its end


def main(args: Sequence[str] | None = None) -> int:
    """Merge until SIGINT or SIGTERM; 0 then, 1 where every callback fails, 2 where the node cannot be started."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    from sam_perception._ros_environment import ensure_ros_environment

    ensure_ros_environment()
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from sam_perception.ros.merge_node import MergeNode
    from sam_perception.ros.spinning import Spinner

    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = MergeNode()
    except PerceptionError as error:
        sys.stderr.write(f"merge: {error.kind}: {error}\n")
        rclpy.try_shutdown()
        return 2
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinner = Spinner(executor, stop, "merge_node", failed=lambda error: node.refuse("", error))
    spinner.start()
    stop.wait()
    if spinner.end(_END_S):
        node.destroy_node()
        rclpy.try_shutdown()
    return 1 if spinner.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
