"""A tracker that needs no model: an object is what has the colour that was pointed at."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import NoFreeSlot, PromptError, UnknownObject
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.prompts import BoxPrompt, MaskPrompt, Prompt
from sam_perception.scene import DepthEvidence, ObjectState, Placement
from sam_perception.segmentation.tracks import Tracks

WIDTH, HEIGHT = 64, 48
CAMERA = CameraIntrinsics(WIDTH, HEIGHT, 60.0, 60.0, 31.5, 23.5)
FRAME_ID = "camera_color_optical_frame"
RED, BLUE, GREY = (200, 30, 30), (30, 30, 200), (90, 90, 90)
RED_BOX = (10.0, 10.0, 25.0, 29.0)  # x_min, y_min, x_max, y_max of the square below
RED_POINT = (17.0, 20.0)
_ALIKE = 12


def red_mask() -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:30, 10:26] = True
    return mask


def make_rgb(*, red: bool = True) -> NDArray[np.uint8]:
    """A grey wall, a red square and a blue one."""
    rgb = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    if red:
        rgb[red_mask()] = RED
    rgb[10:30, 40:56] = BLUE
    return rgb


def make_depth_m() -> NDArray[np.float32]:
    """The squares half a metre away, the wall at two."""
    depth_m = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    depth_m[10:30, 10:26] = 0.5
    depth_m[10:30, 40:56] = 0.5
    return depth_m


def make_frame(stamp_ns: int = 10**9, *, red: bool = True, depth_m: NDArray[np.float32] | None = None) -> RgbdFrame:
    return RgbdFrame(make_rgb(red=red), make_depth_m() if depth_m is None else depth_m, CAMERA, stamp_ns, FRAME_ID)


class ColorTracker:
    """`perception.Tracker` by colour; `gate` lets a test hold a step."""

    def __init__(self, max_objects: int = 8) -> None:
        self.max_objects = max_objects
        self.objects: dict[int, NDArray[np.int16]] = {}
        self.labels: dict[int, str] = {}
        self.queue: list[Prompt] = []
        self.steps = 0
        self.forgotten = 0
        self.evidence: Mapping[int, DepthEvidence] = {}
        self.placements: dict[int, Placement] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.delay_s = 0.0
        self.stamps: list[int] = []
        self.said: dict[int, tuple[NDArray[np.bool_], int]] = {}  # mask and stamp of its last turn

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(sorted(self.objects))

    @property
    def waiting(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(p.object_id for p in self.queue))

    def prompt(self, prompt: Prompt) -> None:
        claimed = {*self.objects, *self.waiting}
        if prompt.object_id not in claimed and len(claimed) >= self.max_objects:
            raise NoFreeSlot(f"{len(claimed)} objects are tracked")
        self.queue.append(prompt)

    def remove(self, object_id: int) -> None:
        if object_id not in self.objects and object_id not in self.waiting:
            raise UnknownObject(f"no object {object_id}")
        self.queue = [p for p in self.queue if p.object_id != object_id]
        self.objects.pop(object_id, None)

    def rename(self, object_id: int, label: str) -> None:
        if object_id not in self.objects and object_id not in self.waiting:
            raise UnknownObject(f"no object {object_id}")
        self.queue = [replace(p, label=label) if p.object_id == object_id else p for p in self.queue]
        self.labels[object_id] = label

    def reset(self) -> None:
        self.queue.clear()
        self.objects.clear()

    def forget_memory(self) -> None:
        self.forgotten += 1

    def judge(self, placements: Mapping[int, Placement]) -> None:
        self.placements = dict(placements)

    def step(
        self,
        rgb: NDArray[np.uint8],
        stamp_ns: int,
        evidence: Mapping[int, DepthEvidence] | None = None,
        only: Collection[int] | None = None,
    ) -> Tracks:
        self.gate.wait(20)
        if self.delay_s:
            threading.Event().wait(self.delay_s)  # inference takes as long
        self.steps += 1
        self.stamps.append(stamp_ns)
        self.evidence = dict(evidence or {})
        rejected = []
        for prompt in self.queue:
            try:
                prompt.check_inside(rgb.shape[1], rgb.shape[0])
                self.objects[prompt.object_id] = _color_at(prompt, rgb)
                self.labels[prompt.object_id] = prompt.label
            except PromptError as error:
                rejected.append((prompt.object_id, str(error)))
        self.queue.clear()
        ids = self.object_ids
        masks = np.zeros((len(ids), *rgb.shape[:2]), bool)
        resting = tuple(i for i in ids if only is not None and i not in only and i in self.said)
        for row, object_id in enumerate(ids):
            if object_id in resting:
                masks[row] = self.said[object_id][0]
                continue
            masks[row] = np.abs(rgb.astype(np.int16) - self.objects[object_id]).max(axis=2) < _ALIKE
        seen = masks.reshape(len(ids), -1).sum(axis=1) >= 16 if ids else np.zeros(0, bool)
        masks[~seen] = False
        stamps = [self.said[i][1] if i in resting else stamp_ns for i in ids]
        self.said = {i: (masks[row].copy(), stamps[row]) for row, i in enumerate(ids)}
        logits: Any = None
        return Tracks(
            ids=np.array(ids, np.int64),
            masks=masks,
            logits=logits,
            scores=np.where(seen, 0.9, 0.1).astype(np.float32),
            mask_scores=np.where(seen, 0.8, 0.0).astype(np.float32),
            states=tuple(ObjectState.TRACKED if s else ObjectState.OCCLUDED for s in seen),
            labels=tuple(self.labels[i] for i in ids),
            last_seen_ns=np.where(seen, np.array(stamps, np.int64), -1),
            rejected=tuple(rejected),
            resting=resting,
        )


def _color_at(prompt: Prompt, rgb: NDArray[np.uint8]) -> NDArray[np.int16]:
    if isinstance(prompt, MaskPrompt):
        return np.median(rgb[prompt.mask], axis=0).astype(np.int16)
    if isinstance(prompt, BoxPrompt):
        x, y = (prompt.box[0] + prompt.box[2]) / 2, (prompt.box[1] + prompt.box[3]) / 2
    else:
        x, y = prompt.points[0]
    return rgb[round(float(y)), round(float(x))].astype(np.int16)
