"""A stand-in for Perception that needs no model: each prompted box is an object that drifts and hides once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from sam_perception.errors import StampError
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.prompts import BoxPrompt, MaskPrompt, Prompt
from sam_perception.scene import Lifted, ObjectState, OrientedBox, Scene, Track

HIDDEN = range(5, 8)  # frames of an object's life in which it is not seen
WIDTH, HEIGHT = 80, 60
CAMERA = CameraIntrinsics(WIDTH, HEIGHT, 70.0, 70.0, 39.5, 29.5)


def make_frame(index: int) -> RgbdFrame:
    """A gradient with a square that moves two pixels per frame, a metre away."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[..., 2] = np.linspace(0, 200, WIDTH)
    rgb[20:40, 10 + 2 * index : 30 + 2 * index] = (220, 40, 40)
    depth = np.full((HEIGHT, WIDTH), 1.0, np.float32)
    return RgbdFrame(rgb, depth, CAMERA, 10**9 + index * 66_666_667, "optical")


def write_folder(path: Path, count: int, info: str = '{"fps_nominal": 15}') -> Path:
    """A recorded folder of `count` frames."""
    for name in ("color", "depth"):
        (path / name).mkdir(parents=True)
    for index in range(count):
        frame = make_frame(index)
        cv2.imwrite(str(path / f"color/{index:06d}.png"), frame.rgb[..., ::-1])
        cv2.imwrite(str(path / f"depth/{index:06d}.png"), (frame.depth_m * 1000).astype(np.uint16))
    (path / "intrinsics.json").write_text(
        f'{{"width": {WIDTH}, "height": {HEIGHT}, "fx": 70.0, "fy": 70.0, "cx": 39.5, "cy": 29.5}}'
    )
    (path / "info.json").write_text(info)
    return path


class FakePerception:
    """`prompt`, `step` and `reset` of Perception."""

    def __init__(self) -> None:
        self.prompts: dict[int, Prompt] = {}
        self.ages: dict[int, int] = {}
        self.resets = 0
        self.last_ns = -1

    def prompt(self, prompt: Prompt) -> None:
        self.prompts[prompt.object_id] = prompt
        self.ages[prompt.object_id] = 0

    def reset(self) -> None:
        self.prompts.clear()
        self.resets += 1
        self.last_ns = -1

    def step(self, frame: RgbdFrame) -> Scene:
        if frame.stamp_ns == self.last_ns:
            raise StampError(f"stamp {frame.stamp_ns} again")
        self.last_ns = frame.stamp_ns
        tracks = tuple(self._track(i, frame) for i in sorted(self.prompts))
        return Scene(frame.stamp_ns, frame.frame_id, frame.width, frame.height, tracks, {"segmentation": 1.5})

    def _track(self, object_id: int, frame: RgbdFrame) -> Track:
        prompt, age = self.prompts[object_id], self.ages[object_id]
        self.ages[object_id] = age + 1
        mask = np.zeros((frame.height, frame.width), bool)
        if age in HIDDEN:
            return Track(object_id, prompt.label, ObjectState.OCCLUDED, 0.2, 0.1, mask, frame.stamp_ns)
        if isinstance(prompt, BoxPrompt):
            x0, y0, x1, y1 = (round(v) for v in prompt.box)
            mask[y0:y1, x0 + 2 * age : x1 + 2 * age] = True
        elif isinstance(prompt, MaskPrompt):
            mask |= prompt.mask
        else:
            x, y = (int(v) for v in prompt.points[0])
            mask[y - 3 : y + 4, x - 3 : x + 4] = True
        state = ObjectState.REACQUIRED if age == HIDDEN.stop else ObjectState.TRACKED
        return Track(object_id, prompt.label, state, 0.9, 0.8, mask, frame.stamp_ns, lifted_of(mask, frame))


def lifted_of(mask: np.ndarray, frame: RgbdFrame) -> Lifted:
    """The mask's points by the pinhole formula; a box of fixed size around them."""
    rows, columns = np.nonzero(mask)
    z = frame.depth_m[mask]
    camera = frame.intrinsics
    points = np.stack([(columns - camera.cx) / camera.fx * z, (rows - camera.cy) / camera.fy * z, z], axis=1)
    # An object that has drifted out of the picture has no points.
    centroid = points.mean(axis=0) if len(points) else np.full(3, np.nan)
    box = OrientedBox(centroid, np.eye(3), np.array([0.1, 0.1, 0.1]))
    return Lifted(points.astype(np.float32), frame.rgb[mask], centroid, np.eye(3) * 1e-6, box, 1.0)


def run(frames: Iterable[RgbdFrame], perception: FakePerception) -> Iterator[tuple[RgbdFrame, Scene]]:
    """Every frame with its scene."""
    for frame in frames:
        yield frame, perception.step(frame)
