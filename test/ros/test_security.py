"""The SROS2 policy allows what the node does, and nothing else."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

from package_facts import ROOT
from rclpy.parameter import Parameter
from ros_harness import Harness

from sam_perception.ros.realsense_node import RealSenseNode
from sam_perception.sources.realsense import CameraStatus

POLICY = ROOT / "config" / "sros2_policy.xml"
NODE, CAMERA, OPERATOR = "/sam_perception", "/sam_perception/camera", "/sam_perception/operator"
# The launch file's topics, by the names that the node has for them.
REMAPPED = {
    "/color/image_raw": "/camera/camera/color/image_raw",
    "/depth/image_raw": "/camera/camera/aligned_depth_to_color/image_raw",
    "/color/camera_info": "/camera/camera/color/camera_info",
    "/imu": "/camera/camera/imu",
}


def allowed(enclave: str, kind: str, qualifier: str) -> set[str]:
    """Full names of the topics or services that an enclave may use."""
    root = ET.parse(POLICY).getroot()  # noqa: S314 - our own file
    profile = root.find(f"enclaves/enclave[@path='{enclave}']/profiles/profile")
    assert profile is not None
    return set(_full_names(profile, kind, qualifier))


def _full_names(profile: Any, kind: str, qualifier: str) -> Iterator[str]:
    namespace, node = profile.get("ns").rstrip("/"), profile.get("node")
    for group in profile.findall(f"{kind}s"):
        if group.get(qualifier) == "ALLOW":
            for entry in group.findall(kind):
                name = entry.text.replace("~", f"{namespace}/{node}")
                yield name if name.startswith("/") else f"{namespace}/{name}"


def names(found: list[tuple[str, list[str]]]) -> set[str]:
    return {REMAPPED.get(name, name) for name, _ in found}


def test_the_policy_names_exactly_what_the_node_uses(harness: Harness) -> None:
    node = harness.node(target_frame="map", gravity__source="imu", transforms__backend="builtin")
    graph = (node.get_name(), node.get_namespace())
    published = names(node.get_publisher_names_and_types_by_node(*graph))
    assert published == allowed(NODE, "topic", "publish")
    read = names(node.get_subscriber_names_and_types_by_node(*graph))
    assert read <= allowed(NODE, "topic", "subscribe")
    # Time where use_sim_time asks for it, the others where their messages are installed.
    optional = {"/clock", "/parameter_events", "/tf", "/tf_static", "/sam_perception/detections"}
    assert allowed(NODE, "topic", "subscribe") - read <= optional
    served = names(node.get_service_names_and_types_by_node(*graph))
    # Since Jazzy, and only where a parameter asks for it.
    assert allowed(NODE, "service", "reply") - served <= {"/sam_perception/get_type_description"}
    assert served <= allowed(NODE, "service", "reply")


class NoCamera:
    """A camera that is not there, so that its node runs without one."""

    status = CameraStatus(None, frames=0, rejected={}, losses=0, problem="unplugged", metadata={})

    def __enter__(self) -> NoCamera:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, _: float) -> None:
        time.sleep(0.01)

    def close(self) -> None:
        pass


def test_the_policy_names_exactly_what_the_camera_uses(harness: Harness) -> None:
    # The accelerometer's topic is there only when it is asked for.
    given = [Parameter("accelerometer", value=True)]
    node = RealSenseNode(lambda _: NoCamera(), context=harness.context, parameter_overrides=given)
    try:
        graph = (node.get_name(), node.get_namespace())
        published = {name for name, _ in node.get_publisher_names_and_types_by_node(*graph)}
        assert "/camera/camera/imu" in published
        assert published <= allowed(CAMERA, "topic", "publish")
        # Where tf2_msgs is installed.
        assert allowed(CAMERA, "topic", "publish") - published <= {"/tf_static"}
        read = {name for name, _ in node.get_subscriber_names_and_types_by_node(*graph)}
        assert read <= allowed(CAMERA, "topic", "subscribe")
        served = {name for name, _ in node.get_service_names_and_types_by_node(*graph)}
        assert served <= allowed(CAMERA, "service", "reply")
    finally:
        assert node.close()
        node.destroy_node()


def test_a_camera_may_not_speak_for_the_node() -> None:
    common = {"/diagnostics", "/parameter_events", "/rosout"}
    assert allowed(CAMERA, "topic", "publish") & allowed(NODE, "topic", "publish") == common


def test_an_operator_may_prompt_and_look_and_not_pose_as_the_node() -> None:
    written = allowed(OPERATOR, "topic", "publish")
    assert "/sam_perception/prompt" in written
    assert not (written - {"/rosout", "/parameter_events"}) & allowed(NODE, "topic", "publish")
    assert allowed(OPERATOR, "service", "reply") == set()
