"""QoS: which parameter decides on ours, and which policy keeps two ends from being connected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import LivelinessPolicy, QoSCompatibility, QoSPolicyKind, QoSProfile, qos_check_compatible
from rclpy.qos_overriding_options import QoSOverridingOptions

# Requests that may come at once: the usual 10 lose what comes in a burst, and its caller waits for ever.
SERVICE_QUEUE = QoSProfile(depth=1000)

SUBSCRIPTION, PUBLISHER = "subscription", "publisher"
_POLICIES = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY)
_JUDGED = (
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
    QoSPolicyKind.DEADLINE,
    QoSPolicyKind.LIVELINESS,
    QoSPolicyKind.LIVELINESS_LEASE_DURATION,
)
_FOREVER_NS = 2**62  # what middlewares report for a time without end differs; zero means it too


def override_of(node: Node, topic: str, role: str, policy: QoSPolicyKind) -> str:
    """The parameter of `qos_overrides` that was given for this policy of our end at a topic, or ""."""
    name = f"qos_overrides.{node.resolve_topic_name(topic)}.{role}.{policy.name.lower()}"
    return name if name in node._parameter_overrides else ""  # rclpy tells it in no other way


def overriding(node: Node, topic: str, role: str) -> QoSOverridingOptions | None:
    """What `qos_overrides` may decide on at this topic: the policies that it was given for, None without any.

    rclpy would declare a read-only parameter for each of the others too, with the value that they had the first
    time; from then on it would be that value, and not our own parameters', that an input or output is made with.
    """
    given = [policy for policy in _POLICIES if override_of(node, topic, role, policy)]
    return QoSOverridingOptions(given) if given else None


def unmet(offered: QoSProfile, asked: QoSProfile) -> str:
    """The policy for which a publisher and a subscriber are not connected, as the middleware judges; "" if they are."""
    for policy in _JUDGED:
        name = policy.name.lower()
        one, other = (QoSProfile(depth=1, **{name: _plain(getattr(end, name))}) for end in (offered, asked))
        if qos_check_compatible(one, other)[0] == QoSCompatibility.ERROR:
            return str(policy.name)
    return ""


def unheard(node: Node, publisher: Any) -> str:
    """The policy for which a subscriber that is there now gets nothing of our publisher, or ""."""
    asked = node.get_subscriptions_info_by_topic(publisher.topic_name)
    return _first(unmet(publisher.qos_profile, end.qos_profile) for end in asked)


def unheeded(node: Node, subscription: Any) -> str:
    """The policy for which our subscription gets nothing of a publisher that is there now, or ""."""
    offered = node.get_publishers_info_by_topic(subscription.topic_name)
    return _first(unmet(end.qos_profile, subscription.qos_profile) for end in offered)


def _first(policies: Iterable[str]) -> str:
    return next((policy for policy in policies if policy), "")


def _plain(value: Any) -> Any:
    if isinstance(value, Duration):
        return value if value.nanoseconds < _FOREVER_NS else Duration()
    return LivelinessPolicy.AUTOMATIC if value == LivelinessPolicy.SYSTEM_DEFAULT else value
