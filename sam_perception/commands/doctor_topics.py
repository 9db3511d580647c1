"""What a look at the ROS graph tells, for `sam-perception doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sam_perception.commands.doctor_machine import FAIL, OK, WARN, Finding
from sam_perception.images import is_color_encoding, is_depth_encoding
from sam_perception.sources.topics import IMAGE, KNOWN, CameraTopics

_ENOUGH_HZ = 5.0
_OLD_S = 1.0
_EARLY_S = 0.1
_START_S = 30.0  # for ROS to start and to end, beside the time to listen
_CLOCK = "/clock"

Report = Mapping[str, Any]  # of ros.topic_probe


def probe(seconds: float, topics: Sequence[str]) -> Report | str:
    """Listen in a process of its own; what it says, or why it said nothing."""
    command = [sys.executable, "-m", "sam_perception.ros.topic_probe", str(seconds), *topics]
    # The guard of ROS' wheels would keep another interpreter from finding its libraries.
    environment = {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _START_S, env=environment)
    except subprocess.TimeoutExpired:
        return f"ROS did not answer within {seconds + _START_S:.0f} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    try:
        report: Report = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return f"no report but {done.stdout[-200:]!r}"
    return report


def camera_topics(asked: CameraTopics | None, types: Mapping[str, Sequence[str]]) -> CameraTopics:
    """The topics asked for, else the known ones whose colour is there, else realsense2_camera's."""
    if asked is not None:
        return asked
    return next((known for known in KNOWN if known.color in types), KNOWN[0])


def judge(report: Report, topics: CameraTopics, seconds: float) -> list[Finding]:
    """Findings about the camera's topics, the nodes' QoS, and time."""
    seen = report["topics"]
    roles = {"colour": topics.color, "depth": topics.depth, "camera_info": topics.info}
    findings = [_heard(role, topic, seen.get(topic), seconds) for role, topic in roles.items()]
    if all(not seen.get(topic, {}).get("publishers") for topic in roles.values()):
        return [_nothing(report, topics), *_time(report, None)]
    findings += _fitting(seen.get(topics.color, {}), seen.get(topics.depth, {}))
    findings += [finding for topic in seen for finding in _quality(topic, seen[topic])]
    return [*findings, *_time(report, seen.get(topics.color))]


def _nothing(report: Report, topics: CameraTopics) -> Finding:
    images = [name for name, kinds in report["types"].items() if IMAGE in kinds]
    cure = "start the camera: ros2 launch realsense2_camera rs_launch.py align_depth.enable:=true enable_sync:=true"
    if images:
        cure = f"name the camera's with --color, --depth and --info; there are {', '.join(images)}"
    return Finding("topics", WARN, f"nobody publishes {topics.color} or the others in this ROS domain", cure)


def _heard(role: str, topic: str, seen: Mapping[str, Any] | None, seconds: float) -> Finding:
    if not seen or not seen["publishers"]:
        cure = "start the camera with align_depth.enable:=true" if role == "depth" else "start the camera"
        return Finding(role, FAIL, f"nobody publishes {topic}", f"{cure}, or name the topic with --{_option(role)}")
    nodes = ", ".join(end["node"] for end in seen["publishers"])
    if seen["count"] == 0:
        return Finding(
            role,
            FAIL,
            f"{topic} is published by {nodes} ({_offers(seen)}), but nothing came in {seconds:g} s",
            "if the publisher is alive, its messages are lost: give its terminal the DDS profile (see above)",
        )
    picture = f", {seen['encoding']} {seen['width']}x{seen['height']}" if "encoding" in seen else ""
    text = f"{topic}: {seen['rate_hz']:.1f} Hz{picture} in {seen.get('frame_id')!r} from {nodes} ({_offers(seen)})"
    if len(seen["publishers"]) > 1:
        return Finding(role, FAIL, f"{text}: more than one publisher", "stop all but one camera or bag on this topic")
    reads = {"colour": is_color_encoding, "depth": is_depth_encoding}.get(role)
    if reads is not None and not reads(str(seen.get("encoding"))):
        return Finding(role, FAIL, f"{text}: this encoding cannot be read", "republish it as rgb8, or 16UC1 for depth")
    if role != "camera_info" and seconds >= 1 and seen["rate_hz"] < _ENOUGH_HZ:
        return Finding(role, WARN, f"{text}: slow", "check the camera's frame rate, light and USB port; DDS profile")
    return Finding(role, OK, text)


def _offers(seen: Mapping[str, Any]) -> str:
    """The publishers' QoS; once where they agree."""
    return "; ".join(dict.fromkeys(f"{end['reliability']}, {end['durability']}" for end in seen["publishers"]))


def _option(role: str) -> str:
    return {"colour": "color", "depth": "depth", "camera_info": "info"}[role]


def _fitting(color: Mapping[str, Any], depth: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether depth lies on colour's pixels."""
    if not color.get("count") or not depth.get("count"):
        return
    shown = [(end.get("width"), end.get("height"), end.get("frame_id")) for end in (color, depth)]
    if shown[0] != shown[1]:
        yield Finding(
            "alignment",
            FAIL,
            f"colour is {shown[0][0]}x{shown[0][1]} in {shown[0][2]!r}, depth {shown[1][0]}x{shown[1][1]} in "
            f"{shown[1][2]!r}",
            "start the camera with align_depth.enable:=true and use aligned_depth_to_color/image_raw",
        )


def _quality(topic: str, seen: Mapping[str, Any]) -> Iterator[Finding]:
    """Pairs of publisher and subscriber that DDS does not connect, silently."""
    for offer in seen["publishers"]:
        for ask in seen["subscribers"]:
            for policy, strict, lax in (
                ("reliability", "reliable", "best_effort"),
                ("durability", "transient_local", "volatile"),
            ):
                if ask[policy] == strict and offer[policy] == lax:
                    yield Finding(
                        "qos",
                        FAIL,
                        f"{topic}: {ask['node']} asks for {strict}, {offer['node']} offers {lax}: nothing arrives",
                        f"set the subscriber's {policy} to {lax} (perception_node: input.*_reliability, "
                        "or qos_overrides), or the publisher's to " + strict,
                    )


def _time(report: Report, color: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Who goes by which clock."""
    simulated = bool(report["topics"].get(_CLOCK, {}).get("publishers"))
    for node, uses in report["use_sim_time"].items():
        if uses and not simulated:
            yield Finding(
                "sim time",
                FAIL,
                f"{node} has use_sim_time, but nobody publishes {_CLOCK}",
                "start it with use_sim_time:=false, or play the bag with --clock",
            )
        if uses is False and simulated:
            yield Finding(
                "sim time",
                WARN,
                f"{_CLOCK} is published, but {node} goes by the host's time",
                "start it with use_sim_time:=true",
            )
    if simulated:
        yield Finding("sim time", OK, f"{_CLOCK} is published")
    elif color and "age_s" in color and not -_EARLY_S <= color["age_s"] <= _OLD_S:
        yield Finding(
            "stamps",
            WARN,
            f"colour images arrive {color['age_s']:.2f} s after their stamp, by this machine's clock",
            "a bag: play it with --clock and use_sim_time:=true; a camera on another machine: chrony on both",
        )
