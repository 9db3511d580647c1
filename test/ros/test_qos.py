"""What DDS does not connect, by policy, as the installed middleware judges."""

from __future__ import annotations

from typing import Any

import pytest
from rclpy.duration import Duration, Infinite
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from ros_harness import Harness
from sensor_msgs.msg import Image

from sam_perception.ros import inputs
from sam_perception.ros.qos import unheard, unheeded, unmet


def qos(**policies: Any) -> QoSProfile:
    return QoSProfile(depth=1, **policies)


RELIABLE, BEST_EFFORT = {"reliability": ReliabilityPolicy.RELIABLE}, {"reliability": ReliabilityPolicy.BEST_EFFORT}
LATCHED = {"durability": DurabilityPolicy.TRANSIENT_LOCAL}
SECOND = {"deadline": Duration(seconds=1)}
HALF_A_SECOND = {"deadline": Duration(nanoseconds=500_000_000)}
MANUAL, ALIVE = {"liveliness": LivelinessPolicy.MANUAL_BY_TOPIC}, {"liveliness_lease_duration": Duration(seconds=1)}


@pytest.mark.parametrize(
    ("offered", "asked", "policy"),
    [
        ({}, {}, ""),
        (BEST_EFFORT, RELIABLE, "RELIABILITY"),
        (RELIABLE, BEST_EFFORT, ""),
        ({}, LATCHED, "DURABILITY"),
        (LATCHED, {}, ""),
        (BEST_EFFORT, {**RELIABLE, **LATCHED}, "RELIABILITY"),
        ({}, SECOND, "DEADLINE"),
        (SECOND, HALF_A_SECOND, "DEADLINE"),
        (HALF_A_SECOND, SECOND, ""),
        ({}, MANUAL, "LIVELINESS"),
        ({}, ALIVE, "LIVELINESS_LEASE_DURATION"),
        # What a middleware says of an end without such wishes:
        ({}, {"deadline": Infinite, "liveliness_lease_duration": Infinite}, ""),
        ({}, {"liveliness": LivelinessPolicy.AUTOMATIC}, ""),
    ],
)
def test_the_policy_that_does_not_meet_is_named(offered: dict[str, Any], asked: dict[str, Any], policy: str) -> None:
    assert unmet(qos(**offered), qos(**asked)) == policy


def test_it_is_read_from_the_graph_as_it_is_now(harness: Harness) -> None:
    node = harness.client
    publisher = node.create_publisher(Image, "/picture", qos(**BEST_EFFORT))
    subscription = node.create_subscription(Image, "/picture", lambda _: None, inputs.make_qos("reliable", 1))
    harness.until(lambda: unheard(node, publisher) == unheeded(node, subscription) == "RELIABILITY")
    node.destroy_subscription(subscription)
    harness.until(lambda: unheard(node, publisher) == "")
