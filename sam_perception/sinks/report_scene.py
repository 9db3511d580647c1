"""What the report says about grasps, ground and obstacles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam_perception.scene import GraspTarget, ObstacleKind, ObstacleSegment, Scene
from sam_perception.sinks.report_page import Table

_ROWS = 30  # of obstacles at most, those seen longest


@dataclass(frozen=True)
class _Seen:
    """One obstacle in one frame."""

    frame: int
    id: int
    kind: ObstacleKind
    distance_m: float
    height_m: float
    unknown_share: float

    @staticmethod
    def of(frame: int, one: ObstacleSegment) -> _Seen:
        return _Seen(frame, one.id, one.kind, one.distance_m, one.height_m, one.unknown_share)


@dataclass(frozen=True)
class _Grasped:
    """One object in one frame: its best grasp, or why there is none."""

    frame: int
    id: int
    label: str
    count: int
    best: GraspTarget | None
    reason: str


class SceneHistory:
    """Collects what is not about masks, and makes tables of it.

    Args:
        independent: the frames are separate scenes, in which equal ids do not mean equal things.
    """

    def __init__(self, *, independent: bool = False) -> None:
        self._independent = independent
        self._frames = 0
        self._seen: list[_Seen] = []
        self._grasped: list[_Grasped] = []
        self._camera_heights_m: list[float] = []

    def add(self, scene: Scene) -> None:
        """Append one frame's scene."""
        frame = self._frames
        self._frames += 1
        self._seen += [_Seen.of(frame, one) for one in scene.obstacles]
        if scene.ground is not None:
            self._camera_heights_m.append(scene.ground.offset_m)
        for track in scene.objects:
            own = [target for target in scene.grasp_targets if target.object_id == track.id]
            reason = scene.grasp_reasons.get(track.id, "")
            if own or reason:
                best = own[0] if own else None
                self._grasped.append(_Grasped(frame, track.id, track.label, len(own), best, reason))

    def tables(self) -> list[Table]:
        """Tables of grasps and of obstacles; none of what the run did not look for."""
        tables = []
        if self._grasped:
            tables.append(self._grasp_table())
        if self._seen or self._camera_heights_m:
            tables.append(self._obstacle_table())
        return tables

    def _grasp_table(self) -> Table:
        groups: dict[tuple[int, int], list[_Grasped]] = {}
        for one in self._grasped:
            groups.setdefault((one.frame if self._independent else 0, one.id), []).append(one)
        rows = []
        for (frame, object_id), ones in sorted(groups.items()):
            name = f"{object_id} {next((one.label for one in ones if one.label), '')}".strip()
            best = [one.best for one in ones if one.best is not None]
            reasons = Counter(one.reason for one in ones if one.reason)
            rows.append(
                (
                    f"scene {frame}: {name}" if self._independent else name,
                    f"{len(best)} of {len(ones)}",
                    _median([float(one.count) for one in ones if one.best is not None], "{:.0f}"),
                    _median([target.score for target in best], "{:.2f}"),
                    _median([1e3 * target.width_m for target in best], "{:.0f} mm"),
                    _commonest(Counter(target.kind.name.lower().replace("_", " ") for target in best)),
                    _commonest(reasons),
                )
            )
        header = ("object", "with a grasp", "grasps", "best score", "opening", "kind of the best", "why none, mostly")
        return Table("Grasps", header, tuple(rows), "Grasps, score and opening are medians over frames with a grasp.")

    def _obstacle_table(self) -> Table:
        groups: dict[tuple[int, int], list[_Seen]] = {}
        for one in self._seen:
            groups.setdefault((one.frame if self._independent else 0, one.id), []).append(one)
        longest = sorted(groups, key=lambda key: (-len(groups[key]), key))[:_ROWS]
        rows = []
        for frame, obstacle_id in sorted(longest):
            ones = groups[frame, obstacle_id]
            rows.append(
                (
                    f"scene {frame}: {obstacle_id}" if self._independent else str(obstacle_id),
                    _commonest(Counter(one.kind.name.lower() for one in ones)),
                    str(len(ones)),
                    f"{min(one.distance_m for one in ones):.3f} m",
                    _median([one.distance_m for one in ones], "{:.3f} m"),
                    _median([one.height_m for one in ones], "{:.3f} m"),
                    _median([100 * one.unknown_share for one in ones], "{:.0f} %"),
                )
            )
        header = ("obstacle", "kind", "frames", "nearest", "distance", "height", "without depth")
        height = _median(self._camera_heights_m, "{:.3f} m")
        note = f"Ground seen in {len(self._camera_heights_m)} of {self._frames} frames, camera {height} above it."
        if len(groups) > _ROWS:
            note += f" {len(groups) - _ROWS} obstacles that were seen in fewer frames are left out."
        return Table("Obstacles", header, tuple(rows), note + " Distance, height and share are medians.")


def _median(values: Sequence[float], text: str) -> str:
    known = [value for value in values if np.isfinite(value)]
    return text.format(float(np.median(known))) if known else "-"


def _commonest(counts: Counter[str]) -> str:
    return counts.most_common(1)[0][0] if counts else "-"
