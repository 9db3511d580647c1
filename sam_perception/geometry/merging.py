"""Objects that several cameras see, as one list in one frame.

Each camera has a tracker of its own, with ids of its own. Which of them are one thing is told by where
they are: by the Mahalanobis distance of their centroids in the common frame, and by their labels, where
both have one. Two cameras see different sides of a thing, so that the means of what they see differ by
more than their noise; a share of the size that is seen counts as uncertainty, as does how well the
cameras' places are known, and how far a thing may have moved between two pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sam_perception.geometry.sensor_fusion import Place, fused, mahalanobis
from sam_perception.scene import Lifted, ObjectState, OrientedBox, Scene, Track
from sam_perception.settings import Validated, setting

Matrix = NDArray[np.float64]
Member = tuple[str, int]  # camera and the object's id there

_APART = 1e6  # cost of what must not be one thing
# What was one thing before is torn apart only this much farther out: no flickering at the gate.
_FAITHFUL = 1.5
_ORDER = (ObjectState.TRACKED, ObjectState.REACQUIRED, ObjectState.OCCLUDED, ObjectState.LOST)


@dataclass(frozen=True)
class MergeConfig(Validated):
    """When two cameras' objects are one."""

    gate_sigmas: float = setting(
        3.4, "objects farther apart than this many standard deviations are two things", low=0.5, high=20.0
    )
    extrinsics_sigma_m: float = setting(0.01, "how well the cameras' places are known", low=0.0, high=1.0)
    surface_share: float = setting(
        0.35,
        "standard deviation of the middle of what one camera sees, as a share of half the box's diagonal",
        low=0.0,
        high=2.0,
    )
    speed_m_s: float = setting(0.1, "how fast things may move between two cameras' pictures", low=0.0, high=10.0)
    max_age_s: float = setting(0.5, "a camera's picture that is older than the newest is left out", low=0.01, high=60.0)


@dataclass(frozen=True, eq=False)
class Merged:
    """The common list, and who sees what."""

    scene: Scene  # in the common frame, at the newest camera's stamp; without masks and clouds
    members: Mapping[int, tuple[Member, ...]]  # by merged id


@dataclass(frozen=True, eq=False)
class _Seen:
    """One camera's visible object in the common frame."""

    member: Member
    track: Track
    place: Place


class ObjectMerger:
    """Merges scenes of several cameras, one after the other; merged ids stay with what they were given to.

    Args:
        config: when two objects are one.
    """

    def __init__(self, config: MergeConfig | None = None) -> None:
        self._config = config or MergeConfig()
        self._id_of: dict[Member, int] = {}
        self._next = 1

    def merge(self, scenes: Mapping[str, Scene], common_from_camera: Mapping[str, Matrix], frame_id: str) -> Merged:
        """One list of all cameras' objects.

        Objects of one camera are never merged with one another. An object that no camera sees keeps its
        id and has no position.

        Args:
            scenes: the newest of each camera, by its name.
            common_from_camera: (4, 4) for each of them, from its scene's frame at its stamp.
            frame_id: of the common frame.

        Raises:
            ValueError: no scene.
        """
        if not scenes:
            raise ValueError("no scene to merge: pass the newest of at least one camera")
        newest_ns = max(scene.stamp_ns for scene in scenes.values())
        oldest_ns = newest_ns - round(self._config.max_age_s * 1e9)
        scenes = {name: scenes[name] for name in sorted(scenes) if scenes[name].stamp_ns >= oldest_ns}
        self._forget_removed(scenes)
        groups: list[list[_Seen]] = []
        for name, scene in scenes.items():
            age_s = (newest_ns - scene.stamp_ns) * 1e-9
            self._join(groups, self._seen_by(name, scene, common_from_camera[name], age_s))
        by_id = self._identified(groups)
        hidden = self._hidden(scenes)
        members = {
            i: tuple(s.member for s in by_id.get(i, ())) + tuple(m for m, _ in hidden.get(i, ()))
            for i in sorted({*by_id, *hidden})
        }
        tracks = [_merged_track(i, by_id.get(i, ()), [t for _, t in hidden.get(i, ())]) for i in members]
        size = next(iter(scenes.values()))
        return Merged(Scene(newest_ns, frame_id, size.width, size.height, tuple(tracks)), members)

    def _forget_removed(self, scenes: Mapping[str, Scene]) -> None:
        there = {(name, track.id) for name, scene in scenes.items() for track in scene.objects}
        self._id_of = {m: i for m, i in self._id_of.items() if m in there or m[0] not in scenes}

    def _seen_by(self, name: str, scene: Scene, common_from_camera: Matrix, age_s: float) -> list[_Seen]:
        return [
            _Seen((name, track.id), track, _placed(track, common_from_camera, age_s, self._config))
            for track in scene.objects
            if track.state.visible and track.centroid is not None and track.covariance is not None
        ]

    def _join(self, groups: list[list[_Seen]], seen: Sequence[_Seen]) -> None:
        """Put one more camera's objects where they belong, at most one into each group."""
        from scipy.optimize import linear_sum_assignment

        costs = np.array([[self._cost(group, one) for one in seen] for group in groups]).reshape(len(groups), len(seen))
        rows, columns = linear_sum_assignment(costs)
        taken = set()
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if costs[row, column] < _APART:
                groups[row].append(seen[column])
                taken.add(column)
        groups += [[one] for number, one in enumerate(seen) if number not in taken]

    def _cost(self, group: Sequence[_Seen], one: _Seen) -> float:
        """Standard deviations between a group and an object; less for those that were one before."""
        if not all(_labels_agree(other.track.label, one.track.label) for other in group):
            return _APART
        distance = mahalanobis(fused([other.place for other in group]), one.place)
        known = self._id_of.get(one.member)
        same = known is not None and any(self._id_of.get(other.member) == known for other in group)
        distance = distance / _FAITHFUL if same else distance
        # All that are too far apart cost the same, so that they do not decide how the others are matched.
        return distance if distance <= self._config.gate_sigmas else _APART

    def _identified(self, groups: Sequence[Sequence[_Seen]]) -> dict[int, Sequence[_Seen]]:
        """Groups by merged id: the oldest id that a member has and no larger group claims, else a new one."""
        by_id: dict[int, Sequence[_Seen]] = {}
        for group in sorted(groups, key=len, reverse=True):
            known = sorted({self._id_of[s.member] for s in group if s.member in self._id_of} - set(by_id))
            merged_id = known[0] if known else self._new_id()
            by_id[merged_id] = group
            for one in group:
                self._id_of[one.member] = merged_id
        return by_id

    def _hidden(self, scenes: Mapping[str, Scene]) -> dict[int, list[tuple[Member, Track]]]:
        """Objects without a position in this frame, by merged id."""
        hidden: dict[int, list[tuple[Member, Track]]] = {}
        for name, scene in scenes.items():
            for track in scene.objects:
                member = (name, track.id)
                if track.state.visible and track.centroid is not None and track.covariance is not None:
                    continue
                if member not in self._id_of:
                    self._id_of[member] = self._new_id()
                hidden.setdefault(self._id_of[member], []).append((member, track))
        return hidden

    def _new_id(self) -> int:
        self._next += 1
        return self._next - 1


