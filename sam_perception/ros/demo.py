"""The demo's live part: a camera, an operator and a recorder around the real node in its own process."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message

from sam_perception.errors import NodeFailed
from sam_perception.frame import RgbdFrame
from sam_perception.messages import stamp_ns_of_cdr
from sam_perception.prompts import AnyPrompt
from sam_perception.ros.convert import frame_to_msgs, prompt_to_msg
from sam_perception.ros.message_types import message_class
from sam_perception.ros.node_process import end, node_process, tail
from sam_perception.ros.spinning import spun_node
from sam_perception.sinks.bag import NODE, OUTPUTS
from sam_perception.sinks.raw_bag import RawBag
from sam_perception.sources import FrameSource
from sam_perception.sources.prompt_file import PromptSchedule
from sam_perception.srv import AddObject

DIAGNOSTICS = "/diagnostics"
_CAMERA = {
    "/color/image_raw": "sensor_msgs/Image",
    "/depth/image_raw": "sensor_msgs/Image",
    "/color/camera_info": "sensor_msgs/CameraInfo",
}
_START_S = 180.0  # loading a large model from a slow disk takes long
_ANSWER_S = 20.0
_RESULT_S = 20.0  # for one frame; the first one includes the model's warm-up
_END_S = 5.0


@dataclass(frozen=True)
class Playback:
    """What happened while a recording was played to the node."""

    stamps_ns: tuple[int, ...]  # published
    latency_ms: Mapping[int, float]  # publishing to result, by stamp; frames without a result are missing
    elapsed_s: float  # first frame to last result
    counts: Mapping[str, int]  # recorded messages by topic
    diagnostics: Mapping[str, Mapping[str, str]]  # last values by status name
    refusals: tuple[str, ...]  # prompts that the node did not take, and why
    exit_code: int
    end_s: float  # SIGINT to the process's end


def play(
    source: FrameSource,
    schedule: PromptSchedule,
    *,
    bag: Path,
    log: Path,
    settings: Mapping[str, Any],
    rate_hz: float | None = None,
    on_frame: Callable[[], Any] = lambda: None,
) -> Playback:
    """Play `source` over DDS to a node of its own process and record what it publishes.

    Without `rate_hz` the next frame follows when the last one's result has come, but no sooner than
    the stamps say; with it frames come at that rate whatever the node does, as from a camera.

    Args:
        source: frames of one recording.
        schedule: prompts, sent by service before their frame.
        bag: rosbag2 folder to create.
        log: file for the node's output.
        settings: the node's parameters that differ from their defaults.
        rate_hz: fixed rate, or None.
        on_frame: called after each frame.

    Raises:
        NodeFailed: the node did not start or went away.
        SinkError: the bag cannot be written.
    """
    domain_id = os.getpid() % 100 + 1  # higher ones meet the ports that Linux gives to others
    refusals: list[str] = []
    with (
        RawBag(bag, {**OUTPUTS, DIAGNOSTICS: "diagnostic_msgs/DiagnosticArray"}, compressed=True) as recording,
        node_process(domain_id, log, settings) as process,
        _station(domain_id, recording, process, log) as station,
    ):
        station.wait_for_node()
        published, elapsed_s = _play_frames(source, schedule, station, refusals, rate_hz, on_frame)
        # One more report, so that the last frames are in its counters.
        seen = station.counts[DIAGNOSTICS]
        station.wait_until(lambda: station.counts[DIAGNOSTICS] > seen, 3.0)
        exit_code, end_s = end(process)
    latency_ms = {
        stamp: (station.received_s[stamp] - sent_s) * 1e3
        for stamp, sent_s in published.items()
        if stamp in station.received_s
    }
    return Playback(
        tuple(published),
        latency_ms,
        elapsed_s,
        dict(station.counts),
        station.diagnostics,
        tuple(refusals),
        exit_code,
        end_s,
    )


def _play_frames(
    source: FrameSource,
    schedule: PromptSchedule,
    station: _Station,
    refusals: list[str],
    rate_hz: float | None,
    on_frame: Callable[[], Any],
) -> tuple[dict[int, float], float]:
    """Times of publishing by stamp, and seconds from the first frame to the last result."""
    published: dict[int, float] = {}
    start_s, first_ns = 0.0, 0
    for count, frame in enumerate(source):
        if not published:
            station.announce(frame)
            start_s, first_ns = time.monotonic(), frame.stamp_ns
        for prompt in schedule.due(count + len(source.rejected), frame.stamp_ns):
            refusals += station.add_object(prompt)
        after_s = count / rate_hz if rate_hz else (frame.stamp_ns - first_ns) * 1e-9
        station.pause(start_s + after_s - time.monotonic())
        published[frame.stamp_ns] = time.monotonic()
        station.publish(frame)
        if rate_hz is None:
            station.wait_until(lambda stamp=frame.stamp_ns: stamp in station.received_s, _RESULT_S)  # type: ignore[misc]
        on_frame()
    last_ns = max(published, default=0)
    station.wait_until(lambda: last_ns in station.received_s, 5.0)
    elapsed_s = max(station.received_s.values(), default=start_s) - start_s
    # The frame's other messages follow its objects.
    station.wait_until(lambda: len({station.counts[topic] for topic in OUTPUTS}) == 1, 2.0)
    return published, elapsed_s


class _Station:
    """The rclpy side of this process: publishes frames, asks for objects, records results."""

    def __init__(self, node: Any, recording: RawBag, process: subprocess.Popen[bytes], log: Path) -> None:
        self._node, self._recording, self._process, self._log = node, recording, process, log
        self._changed = threading.Condition()
        self.received_s: dict[int, float] = {}  # objects by stamp, monotonic clock
        self.counts: dict[str, int] = dict.fromkeys((*OUTPUTS, DIAGNOSTICS), 0)
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.trouble = ""  # why the node cannot work, by its own words
        self._failure: Exception | None = None
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=20, reliability=ReliabilityPolicy.RELIABLE)
        for topic, kind in {**OUTPUTS, DIAGNOSTICS: "diagnostic_msgs/DiagnosticArray"}.items():
            node.create_subscription(message_class(kind), topic, self._recorder(topic), qos, raw=True)
        self._publishers = [node.create_publisher(message_class(kind), topic, qos) for topic, kind in _CAMERA.items()]
        self._add = node.create_client(AddObject, f"{NODE}/add_object")

    def _recorder(self, topic: str) -> Callable[[bytes], None]:
        def record(raw: bytes) -> None:
            now_s = time.monotonic()
            with self._changed:
                try:
                    self._recording.write(topic, time.time_ns(), raw)
                except Exception as error:  # raised again where somebody waits
                    self._failure = self._failure or error
                self.counts[topic] += 1
                if topic == f"{NODE}/objects":
                    self.received_s[stamp_ns_of_cdr(raw)] = now_s
                elif topic == DIAGNOSTICS:
                    self._keep_diagnostics(raw)
                self._changed.notify_all()

        return record

    def _keep_diagnostics(self, raw: bytes) -> None:
        for status in deserialize_message(raw, message_class("diagnostic_msgs/DiagnosticArray")).status:
            if status.name.endswith(": node") and status.level == status.ERROR:
                self.trouble = status.message
            self.diagnostics[status.name] = {
                "message": status.message,
                **{value.key: value.value for value in status.values},
            }

    def wait_until(self, reached: Callable[[], bool], timeout_s: float) -> bool:
        """Whether `reached` became true in time; looked at whenever a message comes, and now and then.

        Raises:
            NodeFailed: the node's process has ended.
            SinkError: what came could not be recorded.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not reached():
                if self._failure is not None:
                    raise self._failure
                if self._process.poll() is not None:
                    raise NodeFailed(f"the node ended with code {self._process.returncode}: {tail(self._log)}")
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(min(left_s, 0.2))
        return True

    def pause(self, duration_s: float) -> None:
        """Let time pass."""
        if duration_s > 0:
            self.wait_until(lambda: False, duration_s)

    def wait_for_node(self) -> None:
        """Return when the node is active and connected to all topics.

        Raises:
            NodeFailed: it ended, says that it cannot work, or was not ready in time.
        """

        def ready() -> bool:
            matched = all(publisher.get_subscription_count() for publisher in self._publishers)
            publishing = all(self._node.count_publishers(topic) for topic in OUTPUTS)
            return bool(self.trouble) or (matched and publishing and self._add.service_is_ready())

        in_time = self.wait_until(ready, _START_S)
        if self.trouble:
            raise NodeFailed(f"the node says: {self.trouble} (its output is in {self._log})")
        if not in_time:
            raise NodeFailed(f"the node was not active after {_START_S:.0f} s: {tail(self._log)}")

    def announce(self, frame: RgbdFrame) -> None:
        """Send camera_info alone: without one, the node cannot use the first frame."""
        self._publishers[2].publish(frame_to_msgs(frame)[2])
        self.pause(0.5)

    def publish(self, frame: RgbdFrame) -> None:
        """Send camera_info, colour and depth."""
        for publisher, message in zip(reversed(self._publishers), reversed(frame_to_msgs(frame)), strict=True):
            publisher.publish(message)

    def add_object(self, prompt: AnyPrompt) -> list[str]:
        """Ask for an object; what the node has against it, if anything."""
        future = self._add.call_async(AddObject.Request(prompt=prompt_to_msg(prompt)))
        if not self.wait_until(future.done, _ANSWER_S):
            return [f"object {prompt.object_id}: no answer from {NODE}/add_object within {_ANSWER_S:.0f} s"]
        answer = future.result()
        return [] if answer.success else [f"object {prompt.object_id}: {answer.message}"]


@contextmanager
def _station(domain_id: int, recording: RawBag, process: subprocess.Popen[bytes], log: Path) -> Iterator[_Station]:
    with spun_node("sam_perception_demo", domain_id) as node:
        yield _Station(node, recording, process, log)
