"""SAM 2 on a live stream: objects come and go, memory does not grow, all objects go in one batch.

Every frame: the image features are computed once; all tracked objects are conditioned on their
memories, segmented and remembered together; prompts change what tracking said; masks cross to the
host once.

Where Meta's predictor (facebookresearch/sam2, "Meta") and transformers' `Sam2VideoInferenceSession`
("HF") or the SAM 2 paper differ, this tracker does:

* Mask memories of a prompted frame are zeros and ones for the prompted object only (Meta). HF does it
  for every object of the frame as soon as one is prompted, which changes the others' tracks.
* The object pointer of a mask prompt comes from the single-mask token (Meta); HF takes the best of three.
* The memory of a mask prompt is made from the low-resolution mask scaled up again (Meta); HF uses the
  mask at full resolution.
* A click on an object that is already tracked into that frame starts from the memories and from the
  mask that tracking gave, clamped to +-32 logits (Meta). HF does not feed the mask back, and runs and
  re-encodes all other objects as well.
* In a stream the newest frame is always tracked first, so that a prompt for a live object is always such
  a correction. Both references take a prompt on a frame that was not tracked yet as a new beginning,
  without memory; remove the object and prompt it again for that.
* A corrected frame becomes a conditioning frame: Meta's `add_all_frames_to_correct_as_cond`, with which
  SAM 2 is trained; its predictor leaves it off by default and would forget the correction after
  `num_maskmem` frames. At most `conditioning_frames` of them are kept, the first and the latest; both
  references keep all. One that gave way counts as a recent frame while it is among those (both).
* Further clicks on one frame never attend to the answer that earlier clicks on it gave, and clicks on the
  frame on which an object began stay without memory. Meta does so until it propagates, and would then
  let the frame attend to its own memory; here clicks one by one give what they give together.
* An object that is prompted on a frame before its first one begins there anew, without memory (both).
* Temporal encodings of object pointers are normalised by the constant 15, as both do on long videos;
  Meta uses the video's length where that is shorter, which a stream does not have.
* Memories are rounded to bfloat16 when they are stored, whatever the model's format (both).
* Holes in masks are not filled (HF); Meta's CUDA extension fills those up to 8 pixels, where it is installed.
* Masks of different objects may overlap (both, by default).
* The paper's FIFO of prompted frames is, in both references, "all prompted frames"; see above for ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.config import TrackerConfig
from sam_perception.errors import NoFreeSlot, PromptError, UnknownObject
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from sam_perception.scene import DepthEvidence, Placement
from sam_perception.segmentation.advancing import Advancer
from sam_perception.segmentation.backend import Backend, backend_of
from sam_perception.segmentation.catchup import CatchUp
from sam_perception.segmentation.current_device import on_device
from sam_perception.segmentation.detection.appearance import describe
from sam_perception.segmentation.frames import CachedFrame, DuePrompt, FrameCache, PromptQueue, feature_bytes
from sam_perception.segmentation.hardware import inferring
from sam_perception.segmentation.judging import Judge
from sam_perception.segmentation.observing import ToHost, TrackedObject, observe
from sam_perception.segmentation.policy import MemoryPolicy, make_policy
from sam_perception.segmentation.preprocess import ImageScaler
from sam_perception.segmentation.prompting import Prompter
from sam_perception.segmentation.slots import SlotMap
from sam_perception.segmentation.states import ObjectStateMachine
from sam_perception.segmentation.tracks import Tracks
from sam_perception.segmentation.turns import resting_ids, with_resting

Tensor = torch.Tensor


class StreamingTracker:
    """Tracks up to `max_objects` objects through a stream of pictures.

    Args:
        model: a transformers `Sam2VideoModel`, as `load_model` returns it; its weights are read now.
        max_objects: memory is set aside for this many.
        config: of the memory and of what counts as seen.
        policy: which frames are remembered; by default the one that `config` names.
        to_host: brings masks and numbers over, as `masks_and_numbers`, which is the default.

    Raises:
        ModelError: the model is of another kind.
    """

    def __init__(
        self,
        model: Any,
        max_objects: int = 8,
        config: TrackerConfig | None = None,
        policy: MemoryPolicy | None = None,
        to_host: ToHost | None = None,
    ) -> None:
        self._config = config or TrackerConfig()
        self._network: Backend = backend_of(model)
        self._scaler = ImageScaler(self._network.size, self._network.device, self._network.dtype)
        self._bank = self._network.bank(max_objects, self._config)
        self._slots = SlotMap(max_objects)
        limit_bytes, each_bytes = self._config.feature_cache_mb << 20, feature_bytes(self._network)
        self._cache = FrameCache(self._config.feature_cache_frames, limit_bytes, each_bytes)
        self._queue = PromptQueue()
        self._objects: dict[int, TrackedObject] = {}
        prompter = Prompter(self._network, self._scaler)
        self._advance = Advancer(self._network, prompter, self._bank, self._slots, self._objects)
        self._late = CatchUp(self._advance, self._objects, self._config.catch_up_frames)
        self._judge = Judge(policy or make_policy(self._config), self._bank, self._slots)
        self._to_host = to_host
        self._last: Tracks | None = None
        self._unanswered: tuple[Prompt, ...] = ()  # that the last step took with it, which failed

    # ------------------------------------------------------------------ what is asked of it

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects that are tracked, ascending; not those that wait for a frame."""
        return tuple(sorted(i for i, known in self._objects.items() if known.begun))

    @property
    def waiting(self) -> tuple[int, ...]:
        """Ids of the objects with a prompt that waits for its frame, or for its turn to be worked off."""
        return tuple(dict.fromkeys((*self._late.waiting, *self._queue.ids)))

    @property
    def unanswered(self) -> tuple[Prompt, ...]:
        """Prompts that the last step that failed took with it, to be given again if it is done again."""
        return self._unanswered

    def prompt(self, prompt: Prompt) -> None:
        """Point at an object, new or tracked; takes effect in the next step.

        Without a stamp it means the next frame. With one it means that frame: a frame still kept is
        found again and the object is brought forward from there, some frames in each step, while its answer
        in the newest frame is the best that it has so far; an older one is replaced by the newest; one that
        lies ahead is waited for.

        Raises:
            PromptError: not a prompt that a tracker can use.
            NoFreeSlot: as many objects are tracked or waited for as there is place for.
        """
        if not isinstance(prompt, (PointPrompt, BoxPrompt, MaskPrompt)):
            raise PromptError(f"prompt is a {type(prompt).__name__}: pass a PointPrompt, BoxPrompt or MaskPrompt")
        claimed = set(self._objects) | set(self._queue.ids)
        if prompt.object_id not in claimed and len(claimed) >= self._slots.capacity:
            raise NoFreeSlot(
                f"object {prompt.object_id} has no place: {self._slots.capacity} objects {sorted(claimed)} are tracked "
                "or waited for; remove one or raise max_objects"
            )
        self._queue.add(prompt)

    def remove(self, object_id: int) -> None:
        """Forget an object and its waiting prompts.

        Raises:
            UnknownObject: there is none of this id.
        """
        waited = self._queue.remove(object_id)
        if object_id in self._objects:
            self._drop([object_id])
        elif not waited:
            raise UnknownObject(f"no object {object_id} to remove: tracked are {list(self.object_ids)}")

    def rename(self, object_id: int, label: str) -> None:
        """Give an object, tracked or waiting for its frame, another name; an empty one takes its name away.

        Raises:
            UnknownObject: there is none of this id.
        """
        waiting = self._queue.rename(object_id, label)
        if object_id in self._objects:
            self._objects[object_id].label = label
        elif not waiting:
            raise UnknownObject(f"no object {object_id} to rename: tracked are {list(self.object_ids)}")

    def reset(self) -> None:
        """Forget all objects, prompts and frames."""
        for object_id in tuple(self._objects):
            self.remove(object_id)
        self._queue.clear()
        self._cache.clear()
        self._last = None

    def forget_memory(self) -> None:
        """Forget recent frames and keep the objects: for a stream that jumps, such as a bag that starts again.

        Objects go on from the frames on which they were pointed at.
        """
        self._bank.ledger.clear_recent()
        self._cache.clear()
        self._judge.skip()
        self._last = None

    def keep_features(self, frames: int | None = None) -> None:
        """Keep the image features of so many frames at most; None: of as many as the config says."""
        most = self._config.feature_cache_frames
        self._cache.keep(most if frames is None else min(frames, most))

    @inferring()
    def step(
        self,
        rgb: NDArray[np.uint8],
        stamp_ns: int | None = None,
        evidence: Mapping[int, DepthEvidence] | None = None,
        only: Collection[int] | None = None,
    ) -> Tracks:
        """Track all objects into the next picture.

        Objects that are not among `only` sit this frame out: what was said of them last stands, with the
        stamp of its own frame, and no memory of this frame is made for them, as if that picture had been
        dropped for them alone. New objects and those that are pointed at are never left out.

        Args:
            rgb: (H, W, 3) uint8, red first.
            stamp_ns: of the picture; without stamps, frames are numbered from 0 and prompts may name the number.
            evidence: by object id, what depth shows where an unseen object was.
            only: ids of the objects whose turn it is; all of them where it is left out.

        Where it fails, it is as if the picture had been dropped: neither the cache nor the memory has it, and
        the prompts that were to be applied to it are gone with it (`unanswered`).

        Raises:
            MalformedImage: not such a picture; nothing has changed then.
        """
        self._unanswered = ()
        with on_device(self._network.device):
            pixels = self._scaler.pixels(rgb)
            self._judge.decide({})
            frame = self._cache.add(pixels, rgb.shape[:2], stamp_ns)
            due, notes = self._queue.due(self._cache)
            with self._undone_if_it_fails(frame, [d.prompt for d in due]):
                tracks = self._stepped(frame, due, notes, evidence or {}, only)
        self._last = tracks
        return tracks

    @inferring()
    def judge(self, placements: Mapping[int, Placement]) -> None:
        """Let the memory policy decide on the newest frame, with what depth says about it.

        Without this call it decides at the next step, not knowing any depth.

        Args:
            placements: by object id, where depth puts the visible ones in the newest frame.
        """
        with on_device(self._network.device):
            self._judge.decide(placements)

    def appearance(self, masks: NDArray[np.bool_], stamp_ns: int | None = None) -> NDArray[np.float32]:
        """(N, C) unit vectors of what masks (N, H, W) show, by the image features; zeros for an empty mask.

        Looked at is the frame of that stamp if it is still kept, else the newest; before the first, zeros.
        """
        frames = list(self._cache)
        frame = next((f for f in frames if f.stamp_ns == stamp_ns), frames[-1] if frames else None)
        if frame is None:
            return np.zeros((len(masks), 1), np.float32)
        with on_device(self._network.device):
            return describe(frame.features(self._network).top, masks)

    # ------------------------------------------------------------------ how it is done

    def _stepped(
        self, frame: CachedFrame, due: Sequence[DuePrompt], notes: list[str],
        evidence: Mapping[int, DepthEvidence], only: Collection[int] | None,
    ) -> Tracks:  # fmt: skip
        """What is said about the newest frame."""
        accepted, rejected = self._accept(due)
        now = self._late.take(accepted, self._cache, notes, rejected)
        self._drop(set(self._unbegun()) - {d.prompt.object_id for d in now})  # whose prompts were rejected
        self._late.work_off(self._cache)
        now = [*self._late.arrived(frame), *now]
        live = [i for i in self._slots.ids if self._objects[i].begun and self._objects[i].first_frame < frame.index]
        resting = self._resting(live, only, {d.prompt.object_id for d in (*accepted, *now)}, frame.size)
        ids, decoded = self._advance(frame, [i for i in live if i not in resting], [d.prompt for d in now])
        latest = {d.prompt.object_id: d.prompt for d in now}
        drawn = {i: prompt.mask for i, prompt in latest.items() if isinstance(prompt, MaskPrompt)}
        seen = observe(frame, ids, decoded, self._objects, evidence, self._config, drawn, self._to_host)
        self._judge.hear(seen.observations)
        tracks = seen.tracks(rejected, notes)
        if resting and self._last is not None:
            tracks = with_resting(tracks, self._last, resting)
            tracks = replace(tracks, labels=tuple(self._objects[i].label for i in tracks.ids.tolist()))
        return tracks

    @contextmanager
    def _undone_if_it_fails(self, frame: CachedFrame, prompts: Sequence[Prompt]) -> Iterator[None]:
        """Take the newest frame back where its step fails, and what was to begin on it: there is no memory of it.

        What was worked off on frames of the past is complete and stays.
        """
        taken = [*self._late.kept, *prompts]
        try:
            yield
        except Exception:
            self._late.withdraw(frame)
            settled = {id(p) for p in (*self._late.kept, *self._late.applied)}
            self._unanswered = tuple(p for p in taken if id(p) not in settled)
            self._cache.drop(frame)
            self._bank.ledger.forget_frame(frame.index)
            self._drop([*self._unbegun(), *(i for i, o in self._objects.items() if o.first_frame >= frame.index)])
            raise

    def _unbegun(self) -> list[int]:
        """Objects without memory and without a prompt that is still to be worked off."""
        return [i for i, known in self._objects.items() if not known.begun and i not in self._late.waiting]

    def _drop(self, object_ids: Iterable[int]) -> None:
        """Forget objects; prompts that wait for their frame go on waiting."""
        for object_id in set(object_ids):
            self._bank.ledger.clear(self._slots.release(object_id))
            del self._objects[object_id]
            self._late.forget(object_id)
            self._judge.forget(object_id)
            for frame in self._cache:
                frame.forget(object_id)

    def _resting(
        self, live: Sequence[int], only: Collection[int] | None, asked: Collection[int], size: Sequence[int]
    ) -> tuple[int, ...]:
        """Live objects that sit this frame out."""
        last = self._last if self._last is not None and self._last.masks.shape[1:] == tuple(size) else None
        return tuple(i for i in resting_ids(live, only, last) if i not in asked)

    def _accept(self, due: Sequence[DuePrompt]) -> tuple[list[DuePrompt], list[tuple[int, str]]]:
        """Sort out prompts that do not fit their picture; give new objects a slot."""
        accepted, rejected = [], []
        for entry in due:
            prompt, frame = entry.prompt, entry.frame
            try:
                prompt.check_inside(frame.size[1], frame.size[0])
            except PromptError as error:
                rejected.append((prompt.object_id, str(error)))
                continue
            accepted.append(entry)
            known = self._objects.get(prompt.object_id)
            if known is None:
                self._slots.take(prompt.object_id)
                known = TrackedObject(ObjectStateMachine(self._config), frame.index)
                self._objects[prompt.object_id] = known
            known.label = prompt.label or known.label
            known.first_frame = min(known.first_frame, frame.index)
        return accepted, rejected
