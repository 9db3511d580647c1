"""A tracker that survives what goes wrong inside it: memory that runs out, and a network that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import TrackerConfig
from sam_perception.errors import DeviceMemoryError, MalformedImage, UnknownObject
from sam_perception.prompts import MaskPrompt, Prompt
from sam_perception.scene import DepthEvidence, Placement
from sam_perception.segmentation.backend import Backend, backend_of
from sam_perception.segmentation.device_memory import (
    device_memory_errors,
    first_words,
    is_device_memory_error,
    release_cached_memory,
)
from sam_perception.segmentation.frugal import FrugalBackend
from sam_perception.segmentation.memory_ladder import MemoryLadder, Place, steps_for
from sam_perception.segmentation.tracker import StreamingTracker
from sam_perception.segmentation.tracks import Tracks

_UNCOMPILED = (
    "the network runs as configured again, but uncompiled, since compiling takes minutes: configure anew to compile"
)


@dataclass(frozen=True, eq=False)
class _Sighting:
    """Where an object was seen last; on the host."""

    order: int  # of the picture
    stamp_ns: int | None
    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    label: str


class GuardedTracker:
    """`StreamingTracker` with `MemoryLadder`'s steps around it.

    A step in which memory runs out is taken back and done again with less, which the notes of its tracks
    say; where nothing is left to try, that frame is dropped. A step that fails otherwise is raised, costs
    its frame and the prompts that were to begin with it, and leaves the other objects as they were.

    Args:
        load: makes the model for a place.
        max_objects: as many as are tracked at once.
        config: of the trackers.
        places: where to go when nothing else helps, in order.
        clock: seconds that never go back.
        compile_: makes what a model runs on where it is loaded as configured, before any stream. Never later:
            compiling takes minutes. A tracker that comes back from elsewhere goes on uncompiled, and says so.

    Raises:
        DeviceMemoryError: there is no memory for the model, in any of the places.
        ModelError: what `load` raises.
    """

    def __init__(
        self,
        load: Callable[[Place], Any],
        max_objects: int,
        config: TrackerConfig,
        places: tuple[Place, ...] = (),
        clock: Callable[[], float] = time.monotonic,
        compile_: Callable[[Any], Backend] | None = None,
    ) -> None:
        self._load, self._max_objects, self._config, self._compile = load, max_objects, config, compile_
        self._keeps_sightings = bool(places)
        steps = steps_for(max_objects, places) if config.memory_fallback else ()
        self._ladder = MemoryLadder(steps, config.memory_recover_s, clock)
        self._sightings: dict[int, _Sighting] = {}
        self._frames = 0
        self._asked: list[Prompt] = []  # since the last good step, or waiting for their frame
        self._failed: list[tuple[int, str]] = []  # prompts that a failed step took with it
        self._began = False
        self._inner = self._first()
        self._began = True

    @property
    def model(self) -> Any:
        """What `load` returned last, for other uses of the same weights."""
        return self._model

    @property
    def degraded(self) -> str:
        """How this differs from what is configured, in words; "" if it does not."""
        return self._ladder.summary or (_UNCOMPILED if self._uncompiled else "")

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Objects that are tracked, ascending."""
        return self._inner.object_ids

    @property
    def waiting(self) -> tuple[int, ...]:
        """Objects with a prompt that waits for its frame."""
        return self._inner.waiting

    def prompt(self, prompt: Prompt) -> None:
        """As `StreamingTracker.prompt`."""
        self._inner.prompt(prompt)
        self._asked.append(prompt)

    def remove(self, object_id: int) -> None:
        """As `StreamingTracker.remove`."""
        self._inner.remove(object_id)
        self._asked = [prompt for prompt in self._asked if prompt.object_id != object_id]
        self._sightings.pop(object_id, None)

    def rename(self, object_id: int, label: str) -> None:
        """As `StreamingTracker.rename`."""
        self._inner.rename(object_id, label)
        if object_id in self._sightings:
            self._sightings[object_id] = replace(self._sightings[object_id], label=label)

    def reset(self) -> None:
        """As `StreamingTracker.reset`."""
        self._inner.reset()
        self._asked, self._failed = [], []
        self._sightings.clear()

    def forget_memory(self) -> None:
        """As `StreamingTracker.forget_memory`."""
        self._inner.forget_memory()

    def judge(self, placements: Mapping[int, Placement]) -> None:
        """As `StreamingTracker.judge`."""
        self._inner.judge(placements)

    def appearance(self, masks: NDArray[np.bool_], stamp_ns: int | None = None) -> NDArray[np.float32]:
        """As `StreamingTracker.appearance`."""
        return self._inner.appearance(masks, stamp_ns)

    def step(
        self,
        rgb: NDArray[np.uint8],
        stamp_ns: int | None = None,
        evidence: Mapping[int, DepthEvidence] | None = None,
        only: Collection[int] | None = None,
    ) -> Tracks:
        """As `StreamingTracker.step`.

        Raises:
            MalformedImage: not a picture; nothing has changed then.
            DeviceMemoryError: memory ran out, and nothing that needs less is left to try.
        """
        self._take_back()
        while True:
            self._inner.keep_features(1 if self._ladder.one_frame else None)
            outcome = self._attempt(rgb, stamp_ns, evidence, only)
            if isinstance(outcome, Tracks):
                break
            self._make_do(outcome)
        waiting = set(self._inner.waiting)
        self._asked = [prompt for prompt in self._asked if prompt.object_id in waiting]
        rejected, self._failed = (*self._failed, *outcome.rejected), []
        self._remember(rgb, stamp_ns, outcome)
        return replace(outcome, rejected=rejected, notes=(*self._ladder.take_notes(), *outcome.notes))

    # ------------------------------------------------------------------ one attempt

    def _attempt(
        self, rgb: NDArray[np.uint8], stamp_ns: int | None, evidence: Mapping[int, DepthEvidence] | None,
        only: Collection[int] | None,
    ) -> Tracks | str:  # fmt: skip
        """The tracks, or what was seen where memory ran out; the tracker is as it was before, then."""
        known = set(self._inner.object_ids)
        try:
            return self._inner.step(rgb, stamp_ns, evidence, only)
        except MalformedImage:
            raise
        except Exception as error:
            seen = str(error) if isinstance(error, DeviceMemoryError) else first_words(error)
            memory = isinstance(error, DeviceMemoryError) or is_device_memory_error(error)
            if not memory or not self._config.memory_fallback:
                self._drop_newcomers(known)
                self._give_up_prompts(seen, stamp_ns)
            if not memory:
                raise
        if not self._config.memory_fallback:
            raise DeviceMemoryError(f"{seen}; tracker.memory_fallback is off")
        for prompt in self._inner.unanswered:
            self._inner.prompt(prompt)
        return seen

    def _drop_newcomers(self, known: set[int]) -> None:
        """Objects that began in a step that failed have no memory to go on from."""
        for object_id in {prompt.object_id for prompt in self._asked} - known:
            with suppress(UnknownObject):
                self._inner.remove(object_id)

    def _ask_again(self, prompts: Sequence[Prompt]) -> None:
        waiting = set(self._inner.waiting)
        for prompt in prompts:
            if prompt.object_id not in waiting:
                self._inner.prompt(prompt)

    def _give_up_prompts(self, seen: str, stamp_ns: int | None) -> None:
        """A prompt that the network fails on would fail on every frame, so it is tried once only."""
        now_ns = -1 if stamp_ns is None else stamp_ns
        self._ask_again([p for p in self._asked if p.stamp_ns is not None and p.stamp_ns > now_ns])
        waiting = set(self._inner.waiting)
        self._failed += [
            (prompt.object_id, f"the frame that it was for failed ({seen}): point at the object again")
            for prompt in self._asked
            if prompt.object_id not in waiting
        ]
        self._asked = [prompt for prompt in self._asked if prompt.object_id in waiting]

    # ------------------------------------------------------------------ less memory, and more again

    def _make_do(self, seen: str) -> None:
        """Take the next step down, also from one tracker to another.

        Raises:
            DeviceMemoryError: there is none.
        """
        step = self._ladder.step_down(seen)
        if step is None:
            raise DeviceMemoryError(seen)
        if step.place is not None and (failed := self._try_move(step.place)):
            self._make_do(failed)

    def _take_back(self) -> None:
        step = self._ladder.due_back()
        if step is None:
            return
        self._ladder.step_back()
        if step.place is None:
            return
        if failed := self._try_move(self._ladder.place):
            self._ladder.step_down(failed)
        elif self._uncompiled:
            self._ladder.note(_UNCOMPILED)

    @property
    def _uncompiled(self) -> bool:
        return self._compile is not None and self._ladder.place is Place.CONFIGURED and not self._compiled

    def _try_move(self, place: Place) -> str:
        """Track on with a network in another place; why not, if it has no room there either."""
        try:
            with device_memory_errors(f"inference {place.value}"):
                moved = self._moved(place)
        except DeviceMemoryError as error:
            failed = str(error)
        else:
            self._inner = moved
            failed = ""
        release_cached_memory()
        return failed

    def _moved(self, place: Place) -> StreamingTracker:
        """Another tracker that has been shown all objects as they were seen last."""
        fresh = self._make(place)
        for order in sorted({s.order for s in self._sightings.values()}):
            seen = {i: s for i, s in self._sightings.items() if s.order == order}
            for object_id, sighting in seen.items():
                fresh.prompt(MaskPrompt(object_id, sighting.mask, sighting.label))
            one = next(iter(seen.values()))
            fresh.step(one.rgb, one.stamp_ns)
        waiting = {prompt.object_id for prompt in self._asked}
        for prompt in self._asked:
            fresh.prompt(prompt)
        self._failed += [
            (i, "it was never seen, so it cannot be moved to another network: point at it again")
            for i in self._inner.object_ids
            if i not in self._sightings and i not in waiting
        ]
        return fresh

    def _make(self, place: Place) -> StreamingTracker:
        self._model = self._load(place)
        # Elsewhere it is a makeshift, and later it would be in the middle of a stream.
        self._compiled = self._compile is not None and place is Place.CONFIGURED and not self._began
        backend = self._compile(self._model) if self._compile and self._compiled else backend_of(self._model)
        frugal = FrugalBackend(backend, self._ladder)
        return StreamingTracker(frugal, self._max_objects, self._config, to_host=frugal.to_host)

    def _first(self) -> StreamingTracker:
        while True:
            try:
                with device_memory_errors("loading the model"):
                    return self._make(self._ladder.place)
            except DeviceMemoryError as error:
                failed = str(error)
            if not self._ladder.step_to_place(failed):
                raise DeviceMemoryError(failed)

    def _remember(self, rgb: NDArray[np.uint8], stamp_ns: int | None, tracks: Tracks) -> None:
        """Keep what another tracker would need to go on."""
        if not self._keeps_sightings:
            return
        known = set(tracks.ids.tolist())
        self._sightings = {i: s for i, s in self._sightings.items() if i in known}
        self._frames += 1
        for row, object_id in enumerate(tracks.ids.tolist()):
            if tracks.states[row].visible:
                label, mask = tracks.labels[row], tracks.masks[row]
                self._sightings[object_id] = _Sighting(self._frames, stamp_ns, rgb, mask, label)
