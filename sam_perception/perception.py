"""The recipe: one RGB-D frame in, everything known about it out. No ROS, no files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GeometryConfig, PerceptionConfig
from sam_perception.errors import ConfigError, MalformedImage
from sam_perception.frame import RgbdFrame
from sam_perception.prompts import Prompt
from sam_perception.scene import DepthEvidence, Scene, Track
from sam_perception.stamps import StampOrder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sam_perception.segmentation import Tracks

MIN_IMAGE_PX = 16  # a smaller picture shows nothing that could be told apart

# What the model and the memory are made for; all other settings may change between frames.
FIXED_SETTINGS = ("model", "device", "dtype", "max_objects", "tracker")


class Tracker(Protocol):
    """What the recipe needs of a tracker; `segmentation.StreamingTracker` is one."""

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Objects that are tracked, ascending."""

    @property
    def waiting(self) -> tuple[int, ...]:
        """Objects with a prompt that waits for its frame."""

    def prompt(self, prompt: Prompt, /) -> None:
        """Point at an object, from the next step on."""

    def step(
        self, rgb: NDArray[np.uint8], stamp_ns: int, evidence: Mapping[int, DepthEvidence] | None = None, /
    ) -> Tracks:
        """Track all objects into the next picture."""

    def remove(self, object_id: int, /) -> None:
        """Forget one object."""

    def reset(self) -> None:
        """Forget everything."""

    def forget_memory(self) -> None:
        """Forget recent frames and keep the objects."""


@dataclass(frozen=True, eq=False)
class _Sighting:
    """Where an object was last seen; the mask is cropped to `window` of an image of `shape`."""

    shape: tuple[int, int]
    window: tuple[slice, slice]
    mask: NDArray[np.bool_]
    depth_m: float  # median, NaN without valid depth


class Perception:
    """Tracks objects through a stream of frames and lifts them into three dimensions.

    Not for several threads at once. Without a `tracker` the model that `config` names is loaded.

    Raises:
        ModelNotFound, CheckpointError: the model cannot be loaded.
        ConfigError: the device or the number format is not there.
    """

    def __init__(self, config: PerceptionConfig | None = None, tracker: Tracker | None = None) -> None:
        self._config = config or PerceptionConfig()
        self._tracker = tracker or _load_tracker(self._config)
        self._order = StampOrder()
        self._sightings: dict[int, _Sighting] = {}

    @property
    def config(self) -> PerceptionConfig:
        """The settings in force."""
        return self._config

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Objects that are tracked, ascending."""
        return self._tracker.object_ids

    @property
    def waiting(self) -> tuple[int, ...]:
        """Objects with a prompt that waits for its frame."""
        return self._tracker.waiting

    def prompt(self, prompt: Prompt) -> None:
        """Point at an object, a new one or one that is tracked; takes effect in the next `step`.

        Raises:
            NoFreeSlot: as many objects are tracked as the config allows.
        """
        self._tracker.prompt(prompt)

    def remove(self, object_id: int) -> None:
        """Forget one object.

        Raises:
            UnknownObject: there is none of this id.
        """
        self._tracker.remove(object_id)
        self._sightings.pop(object_id, None)

    def reset(self) -> None:
        """Forget all objects and prompts; the next frame may have any stamp."""
        self._tracker.reset()
        self._sightings.clear()
        self._order.reset()

    def reconfigure(self, config: PerceptionConfig) -> None:
        """Use other settings from the next frame on.

        Raises:
            ConfigError: they differ in what the model and the memory were made for.
        """
        fixed = [name for name in FIXED_SETTINGS if getattr(config, name) != getattr(self._config, name)]
        if fixed:
            raise ConfigError(f"{', '.join(fixed)} cannot change while objects are tracked: make a new Perception")
        self._config = config

    def step(self, frame: RgbdFrame, *, lift: bool = True) -> Scene:
        """Everything known about the next frame.

        Objects that are out of sight are in the scene too, with a state that says so. A stream that
        goes back in time (a bag that starts again) keeps its objects and loses its recent memory.

        Args:
            frame: newer than the ones before.
            lift: whether points, centroids and boxes are wanted; see also `lift_scene`.

        Raises:
            StampError: the stamp is repeated or a little older than the newest one; nothing has changed.
            MalformedImage: the image is smaller than 16 x 16 pixels; nothing has changed.
        """
        _check_size(frame)
        notes = self._follow_stamp(frame.stamp_ns)
        timings_ms: dict[str, float] = {}
        with _timed(timings_ms, "evidence"):
            evidence = self._evidence(frame)
        with _timed(timings_ms, "segmentation"):
            tracks = self._tracker.step(frame.rgb, frame.stamp_ns, evidence)
        scene = _scene_of(frame, tracks, notes)
        with _timed(timings_ms, "geometry"):
            self._remember_places(frame, scene)
            if lift:
                scene = lift_scene(frame, scene, self._config.geometry)
        return replace(scene, timings_ms=MappingProxyType(timings_ms))

    def _follow_stamp(self, stamp_ns: int) -> tuple[str, ...]:
        jumped = self._order.check(stamp_ns)
        self._order.accept(stamp_ns)
        if not jumped:
            return ()
        # Memories of the last frames would be taken for the immediate past, which they are not.
        self._tracker.forget_memory()
        self._sightings.clear()
        return (
            f"time went back to {stamp_ns * 1e-9:.3f} s, as when a bag starts again: "
            f"the {len(self.object_ids)} objects are kept and go on from the frames where they were pointed at",
        )

    def _evidence(self, frame: RgbdFrame) -> dict[int, DepthEvidence]:
        from sam_perception.geometry import depth_evidence

        shape = (frame.height, frame.width)
        return {
            object_id: depth_evidence(frame.depth_m[place.window], place.mask, place.depth_m, self._config.geometry)
            for object_id, place in self._sightings.items()
            if place.shape == shape
        }

    def _remember_places(self, frame: RgbdFrame, scene: Scene) -> None:
        known = {track.id for track in scene.objects}
        self._sightings = {i: place for i, place in self._sightings.items() if i in known}
        for track in scene.objects:
            if track.state.visible:
                self._sightings[track.id] = _sighting(frame, track, self._config.geometry)


def lift_scene(frame: RgbdFrame, scene: Scene, settings: GeometryConfig) -> Scene:
    """The scene with points, centroid and box of every visible object; `frame` is the scene's own."""
    from sam_perception.geometry import lift

    objects = tuple(
        replace(track, lifted=lift(frame, track.mask, settings)) if track.state.visible else track
        for track in scene.objects
    )
    return replace(scene, objects=objects)


