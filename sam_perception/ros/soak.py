"""A long run of the real node at full speed, with objects coming and going, and what it holds meanwhile."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

from sam_perception.errors import NodeFailed
from sam_perception.frame import RgbdFrame
from sam_perception.messages import stamp_ns_of_cdr
from sam_perception.ros.convert import frame_to_msgs
from sam_perception.ros.message_types import message_class
from sam_perception.ros.node_process import end, node_process, tail
from sam_perception.ros.soak_operator import Operator, Scenery
from sam_perception.ros.spinning import spun_node
from sam_perception.sinks.bag import NODE, OUTPUTS

_CAMERA = {
    "/color/camera_info": "sensor_msgs/CameraInfo",
    "/depth/image_raw": "sensor_msgs/Image",
    "/color/image_raw": "sensor_msgs/Image",
}
_START_S = 180.0
_RESULT_S = 60.0  # for one frame
_ACT_EVERY = 5  # frames between two requests
_FRAME_NS = 66_666_667
_LOOPS = 20  # passes through the pictures until time goes back, as when a bag starts again


@dataclass(frozen=True)
class Sample:
    """What the node's process holds at one moment."""

    elapsed_s: float
    frames: int  # with a result so far
    objects: int  # tracked or asked for
    rss_mb: float
    threads: int
    file_handles: int
    dds_entities: int  # the node's publishers, subscriptions and services, as the graph shows them


@dataclass(frozen=True)
class SoakRun:
    """What came of it."""

    samples: Sequence[Sample]
    requests: Mapping[str, int]  # made, by kind
    refused: int  # of them, as they should be
    exit_code: int


def soak(
    scenery: Sequence[Scenery],
    duration_s: float,
    *,
    log: Path,
    settings: Mapping[str, Any],
    sample_s: float,
    seed: int = 0,
    on_sample: Callable[[Sample], Any] = lambda _: None,
) -> SoakRun:
    """Play pictures over and over to a node in a process of its own, the next one as soon as a result has come.

    All outputs are subscribed to. Every few frames something is asked of the node: objects are added,
    corrected, renamed and removed, everything is forgotten, subscribers come and go, prompts are wrong.

    Args:
        scenery: pictures with what they show.
        duration_s: of the run, from the first result on.
        log: file for the node's output.
        settings: the node's parameters that differ from their defaults.
        sample_s: time between two samples.
        seed: of what is asked.
        on_sample: called with each sample as it is taken.

    Raises:
        NodeFailed: the node did not start, went away, or does not answer any more.
    """
    domain_id = os.getpid() % 100 + 1  # higher ones meet the ports that Linux gives to others
    with node_process(domain_id, log, settings) as process, _player(domain_id, process, log) as player:
        player.wait_for_node()
        operator = Operator(player.node, np.random.default_rng(seed))
        samples = _run(scenery, duration_s, sample_s, player, operator, on_sample)
        exit_code, _ = end(process)
    return SoakRun(samples, dict(operator.requests), operator.refused, exit_code)


def _run(
    scenery: Sequence[Scenery],
    duration_s: float,
    sample_s: float,
    player: _Player,
    operator: Operator,
    on_sample: Callable[[Sample], Any],
) -> list[Sample]:
    samples: list[Sample] = []
    start_s, count, next_s = 0.0, 0, 0.0
    while count == 0 or time.monotonic() - start_s < duration_s:
        loop, index = divmod(count, len(scenery))
        shown = scenery[index]
        stamp_ns = 10**9 * 1000 + (loop % _LOOPS * len(scenery) + index) * _FRAME_NS
        player.play(replace(shown.frame, stamp_ns=stamp_ns))
        if count == 0:
            start_s = next_s = time.monotonic()
        count += 1
        if count % _ACT_EVERY == 0:
            operator.act(shown)
        if time.monotonic() >= next_s:
            next_s += sample_s
            samples.append(player.sample(time.monotonic() - start_s, count, len(operator.known)))
            on_sample(samples[-1])
    return samples


class _Player:
    """A camera and subscribers in this process."""

    def __init__(self, node: Any, process: subprocess.Popen[bytes], log: Path) -> None:
        self.node, self._process, self._log = node, process, log
        self._facts = psutil.Process(process.pid)
        self._changed = threading.Condition()
        self._done_ns = -1
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=20, reliability=ReliabilityPolicy.RELIABLE)
        for topic, kind in OUTPUTS.items():
            node.create_subscription(message_class(kind), topic, self._taker(topic), qos, raw=True)
        self._publishers = [node.create_publisher(message_class(kind), topic, qos) for topic, kind in _CAMERA.items()]

    def _taker(self, topic: str) -> Callable[[bytes], None]:
        def take(raw: bytes) -> None:
            if topic == f"{NODE}/objects":
                with self._changed:
                    self._done_ns = stamp_ns_of_cdr(raw)
                    self._changed.notify_all()

        return take

    def play(self, frame: RgbdFrame) -> None:
        """Send a frame, again where it got lost, until there is a result for it."""
        messages = frame_to_msgs(frame)
        deadline_s = time.monotonic() + _RESULT_S
        while time.monotonic() < deadline_s:
            for publisher, message in zip(self._publishers, reversed(messages), strict=True):
                publisher.publish(message)
            if self._wait(lambda: self._done_ns == frame.stamp_ns, _RESULT_S / 6):
                return
        raise NodeFailed(f"no result for a frame within {_RESULT_S:.0f} s: {tail(self._log)}")

    def sample(self, elapsed_s: float, frames: int, objects: int) -> Sample:
        """What the node's process holds now."""
        with self._facts.oneshot():
            rss_mb = self._facts.memory_info().rss / 1e6
            threads, handles = self._facts.num_threads(), self._facts.num_fds()
        name, namespace = NODE.rpartition("/")[2], NODE.rpartition("/")[0] or "/"
        entities = sum(
            len(ask(name, namespace))
            for ask in (
                self.node.get_publisher_names_and_types_by_node,
                self.node.get_subscriber_names_and_types_by_node,
                self.node.get_service_names_and_types_by_node,
                self.node.get_client_names_and_types_by_node,
            )
        )
        return Sample(elapsed_s, frames, objects, rss_mb, threads, handles, entities)

    def wait_for_node(self) -> None:
        """Return when the node is active and connected to all topics.

        Raises:
            NodeFailed: it ended, or was not ready in time.
        """

        def ready() -> bool:
            matched = all(publisher.get_subscription_count() for publisher in self._publishers)
            return matched and all(self.node.count_publishers(topic) for topic in OUTPUTS)

        if not self._wait(ready, _START_S):
            raise NodeFailed(f"the node was not active after {_START_S:.0f} s: {tail(self._log)}")

    def _wait(self, reached: Callable[[], bool], timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not reached():
                if self._process.poll() is not None:
                    raise NodeFailed(f"the node ended with code {self._process.returncode}: {tail(self._log)}")
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(min(left_s, 0.2))
        return True


@contextmanager
def _player(domain_id: int, process: subprocess.Popen[bytes], log: Path) -> Iterator[_Player]:
    with spun_node("sam_perception_soak", domain_id) as node:
        yield _Player(node, process, log)
