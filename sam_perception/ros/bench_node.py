"""The whole node over DDS: from the camera's stamp to `~/objects`, calm and under overload."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from sam_perception.benchmarks.pictures import boxes, pictures, rgbd_scene
from sam_perception.errors import NodeFailed
from sam_perception.frame import RgbdFrame
from sam_perception.messages import stamp_ns_of_cdr
from sam_perception.ros.convert import frame_to_msgs, prompt_to_msg
from sam_perception.ros.message_types import message_class
from sam_perception.ros.node_process import node_process, tail
from sam_perception.srv import AddObject

_CAMERA = {
    "/color/image_raw": "sensor_msgs/Image",
    "/depth/image_raw": "sensor_msgs/Image",
    "/color/camera_info": "sensor_msgs/CameraInfo",
}
# What is measured is the node, not what a busy machine's DDS loses.
_RELIABLE = {f"input.{name}_reliability": "reliable" for name in ("color", "depth", "camera_info")}
_OBJECTS = "/sam_perception/objects"
_START_S, _ANSWER_S, _FRAME_S, _LAST_S = 180.0, 20.0, 60.0, 10.0
_WARM_UP = 20  # frames
_FASTER = 3.0  # times, under overload


@dataclass(frozen=True)
class NodeLatency:
    """Milliseconds from the image's stamp to the arrival of its objects here."""

    rate_hz: float  # of the camera
    objects: int
    sent: int  # frames
    answered: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    bound_ms: float = float("nan")  # under overload: two inference times and one camera period

    @property
    def within(self) -> bool:
        """Whether the 99th percentile keeps the bound; true where there is none."""
        return not self.p99_ms > self.bound_ms