def _labels_agree(a: str, b: str) -> bool:
    return not a or not b or a.casefold() == b.casefold()


def _placed(track: Track, common_from_camera: Matrix, age_s: float, config: MergeConfig) -> Place:
    """Where a visible object is in the common frame, with all that makes that unsure."""
    rotation, origin = common_from_camera[:3, :3], common_from_camera[:3, 3]
    size_m = np.zeros(3) if track.box is None else track.box.size_m
    side_m = config.surface_share * float(np.linalg.norm(size_m)) / 2
    variance = config.extrinsics_sigma_m**2 + side_m**2 + (config.speed_m_s * age_s) ** 2
    covariance = rotation @ np.asarray(track.covariance) @ rotation.T + variance * np.eye(3)
    return Place(rotation @ np.asarray(track.centroid) + origin, covariance, common_from_camera)


def _merged_track(merged_id: int, seen: Sequence[_Seen], hidden: Sequence[Track]) -> Track:
    tracks = [*(s.track for s in seen), *hidden]
    state = min((t.state for t in tracks), key=_ORDER.index)
    named = max((t for t in tracks if t.label), key=lambda t: t.label_score, default=tracks[0])
    lifted = Lifted()
    if seen:
        place = fused([s.place for s in seen])
        lifted = Lifted(
            centroid=place.position_m,
            covariance=place.covariance,
            box=_largest_box(seen),
            valid_depth_share=max(s.track.lifted.valid_depth_share for s in seen),
        )
    return replace(
        tracks[0],
        id=merged_id,
        label=named.label,
        label_score=named.label_score,
        state=state,
        score=max(t.score for t in tracks),
        mask_score=max(t.mask_score for t in tracks),
        mask=np.zeros_like(tracks[0].mask),  # a common frame has no picture
        last_seen_ns=max(t.last_seen_ns for t in tracks),
        lifted=lifted,
    )


def _largest_box(seen: Sequence[_Seen]) -> OrientedBox | None:
    """The box of the camera that sees most of the object, in the common frame."""
    boxes = [(s.track.box, s.place.common_from_camera) for s in seen if s.track.box is not None]
    if not boxes:
        return None
    box, common_from_camera = max(boxes, key=lambda pair: float(np.prod(pair[0].size_m)))
    rotation, origin = common_from_camera[:3, :3], common_from_camera[:3, 3]
    return OrientedBox(rotation @ box.center_m + origin, rotation @ box.camera_from_box, box.size_m)
