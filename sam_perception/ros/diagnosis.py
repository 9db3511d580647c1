"""From counts to what a person should read: statuses with a level, the observed values and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sam_perception.ros.deadline import RUNGS, TOP, DeadlineReport
from sam_perception.ros.health import CAMERA_INFO, COLOR, DEPTH, SUPERSEDED, HealthSnapshot, StreamHealth
from sam_perception.ros.settings import InputConfig
from sam_perception.ros.synchronizer import COLOR_ALONE, DEPTH_ALONE
from sam_perception.scene import Scene

OK, WARN, ERROR = 0, 1, 2  # diagnostic_msgs/DiagnosticStatus

_NAMES = {COLOR: "color", DEPTH: "depth", CAMERA_INFO: "camera_info"}
_SLOW = 0.7  # of the expected rate
_MANY_ALONE = 0.1  # of the frames
_BENIGN = (SUPERSEDED, COLOR_ALONE, DEPTH_ALONE)


@dataclass(frozen=True)
class Status:
    """One line of diagnostics; becomes a `diagnostic_msgs/DiagnosticStatus`."""

    name: str
    level: int
    message: str
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wiring:
    """What DDS says about an input topic."""

    topic: str  # as it is resolved
    publishers: int
    incompatible: str = ""  # the QoS policy that keeps a publisher from being heard
    decider: str = ""  # the parameter that decides on the reliability asked for; "": the input's own


def diagnose_inputs(health: HealthSnapshot, wiring: Mapping[str, Wiring], config: InputConfig) -> Status:
    """Whether everything comes that should, and as often as it should."""
    problems: list[tuple[int, str]] = []
    values: dict[str, str] = {}
    for name, stream in health.streams.items():
        if name not in wiring:  # it is not listened to
            continue
        wire = wiring[name]
        values[f"{name} topic"] = wire.topic
        values[f"{name} publishers"] = str(wire.publishers)
        values[f"{name} messages"] = str(stream.count)
        values[f"{name} rate Hz"] = f"{stream.rate_hz:.1f}"
        silent = stream.silent_s > config.timeout_s and (name != CAMERA_INFO or stream.count == 0)
        if silent:
            problems.append((ERROR, _silence(name, stream, wire)))
        elif wire.incompatible:
            problems.append((WARN, _incompatible(name, wire)))
        elif name != CAMERA_INFO and 0 < stream.rate_hz < _SLOW * config.expected_rate_hz:
            problems.append(
                (WARN, f"{_NAMES[name]} comes at {stream.rate_hz:.1f} Hz on {wire.topic}, expected are "
                 f"{config.expected_rate_hz:.1f} Hz: check the camera's frame rate and the DDS shared memory size")
            )  # fmt: skip
    values["expected rate Hz"] = f"{config.expected_rate_hz:.1f}" if config.expected_rate_hz else "any"
    color, depth = health.streams[COLOR], health.streams[DEPTH]
    if DEPTH not in wiring:
        return _status("inputs", problems, f"{color.rate_hz:.1f} Hz color, no depth wanted", values)
    if color.silent_s > config.timeout_s >= depth.silent_s:
        problems.insert(0, (ERROR, "depth arrives, color does not"))
    elif depth.silent_s > config.timeout_s >= color.silent_s:
        problems.insert(0, (ERROR, "color arrives, depth does not"))
    return _status("inputs", problems, f"{color.rate_hz:.1f} Hz color, {depth.rate_hz:.1f} Hz depth", values)


def _silence(name: str, stream: StreamHealth, wire: Wiring) -> str:
    seen = f"no {_NAMES[name]} on {wire.topic} for {stream.silent_s:.1f} s ({wire.publishers} publishers)"
    if wire.incompatible:
        return f"{seen}: {_incompatible(name, wire)}"
    if wire.publishers == 0:
        own = "color/camera_info" if name == CAMERA_INFO else f"{name}/image_raw"
        return f"{seen}: start the camera, or remap {own} to its topic"
    return (
        f"{seen}: the publisher is silent, or its messages are lost; look with `ros2 topic hz {wire.topic}` "
        "and give DDS a larger shared-memory segment"
    )


def _incompatible(name: str, wire: Wiring) -> str:
    decider = wire.decider or f"input.{name}_reliability"
    return (
        f"a publisher on {wire.topic} offers another {wire.incompatible} than is asked for: set {decider} to "
        "best_effort, or make the publisher reliable"
    )


def diagnose_frames(health: HealthSnapshot) -> Status:
    """What became of the frames, and why some did not make it."""
    values = {"processed": str(health.processed), "rate Hz": f"{health.rate_hz:.1f}"}
    values |= {f"dropped: {cause}": str(count) for cause, count in sorted(health.drops.items())}
    problems: list[tuple[int, str]] = []
    error = health.last_error
    if error is not None:
        values["last error"] = f"{error.kind}: {error.message}"
        values["last error age s"] = f"{error.age_s:.1f}"
        if health.recent_drops.get(error.kind):
            level = WARN if health.recent_processed else ERROR
            problems.append((level, f"{error.kind}: {error.message}"))
    others = [c for c in health.recent_drops if c not in _BENIGN and (error is None or c != error.kind)]
    if others:
        problems.append((WARN, "also dropped for " + ", ".join(f"{c} ({health.recent_drops[c]})" for c in others)))
    alone = health.recent_drops.get(COLOR_ALONE, 0)
    if alone > max(3, _MANY_ALONE * (alone + health.recent_processed)):
        problems.append(
            (WARN, f"{alone} color images of the last seconds had no depth within sync.slop_s: start the camera with "
             "enable_sync:=true, or allow a larger slop")
        )  # fmt: skip
    if not math.isnan(health.valid_depth_share):
        values["valid depth share"] = f"{health.valid_depth_share:.3f}"
        if health.valid_depth_share == 0.0 and health.recent_processed:
            problems.append(
                (WARN, "depth has not one valid pixel, objects are tracked without positions: check the depth "
                 "camera's projector, range and exposure")
            )  # fmt: skip
    for number, note in enumerate(health.notes):
        values[f"note {number}"] = note
    return _status("frames", problems, f"{health.rate_hz:.1f} Hz processed", values)


def diagnose_outputs(unheard: Mapping[str, str]) -> Status:
    """Subscribers that DDS keeps from hearing, which nothing else tells."""
    problems = [
        (
            WARN,
            f"a subscriber of {topic} asks for more {policy} than is offered and gets nothing: ask for volatile and "
            "best effort there, or set output.reliability or qos_overrides here",
        )
        for topic, policy in sorted(unheard.items())
    ]
    return _status("outputs", problems, "every subscriber can be served", {})


def diagnose_latency(health: HealthSnapshot) -> Status:
    """Percentiles per stage, in milliseconds, over the last frames."""
    values: dict[str, str] = {}
    for stage, percentiles in health.latency_ms.items():
        for name, value in zip(("p50", "p95", "p99"), percentiles, strict=True):
            values[f"{stage} {name} ms"] = f"{value:.1f}"
    total = health.latency_ms.get("receive to publish")
    message = f"{total[0]:.0f} ms from receipt to publication (median)" if total else "no frame yet"
    return Status("latency", OK, message, values)


def diagnose_deadline(report: DeadlineReport) -> Status:
    """Whether the target rate is kept, and what is done less for it."""
    values = {
        "target rate Hz": f"{report.target_rate_hz:g}",
        "rung": f"{report.rung} of {TOP}",
        "what is done": RUNGS[report.rung],
        "changes": str(report.changes),
    }
    if not math.isnan(report.median_ms):
        values["work per frame ms"] = f"{report.median_ms:.1f}"
    if not report.target_rate_hz:
        return Status("deadline", OK, "no target_rate_hz is set: everything is always done", values)
    if not report.kept:
        return Status(
            "deadline", WARN,
            f"frames take {report.median_ms:.0f} ms, {report.target_rate_hz:g} Hz leave them "
            f"{1e3 / report.target_rate_hz:.0f} ms ({RUNGS[report.rung]}): take a smaller model, fewer objects or a "
            "lower target_rate_hz",
            values,
        )  # fmt: skip
    return Status("deadline", WARN if report.rung else OK, RUNGS[report.rung], values)


def diagnose_objects(scene: Scene | None, waiting: Sequence[int]) -> Status:
    """Each object's state in the newest frame."""
    tracks = scene.objects if scene is not None else ()
    values = {
        f"object {track.id}" + (f" ({track.label})" if track.label else ""): (
            f"{track.state.name}, score {track.score:.2f}, {int(track.mask.sum())} px"
        )
        for track in tracks
    }
    if waiting:
        values["waiting for a frame"] = ", ".join(str(object_id) for object_id in waiting)
    seen = sum(track.state.visible for track in tracks)
    return Status("objects", OK, f"{len(tracks)} objects, {seen} seen, {len(waiting)} waiting", values)


def _status(name: str, problems: Sequence[tuple[int, str]], fine: str, values: Mapping[str, str]) -> Status:
    level = max((level for level, _ in problems), default=OK)
    return Status(name, level, "; ".join(text for _, text in problems) or fine, values)