def node_latency(
    objects: int,
    rate_hz: float,
    frames: int,
    settings: Mapping[str, Any],
    log: Path,
    *,
    on_frame: Callable[[], object] = lambda: None,
) -> tuple[NodeLatency, NodeLatency]:
    """Latencies at a calm pace, and with a camera three times as fast as the node answers.

    At the calm pace the next frame comes when the last one is answered, and no sooner than `rate_hz` says;
    what the node takes for a frame is the median there.

    Args:
        objects: tracked by boxes.
        rate_hz: of the camera, at most.
        frames: measured at each pace, after the warm-up.
        settings: the node's parameters that differ from their defaults.
        log: the node's output.
        on_frame: called after each frame.

    Raises:
        NodeFailed: the node did not start, refused an object or did not answer.
    """
    domain_id = os.getpid() % 100 + 1
    with node_process(domain_id, log, {**settings, **_RELIABLE}) as process, _observer(domain_id) as observer:
        observer.wait(lambda: observer.connected, _START_S, process, log)
        observer.add_objects(objects, process, log)
        calm = observer.play(frames + _WARM_UP, rate_hz, process, log, on_frame, wait_for_answers=True)
        times_ms = [calm[stamp] for stamp in list(calm)[_WARM_UP:]]
        took_ms = float(np.median(times_ms))
        fast_hz = _FASTER * 1e3 / took_ms
        rushed = observer.play(
            int(_FASTER) * frames + _WARM_UP, fast_hz, process, log, on_frame, wait_for_answers=False
        )
    hurried_ms = list(rushed.values())[_WARM_UP // int(_FASTER) :]
    bound_ms = 2 * took_ms + 1e3 / fast_hz
    return (
        _latency(rate_hz, objects, frames, times_ms),
        _latency(fast_hz, objects, int(_FASTER) * frames + _WARM_UP, hurried_ms, bound_ms),
    )


def _latency(
    rate_hz: float, objects: int, sent: int, times_ms: list[float], bound_ms: float = float("nan")
) -> NodeLatency:
    if not times_ms:
        raise NodeFailed("the node answered to no frame")
    p50, p95, p99 = (float(p) for p in np.percentile(times_ms, (50, 95, 99)))
    return NodeLatency(rate_hz, objects, sent, len(times_ms), p50, p95, p99, bound_ms)


class _Observer:
    """Camera, operator and listener in this process."""

    def __init__(self, node: Any) -> None:
        self._node, self._changed = node, threading.Condition()
        self._arrived_ns: dict[int, int] = {}  # wall clock, by stamp
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=20, reliability=ReliabilityPolicy.RELIABLE)
        self._publishers = [node.create_publisher(message_class(kind), topic, qos) for topic, kind in _CAMERA.items()]
        node.create_subscription(
            message_class("sam_perception/TrackedObjectArray"), _OBJECTS, self._on_objects, qos, raw=True
        )
        self._add = node.create_client(AddObject, "/sam_perception/add_object")
        frame, _ = rgbd_scene()
        self._frame, self._pictures = frame, pictures(32)

    @property
    def connected(self) -> bool:
        """Whether the node listens, answers and publishes."""
        listens = all(publisher.get_subscription_count() for publisher in self._publishers)
        return bool(listens and self._node.count_publishers(_OBJECTS) and self._add.service_is_ready())

    def _on_objects(self, raw: bytes) -> None:
        now_ns = time.time_ns()
        with self._changed:
            self._arrived_ns[stamp_ns_of_cdr(raw)] = now_ns
            self._changed.notify_all()

    def wait(self, reached: Callable[[], bool], timeout_s: float, process: subprocess.Popen[bytes], log: Path) -> None:
        """Return when `reached` is true.

        Raises:
            NodeFailed: the node has ended, or it takes too long.
        """
        end_s = time.monotonic() + timeout_s
        with self._changed:
            while not reached():
                if process.poll() is not None:
                    raise NodeFailed(f"the node ended with code {process.returncode}: {tail(log)}")
                if time.monotonic() > end_s:
                    raise NodeFailed(f"the node did not answer within {timeout_s:.0f} s: {tail(log)}")
                self._changed.wait(0.05)

    def add_objects(self, count: int, process: subprocess.Popen[bytes], log: Path) -> None:
        """Ask for objects 1 to `count`."""
        for prompt in boxes(count):
            future = self._add.call_async(AddObject.Request(prompt=prompt_to_msg(prompt)))
            self.wait(future.done, _ANSWER_S, process, log)
            answer = future.result()
            if not answer.success:
                raise NodeFailed(f"the node refused object {prompt.object_id}: {answer.message}")

    def play(
        self, frames: int, rate_hz: float, process: subprocess.Popen[bytes], log: Path,
        on_frame: Callable[[], object], *, wait_for_answers: bool,
    ) -> dict[int, float]:  # fmt: skip
        """Milliseconds by stamp of those frames that were answered, in order."""
        sent: list[int] = []
        next_s = time.monotonic()
        for number in range(frames):
            with self._changed:
                while (left_s := next_s - time.monotonic()) > 0:
                    self._changed.wait(left_s)
            next_s = max(next_s + 1.0 / rate_hz, time.monotonic() - 1.0 / rate_hz)
            stamp_ns = time.time_ns()
            self._publish(number, stamp_ns)
            sent.append(stamp_ns)
            if wait_for_answers:
                self.wait(lambda stamp_ns=stamp_ns: stamp_ns in self._arrived_ns, _FRAME_S, process, log)  # type: ignore[misc]
            on_frame()
        with suppress(NodeFailed):  # a frame that was replaced by a newer one is never answered
            self.wait(lambda: sent[-1] in self._arrived_ns, _LAST_S, process, log)
        with self._changed:
            return {stamp: 1e-6 * (self._arrived_ns[stamp] - stamp) for stamp in sent if stamp in self._arrived_ns}

    def _publish(self, number: int, stamp_ns: int) -> None:
        old = self._frame
        rgb = self._pictures[number % len(self._pictures)]
        messages = frame_to_msgs(RgbdFrame(rgb, old.depth_m, old.intrinsics, stamp_ns, old.frame_id))
        for publisher, message in zip(reversed(self._publishers), reversed(messages), strict=True):
            publisher.publish(message)


@contextmanager
def _observer(domain_id: int) -> Iterator[_Observer]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain_id, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node("sam_perception_bench", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        observer, stop = _Observer(node), threading.Event()

        def spin() -> None:
            with suppress(ExternalShutdownException):
                while not stop.is_set():
                    executor.spin_once(timeout_sec=0.2)

        spinner = threading.Thread(target=spin, name="bench listener", daemon=True)
        spinner.start()
        try:
            yield observer
        finally:
            stop.set()
            spinner.join(_ANSWER_S)
            node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
