"""The recipe: one RGB-D frame in, everything known about it out. No ROS, no files."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import replace
from enum import Flag, auto
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import PerceptionConfig
from sam_perception.detections import Detection
from sam_perception.discovery import Discovery, Models, load_models
from sam_perception.errors import ConfigError, MalformedImage, ModelError
from sam_perception.frame import CameraPose, RgbdFrame
from sam_perception.geometry import Sightings, lift_scene
from sam_perception.geometry.guessed import frame_with_guess_as_depth
from sam_perception.guessed_depth import DepthGuesser
from sam_perception.manipulation import scene_grasps
from sam_perception.navigation import ObstacleMap, RegionSchedule, Surroundings
from sam_perception.prompts import AnyPrompt, TextPrompt, check_label
from sam_perception.scene import DepthEvidence, Lifted, Regions, Scene, Track
from sam_perception.seams import Degradable, RegionFinder, Tracker
from sam_perception.stages import StageError, Stages
from sam_perception.stamps import StampOrder
from sam_perception.surface_labels import SurfaceReader

if TYPE_CHECKING:
    from sam_perception.segmentation import Tracks

MIN_IMAGE_PX = 16  # a smaller picture shows nothing that could be told apart

# What the model and the memory are made for; all other settings may change between frames.
FIXED_SETTINGS = (
    *("model", "device", "dtype", "compile", "max_objects", "tracker"),
    *("words.model", "detector.model", "semantic.model", "depth.model", "depth.mode"),
)


class Wanted(Flag):
    """Parts of a scene that cost time beyond the masks."""

    MASKS = 0  # with ids, scores and states: always there
    POSITIONS = auto()  # points, centroids, boxes
    OBSTACLES = auto()  # ground, planes, obstacles, the scene without its targets
    GRASPS = auto()  # for which the two above are computed too
    ALL = POSITIONS | OBSTACLES | GRASPS


# What a scene lacks when a stage fails: a grasp is made from all that goes before it.
LOST_WITH = {
    "geometry": Wanted.POSITIONS | Wanted.GRASPS,
    "navigation": Wanted.OBSTACLES | Wanted.GRASPS,
    "grasps": Wanted.GRASPS,
}


class Perception:
    """Tracks objects through a stream of frames and lifts them into three dimensions.

    Not for several threads at once. Without a `tracker` the model that `config` names is loaded; `finder`
    comes with it, and without one there is no everything mode.

    Raises:
        ModelNotFound, CheckpointError: the model cannot be loaded.
        ConfigError: the device or the number format is not there.
    """

    def __init__(
        self,
        config: PerceptionConfig | None = None,
        tracker: Tracker | None = None,
        finder: RegionFinder | None = None,
        models: Models | None = None,
    ) -> None:
        self._config = config or PerceptionConfig()
        self._tracker, self._finder = (tracker, finder) if tracker else _load_tracker(self._config)
        self._order = StampOrder()
        self._sightings = Sightings()
        self._lifted: dict[int, Lifted] = {}  # of the last frame
        self._obstacles = ObstacleMap(self._config.navigation, self._config.geometry)
        self._cut_up = RegionSchedule(self.search_regions)
        self._stages = Stages()
        models = models or (load_models(self._config) if tracker is None else Models())
        self._discovery = Discovery(self._tracker, models, self._config)
        self._guesser = None if models.depth is None else DepthGuesser(models.depth)
        self._surfaces = None if models.semantic is None else SurfaceReader(models.semantic)

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
        """Objects with a prompt that waits for its frame, or with words for which nothing was found yet."""
        return tuple(dict.fromkeys((*self._tracker.waiting, *self._discovery.waiting)))

    @property
    def degraded(self) -> str:
        """How the tracker makes do with less than is configured, in words; "" while it need not."""
        return self._tracker.degraded if isinstance(self._tracker, Degradable) else ""

    @property
    def stage(self) -> str:
        """What `step` is doing now, "" between steps; for another thread that watches over it."""
        return self._stages.current

    def prompt(self, prompt: AnyPrompt) -> None:
        """Point at an object, a new one or one that is tracked; takes effect in the next `step`.

        Words are searched for in the next frame, and from time to time until something is found.

        Raises:
            NoFreeSlot: as many objects are tracked as the config allows.
            ConfigError: words, and no detector for them.
        """
        if isinstance(prompt, TextPrompt):
            self._discovery.ask(prompt)
        else:
            self._discovery.pointed_at(prompt.object_id)
            self._tracker.prompt(prompt)

    def detections(self, found: Sequence[Detection], stamp_ns: int = 0) -> None:
        """Take what a detector saw in the picture of this stamp (0: the newest): each is an object, or becomes one."""
        self._discovery.take(found, stamp_ns)

    def search_in_background(self) -> None:
        """From now on detectors look at frames in threads of their own, and `step` does not wait for them.

        Their answers come some frames later, by the clock: the same recording may then give other results.
        """
        self._discovery.go_to_background()

    def remove(self, object_id: int) -> None:
        """Forget one object.

        Raises:
            UnknownObject: there is none of this id.
        """
        only_words = self._discovery.forget(object_id)
        if not only_words or object_id in (*self._tracker.object_ids, *self._tracker.waiting):
            self._tracker.remove(object_id)
        self._sightings.forget(object_id)

    def rename(self, object_id: int, label: str) -> None:
        """Give an object another name, from the next frame on; an empty one takes its name away.

        Raises:
            UnknownObject: there is none of this id.
            PromptError: the name is longer than 128 characters or has characters that cannot be shown.
        """
        label = check_label(label)
        if not self._discovery.rename(object_id, label):
            self._tracker.rename(object_id, label)

    def reset(self) -> None:
        """Forget all objects and prompts; the next frame may have any stamp."""
        self._tracker.reset()
        self._discovery.clear()
        self._sightings.clear()
        self._obstacles.reset()
        self._cut_up.reset()
        self._order.reset()

    def reconfigure(self, config: PerceptionConfig) -> None:
        """Use other settings from the next frame on.

        Raises:
            ConfigError: they differ in what the model and the memory were made for.
        """
        fixed = [name for name in FIXED_SETTINGS if attrgetter(name)(config) != attrgetter(name)(self._config)]
        if fixed:
            raise ConfigError(f"{', '.join(fixed)} cannot change while objects are tracked: make a new Perception")
        self._config = self._discovery.config = config
        self._obstacles.reconfigure(config.navigation, config.geometry)

    def step(
        self,
        frame: RgbdFrame,
        *,
        wanted: Wanted = Wanted.ALL,
        on_error: StageError | None = None,
        only: Collection[int] | None = None,
        pose: CameraPose | None = None,
    ) -> Scene:
        """Everything known about the next frame.

        Objects that are out of sight are in the scene too, with a state that says so. A stream that
        goes back in time (a bag that starts again) keeps its objects and loses its recent memory.

        Args:
            frame: newer than the ones before.
            wanted: what has a use; `navigation.enabled` and `grasps.enabled` of the settings have the last word.
            on_error: called with a stage and its error where anything but segmentation fails; the scene then
                lacks what `LOST_WITH` names. Without it such an error is raised.
            only: ids of the objects whose turn it is; the others keep all that was said of them last, with its
                own stamp in `last_seen_ns`, and are named in `resting`. Without it everyone's turn it is.
            pose: how the camera stood, where that is known: measured gravity is trusted more than the settings'
                up_x to up_z, and by its pose in a fixed frame obstacles keep their ids and planes are averaged.

        Raises:
            StampError: the stamp is repeated or a little older than the newest one; nothing has changed.
            MalformedImage: the image is smaller than 16 x 16 pixels; nothing has changed.
        """
        _check_size(frame)
        notes = self._follow_stamp(frame.stamp_ns)
        needed, geometry = _needed(wanted, self._config), self._config.geometry
        stages = self._stages = Stages(on_error)
        if self._guesser is not None and needed:
            with stages.optional("depth model"):
                frame, told = self._guesser.guess(frame, self._config)
                notes = (*notes, *told)
        evidence: Mapping[int, DepthEvidence] = {}
        with stages.optional("evidence"):
            evidence = self._sightings.evidence(frame, geometry)
        if self._discovery.active:
            with stages.optional("search for new objects"):
                self._discovery.before(frame)
        with stages.required("segmentation"):
            tracks = self._tracker.step(frame.rgb, frame.stamp_ns, evidence, *(() if only is None else (only,)))
        scene, around = _scene_of(frame, tracks, notes, self._lifted), None
        with stages.optional("geometry"):
            placed = self._sightings.remember(frame, scene.objects, geometry, scene.resting)
            self._tracker.judge(placed)
            if Wanted.POSITIONS in needed:
                scene = replace(lift_scene(frame, scene, geometry), depth_source=frame.depth_source)
        if self._discovery.active:
            with stages.optional("search for lost objects"):
                scene = self._discovery.after(frame, scene)
        stages.timings_ms.update(self._discovery.take_timings_ms())
        self._lifted = {track.id: track.lifted for track in scene.objects}
        labels = None
        if self._surfaces is not None and Wanted.OBSTACLES in needed:
            with stages.optional("semantic model"):
                labels = self._surfaces.labels(frame, self._config.semantic)
        if Wanted.OBSTACLES in needed:
            with stages.optional("navigation"):
                scene, around = self._look_around(frame, scene, pose or CameraPose(), labels)
        if around is not None and self._config.navigation.everything_rate_hz > 0:
            with stages.optional("everything mode"):
                self._cut_up.advance(frame, self._obstacles, self._config.navigation.everything_rate_hz)
        if Wanted.GRASPS in needed and around is not None and "geometry" not in stages.failed:
            with stages.optional("grasps"):
                scene = self._find_grasps(frame, scene, around)
        return replace(scene, timings_ms=MappingProxyType(stages.timings_ms))

    def regions(self, frame: RgbdFrame) -> Regions:
        """A frame's picture cut up as a whole (everything mode); objects and memory stay as they are.

        Raises:
            ModelError: the model has no part for single pictures.
        """
        search = self.search_regions(frame)
        while True:
            try:
                next(search)
            except StopIteration as end:
                regions: Regions = end.value
                return regions

    def search_regions(self, frame: RgbdFrame) -> Generator[float, None, Regions]:
        """The same in small steps, each with the share that is done; `step` may be called between them.

        Raises:
            ModelError: the model has no part for single pictures.
        """
        _check_size(frame)
        if self._finder is None:
            raise ModelError("pictures cannot be cut up: this Perception was made with a tracker and without a finder")
        return (yield from self._finder.search(frame, self._config.everything))

    def _follow_stamp(self, stamp_ns: int) -> tuple[str, ...]:
        jumped = self._order.check(stamp_ns)
        self._order.accept(stamp_ns)
        if not jumped:
            return ()
        # Memories of the last frames would be taken for the immediate past, which they are not.
        self._tracker.forget_memory()
        self._discovery.forget_frames()
        self._sightings.clear()
        self._obstacles.forget_motion()
        self._cut_up.reset()
        return (
            f"time went back to {stamp_ns * 1e-9:.3f} s, as when a bag starts again: "
            f"the {len(self.object_ids)} objects are kept and go on from the frames where they were pointed at",
        )

    def _look_around(
        self, frame: RgbdFrame, scene: Scene, pose: CameraPose, labels: NDArray[np.uint8] | None
    ) -> tuple[Scene, Surroundings]:
        """The scene with what is around its targets, unless the settings keep that for the grasps alone."""
        masks = [track.mask for track in scene.objects if track.state.visible]
        if self._config.depth.navigate and frame.guess is not None:
            scene = replace(scene, around_source=frame.depth_source)
            frame = frame_with_guess_as_depth(frame, self._config.geometry)
        around = self._obstacles.update(
            frame,
            masks,
            up=frame.up if pose.up is None else pose.up,
            fixed_from_camera=pose.fixed_from_camera,
            surface_labels=labels,
        )
        if self._config.navigation.enabled:
            scene = replace(
                scene,
                ground=around.ground,
                planes=around.planes,
                fixed_planes=around.fixed_planes,
                obstacles=around.obstacles,
                scene_points=around.scene_points,
                scene_colors=around.scene_colors,
            )
        return scene, around

    def _find_grasps(self, frame: RgbdFrame, scene: Scene, around: Surroundings) -> Scene:
        targets, reasons = scene_grasps(scene.objects, around.grid, frame.intrinsics, around.planes, self._config)
        return replace(scene, grasp_targets=targets, grasp_reasons=reasons)


def _needed(wanted: Wanted, config: PerceptionConfig) -> Wanted:
    """What has to be computed for what is wanted, as far as the settings allow it."""
    if not config.navigation.enabled:
        wanted &= ~Wanted.OBSTACLES
    if not config.grasps.enabled:
        wanted &= ~Wanted.GRASPS
    if Wanted.GRASPS in wanted:
        wanted |= Wanted.POSITIONS | Wanted.OBSTACLES  # a gripper must not touch what is around the object
    return wanted


def _check_size(frame: RgbdFrame) -> None:
    if min(frame.width, frame.height) < MIN_IMAGE_PX:
        raise MalformedImage(
            f"image is {frame.width} x {frame.height} pixels: objects are looked for in pictures of at least "
            f"{MIN_IMAGE_PX} x {MIN_IMAGE_PX}; check the camera's resolution"
        )


def _scene_of(frame: RgbdFrame, tracks: Tracks, notes: tuple[str, ...], before: Mapping[int, Lifted]) -> Scene:
    # What was lifted before belongs to the masks of objects that rest.
    kept = {i: before[i] for i in tracks.resting if i in before}
    objects = tuple(
        Track(
            id=int(object_id),
            label=tracks.labels[row],
            state=tracks.states[row],
            score=float(tracks.scores[row]),
            mask_score=float(tracks.mask_scores[row]),
            mask=tracks.masks[row],
            last_seen_ns=max(0, int(tracks.last_seen_ns[row])),
            lifted=kept.get(int(object_id), Lifted()),
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
        resting=tracks.resting,
    )


def _load_tracker(config: PerceptionConfig) -> tuple[Tracker, RegionFinder]:
    from sam_perception.segmentation import ModelRegions, load_tracker

    tracker = load_tracker(config)
    return tracker, ModelRegions(lambda: tracker.model, config.device, config.dtype)