def _check_size(frame: RgbdFrame) -> None:
    if min(frame.width, frame.height) < MIN_IMAGE_PX:
        raise MalformedImage(
            f"image is {frame.width} x {frame.height} pixels: objects are looked for in pictures of at least "
            f"{MIN_IMAGE_PX} x {MIN_IMAGE_PX}; check the camera's resolution"
        )


def _scene_of(frame: RgbdFrame, tracks: Tracks, notes: tuple[str, ...]) -> Scene:
    objects = tuple(
        Track(
            id=int(object_id),
            label=tracks.labels[row],
            state=tracks.states[row],
            score=float(tracks.scores[row]),
            mask_score=float(tracks.mask_scores[row]),
            mask=tracks.masks[row],
            last_seen_ns=max(0, int(tracks.last_seen_ns[row])),
        )
        for row, object_id in enumerate(tracks.ids)
    )
    rejected = tuple(f"prompt for object {object_id}: {reason}" for object_id, reason in tracks.rejected)
    return Scene(
        frame.stamp_ns,
        frame.frame_id,
        frame.width,
        frame.height,
        objects,
        rejected=rejected,
        notes=(*notes, *tracks.notes),
    )


def _sighting(frame: RgbdFrame, track: Track, settings: GeometryConfig) -> _Sighting:
    from sam_perception.geometry import depth_valid

    x, y, width, height = track.roi
    window = (slice(y, y + height), slice(x, x + width))
    mask = track.mask[window].copy()  # a view would keep the whole frame's masks alive
    depths = frame.depth_m[window][mask]
    depths = depths[depth_valid(depths, settings)]
    middle = float(np.median(depths)) if depths.size else float("nan")
    return _Sighting((frame.height, frame.width), window, mask, middle)


@contextmanager
def _timed(timings_ms: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings_ms[stage] = (time.perf_counter() - start) * 1e3


def _load_tracker(config: PerceptionConfig) -> Tracker:
    from sam_perception.segmentation import StreamingTracker, load_model

    model = load_model(config.model, device=config.device, dtype=config.dtype)
    return StreamingTracker(model, config.max_objects, config.tracker)
