"""A plain node in a domain of its own, spun by a thread: for commands that talk to the real node."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

_WAKE_S = 0.2
_END_S = 5.0


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
