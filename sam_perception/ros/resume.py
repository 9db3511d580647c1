"""Objects survive a crash: what they looked like last is kept in a file, and shown to the tracker again.

The file holds the picture in which each object was last seen, with its mask there. A node that
starts again shows those pictures to its tracker before the first live one, so that the memory finds
the objects where they are by then, or says that it does not.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import PerceptionError, SourceError
from sam_perception.files import replaced
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.perception import Perception, Wanted
from sam_perception.prompts import MaskPrompt
from sam_perception.scene import Scene

_EVERY_S = 1.0  # between two files
_FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]


def store_path(domain: int, node_name: str) -> Path:
    """Where a node keeps its objects: under ROS_HOME (~/.ros), by DDS domain and full name."""
    home = Path(os.environ.get("ROS_HOME", Path.home() / ".ros"))
    return home / "sam_perception" / f"{domain}{node_name.replace('/', '.')}.npz"


@dataclass(frozen=True, eq=False)
class _Sighting:
    stamp_ns: int
    label: str
    mask: NDArray[np.bool_]  # (H, W)


class ObjectStore:
    """Keeps what is needed to take up the objects again.

    Args:
        path: of the file.
        max_age_s: an older file is not taken up; 0: nothing is kept at all.
    """

    def __init__(self, path: Path, max_age_s: float) -> None:
        self._path, self._max_age_s = path, max_age_s
        self._sightings: dict[int, _Sighting] = {}
        self._pictures: dict[int, tuple[str, NDArray[np.uint8]]] = {}  # by stamp: frame_id, RGB
        self._next_s = 0.0

    def keep(self, frame: RgbdFrame, scene: Scene) -> None:
        """Note a frame; now and then, and whenever the objects change, the file is written.

        Raises:
            OSError: the file cannot be written; it is tried again later.
        """
        known = {track.id for track in scene.objects}
        now_s = time.monotonic()
        if not self._max_age_s or (now_s < self._next_s and known == set(self._sightings)):
            return
        self._next_s = now_s + _EVERY_S
        self._sightings = {i: s for i, s in self._sightings.items() if i in known}
        for track in scene.objects:
            if track.state.visible:
                self._sightings[track.id] = _Sighting(frame.stamp_ns, track.label, track.mask.copy())
        self._pictures[frame.stamp_ns] = (frame.frame_id, frame.rgb.copy())
        used = {sighting.stamp_ns for sighting in self._sightings.values()}
        self._pictures = {stamp: picture for stamp, picture in self._pictures.items() if stamp in used}
        if self._sightings:
            self._write()
        else:
            self.discard()

    def discard(self) -> None:
        """Keep nothing: the objects are not to come back."""
        self._sightings.clear()
        self._pictures.clear()
        self._path.unlink(missing_ok=True)

    def take_up(self, perception: Perception) -> tuple[tuple[int, ...], Sequence[PerceptionError]]:
        """Show the kept objects to a fresh `perception`; their ids, and what could not be taken up.

        Raises:
            SourceError: the file cannot be read.
        """
        try:
            age_s = time.time() - self._path.stat().st_mtime
        except OSError:
            return (), ()
        if age_s > self._max_age_s:
            return (), ()
        errors: list[PerceptionError] = []
        for frame, prompts in self._read():
            for prompt in prompts:
                try:
                    perception.prompt(prompt)
                except PerceptionError as error:
                    errors.append(error)
            perception.step(frame, wanted=Wanted.MASKS)
        return perception.object_ids, errors

    def _write(self) -> None:
        objects = [{"id": i, "label": s.label, "stamp_ns": s.stamp_ns} for i, s in self._sightings.items()]
        pictures = [{"stamp_ns": stamp, "frame_id": frame_id} for stamp, (frame_id, _) in self._pictures.items()]
        arrays: dict[str, Any] = {"meta": np.array(json.dumps({"objects": objects, "pictures": pictures}))}
        for object_id, sighting in self._sightings.items():
            arrays[f"mask_{object_id}"] = _png(sighting.mask.astype(np.uint8) * 255)
        for stamp_ns, (_, rgb) in self._pictures.items():
            arrays[f"picture_{stamp_ns}"] = _png(rgb)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(self._path) as part, part.open("wb") as stream:
            np.savez(stream, **arrays)

    def _read(self) -> list[tuple[RgbdFrame, list[MaskPrompt]]]:
        try:
            with np.load(self._path, allow_pickle=False) as content:
                meta = json.loads(str(content["meta"]))
                return [
                    (
                        _without_depth(content[f"picture_{p['stamp_ns']}"], p["stamp_ns"], p["frame_id"]),
                        [
                            MaskPrompt(o["id"], _pixels(content[f"mask_{o['id']}"], color=False) > 0, o["label"])
                            for o in meta["objects"]
                            if o["stamp_ns"] == p["stamp_ns"]
                        ],
                    )
                    for p in sorted(meta["pictures"], key=lambda p: p["stamp_ns"])
                ]
        except PerceptionError:
            raise
        except Exception as error:  # zip, numpy, JSON and OpenCV each raise their own
            raise SourceError(f"{self._path} cannot be read ({error}): point at the objects again") from error


def _without_depth(png: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> RgbdFrame:
    rgb = _pixels(png, color=True)
    height, width = rgb.shape[:2]
    camera = CameraIntrinsics(width, height, fx=1.0, fy=1.0, cx=0.0, cy=0.0)  # nothing is measured in it
    return RgbdFrame(rgb, np.zeros((height, width), np.float32), camera, stamp_ns, frame_id)


def _png(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # Channels are written and read in the same order, so red first stays red first.
    _, data = cv2.imencode(".png", pixels, _FAST)
    return np.asarray(data, np.uint8)


def _pixels(png: NDArray[np.uint8], *, color: bool) -> NDArray[np.uint8]:
    pixels = cv2.imdecode(png, cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise ValueError("a picture in it is damaged")
    return np.asarray(pixels, np.uint8)
