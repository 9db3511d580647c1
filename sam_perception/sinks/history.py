"""What became of each object over a run: the numbers that a report shows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sam_perception.scene import ObjectState, Scene, Track
from sam_perception.sinks.svg import Floats


@dataclass
class ObjectHistory:
    """One object's values per frame; lists grow together, a frame before the object's first prompt has no entry."""

    id: int
    label: str
    frames: list[int] = field(default_factory=list)  # index into the run
    states: list[ObjectState] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    areas_px: list[int] = field(default_factory=list)
    depth_shares: list[float] = field(default_factory=list)  # of the mask's pixels
    centroids_m: list[Floats] = field(default_factory=list)  # (3,), NaN where not known
    sigmas_m: list[Floats] = field(default_factory=list)  # (3,) standard deviations of the centroid

    def add(self, frame: int, track: Track) -> None:
        """Append one frame."""
        unknown = np.full(3, np.nan)
        self.label = track.label or self.label
        self.frames.append(frame)
        self.states.append(track.state)
        self.scores.append(float(track.score))
        self.areas_px.append(int(track.mask.sum()))
        self.depth_shares.append(float(track.lifted.valid_depth_share))
        self.centroids_m.append(unknown if track.centroid is None else np.asarray(track.centroid, np.float64))
        variances = unknown if track.covariance is None else np.diag(track.covariance)
        self.sigmas_m.append(np.sqrt(np.clip(variances, 0, None)))

    @property
    def name(self) -> str:
        """Id and label."""
        return f"{self.id} {self.label}".strip()

    def count(self, *states: ObjectState) -> int:
        """Frames in one of `states`."""
        return sum(state in states for state in self.states)

    def longest_gap(self) -> int:
        """Most frames in a row without being seen."""
        longest = current = 0
        for state in self.states:
            current = 0 if state.visible else current + 1
            longest = max(longest, current)
        return longest


class RunHistory:
    """All objects over a run."""

    def __init__(self) -> None:
        self.stamps_ns: list[int] = []
        self.objects: dict[int, ObjectHistory] = {}
        self.timings_ms: dict[str, list[float]] = {}
        self.notes: list[str] = []

    def add(self, scene: Scene) -> None:
        """Append one frame's scene."""
        index = len(self.stamps_ns)
        self.stamps_ns.append(scene.stamp_ns)
        for track in scene.objects:
            self.objects.setdefault(track.id, ObjectHistory(track.id, track.label)).add(index, track)
        for stage, spent in scene.timings_ms.items():
            self.timings_ms.setdefault(stage, []).append(float(spent))
        self.notes += [f"frame {index}: {note}" for note in (*scene.rejected, *scene.notes)]

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Header and rows of a table of the objects and how often they were in which state."""
        header = ("object", "frames", *(state.name.lower() for state in ObjectState), "longest gap", "with position")
        rows = []
        for one in (self.objects[i] for i in sorted(self.objects)):
            states = [str(one.count(state)) for state in ObjectState]
            placed = int(np.isfinite(np.reshape(one.centroids_m, (-1, 3))).all(axis=1).sum())
            rows.append((one.name, str(len(one.frames)), *states, str(one.longest_gap()), str(placed)))
        return header, rows

    def seconds(self) -> Floats:
        """Time of each frame since the first."""
        stamps = np.array(self.stamps_ns, np.float64)
        return (stamps - stamps[0]) / 1e9 if stamps.size else stamps
