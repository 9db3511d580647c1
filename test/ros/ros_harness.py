"""A camera and a client of the node, over DDS; everything waits on conditions with a time-out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fake_tracker import ColorTracker, make_frame
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sam_perception.msg import Prompt as PromptMsg
from sam_perception.msg import TrackedObjectArray
from sam_perception.srv import AddObject, ListObjects, RemoveObject
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger

from sam_perception.config import PerceptionConfig
from sam_perception.frame import RgbdFrame
from sam_perception.messages import stamp_ns_of
from sam_perception.perception import Perception
from sam_perception.prompts import Prompt
from sam_perception.ros.convert import frame_to_msgs, prompt_to_msg
from sam_perception.ros.perception_node import PerceptionNode

TIMEOUT_S = 10.0

# Reliable, so that what a test counts is what the node does and not what a busy machine loses.
RELIABLE = {f"input.{name}_reliability": "reliable" for name in ("color", "depth", "camera_info")}
QUICK = {"diagnostics_period_s": 0.05, "input.timeout_s": 0.5}


def reliable(depth: int = 50) -> QoSProfile:
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)


class Inbox:
    """What came on a topic."""

    def __init__(self, node: Node, kind: Any, topic: str) -> None:
        self.messages: list[Any] = []
        self._changed = threading.Condition()
        self.subscription = node.create_subscription(kind, topic, self._take, reliable())

    def _take(self, message: Any) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def wait(self, wanted: Callable[[Any], bool] = lambda _: True, timeout_s: float = TIMEOUT_S) -> Any:
        """The first message, from now or before, that is wanted."""
        with self._changed:
            found = self._changed.wait_for(lambda: [m for m in self.messages if wanted(m)], timeout_s)
        assert found, f"not seen within {timeout_s} s on {self.subscription.topic_name}, {len(self.messages)} messages"
        return found[0]

    def clear(self) -> None:
        with self._changed:
            self.messages.clear()


class Spinning:
    """An executor in a thread."""

    def __init__(self, context: rclpy.Context, *nodes: Node) -> None:
        self.executor = SingleThreadedExecutor(context=context)
        for node in nodes:
            self.executor.add_node(node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.executor.spin_once(timeout_sec=0.2)
            except ExternalShutdownException:
                return

    def stop(self) -> None:
        self._stop.set()
        self.executor.wake()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), "the executor hangs"
        self.executor.shutdown()


class Harness:
    """A domain with a test camera and client in it, and nodes as they are asked for."""

    def __init__(self, domain: int) -> None:
        self.domain = domain
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.client = Node("test_client", context=self.context)
        self._client_spin = Spinning(self.context, self.client)
        self._nodes: list[tuple[Any, Spinning]] = []
        self._inboxes: dict[str, Inbox] = {}
        self._cameras: dict[str, tuple[Any, Any, Any]] = {}

    def __enter__(self) -> Harness:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for node, spin in self._nodes:
            spin.stop()
            if node.state_label in ("unconfigured", "inactive", "active"):
                node.trigger_shutdown()
            node.destroy_node()
        self._client_spin.stop()
        self.client.destroy_node()
        rclpy.shutdown(context=self.context)

    # ------------------------------------------------------------------ the node

    def node(
        self,
        tracker: ColorTracker | None = None,
        *,
        make: Callable[[PerceptionConfig], Perception] | None = None,
        namespace: str = "",
        wait_active: bool = True,
        **parameters: Any,
    ) -> PerceptionNode:
        """A node with a tracker by colour; parameters with `__` for the dot."""
        tracker = tracker or ColorTracker()
        values = {**RELIABLE, **QUICK, **{name.replace("__", "."): value for name, value in parameters.items()}}

        def make_perception(config: PerceptionConfig) -> Perception:
            tracker.max_objects = config.max_objects
            return Perception(config, tracker)

        node = PerceptionNode(
            make or make_perception,
            context=self.context,
            namespace=namespace,
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        self._nodes.append((node, Spinning(self.context, node)))
        if wait_active:
            self.until(lambda: node.state_label == "active")
        return node

    def until(self, condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
        """Wait until a condition holds that nobody notifies of."""
        pause = threading.Event()
        end_s = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < end_s, f"not so within {timeout_s} s"
            pause.wait(0.005)
        return value

    # ------------------------------------------------------------------ the camera

    def camera(self, namespace: str = "") -> tuple[Any, Any, Any]:
        """Publishers of colour, depth and camera_info, matched with a node that is active."""
        if namespace not in self._cameras:
            prefix = f"/{namespace}" if namespace else ""
            kinds = {"color/image_raw": Image, "depth/image_raw": Image, "color/camera_info": CameraInfo}
            color, depth, info = (
                self.client.create_publisher(kind, f"{prefix}/{topic}", reliable()) for topic, kind in kinds.items()
            )
            self._cameras[namespace] = (color, depth, info)
        self.until(lambda: all(pub.get_subscription_count() for pub in self._cameras[namespace]))
        return self._cameras[namespace]

    def send(self, frame: RgbdFrame | int, *, namespace: str = "", edit: Callable[..., None] | None = None) -> int:
        """Publish a frame (or the usual one at this stamp); `edit` may change the three messages. Its stamp."""
        frame = make_frame(frame) if isinstance(frame, int) else frame
        color, depth, info = frame_to_msgs(frame)
        if edit is not None:
            edit(color, depth, info)
        pubs = self.camera(namespace)
        for pub, message in zip(pubs[::-1], (info, depth, color), strict=True):
            pub.publish(message)
        return frame.stamp_ns

    # ------------------------------------------------------------------ what the node says

    def inbox(self, topic: str, kind: Any) -> Inbox:
        """What came on a topic since it was first asked for; matched with its publisher."""
        if topic not in self._inboxes:
            self._inboxes[topic] = Inbox(self.client, kind, topic)
        self.until(lambda: self.client.count_publishers(topic))
        publishers = [p for node, _ in self._nodes for p in node.publishers if p.topic_name == topic]
        self.until(lambda: all(p.get_subscription_count() for p in publishers))
        return self._inboxes[topic]

    def objects(self, namespace: str = "") -> Inbox:
        return self.inbox(f"{'/' + namespace if namespace else ''}/sam_perception/objects", TrackedObjectArray)

    def scene_at(self, stamp_ns: int, namespace: str = "") -> Any:
        """The `~/objects` message of a frame."""
        return self.objects(namespace).wait(lambda m: stamp_ns_of(m.header.stamp) == stamp_ns)

    def status(
        self, name: str, wanted: Callable[[DiagnosticStatus], bool] = lambda _: True, node: str = "/sam_perception"
    ) -> DiagnosticStatus:
        """The first wanted status of this name that comes from now on."""
        inbox = self.inbox("/diagnostics", DiagnosticArray)
        inbox.clear()

        def find(array: DiagnosticArray) -> list[DiagnosticStatus]:
            return [s for s in array.status if s.name == f"{node}: {name}" and wanted(s)]

        return find(inbox.wait(lambda array: bool(find(array))))[0]

    # ------------------------------------------------------------------ what is asked of the node

    def call(self, kind: Any, service: str, request: Any) -> Any:
        client = self.client.create_client(kind, service)
        try:
            assert client.wait_for_service(TIMEOUT_S), f"no service {service}"
            future = client.call_async(request)
            self.until(future.done)
            return future.result()
        finally:
            self.client.destroy_client(client)

    def add(self, prompt: Prompt | PromptMsg, node: str = "/sam_perception") -> AddObject.Response:
        msg = prompt if isinstance(prompt, PromptMsg) else prompt_to_msg(prompt)
        return self.call(AddObject, f"{node}/add_object", AddObject.Request(prompt=msg))

    def remove(self, object_id: int, node: str = "/sam_perception") -> RemoveObject.Response:
        return self.call(RemoveObject, f"{node}/remove_object", RemoveObject.Request(object_id=object_id))

    def list_objects(self, node: str = "/sam_perception") -> ListObjects.Response:
        return self.call(ListObjects, f"{node}/list_objects", ListObjects.Request())

    def reset(self, node: str = "/sam_perception") -> Trigger.Response:
        return self.call(Trigger, f"{node}/reset", Trigger.Request())

    def change_state(self, transition: str, node: str = "/sam_perception") -> bool:
        request = ChangeState.Request()
        request.transition.label = transition
        return bool(self.call(ChangeState, f"{node}/change_state", request).success)

    def state(self, node: str = "/sam_perception") -> str:
        return str(self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label)


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    return {entry.key: entry.value for entry in status.values}
