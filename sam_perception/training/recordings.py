"""Folders of labelled pictures: `color/NAME.jpg|png`, `labels/NAME.png` with instance ids, and what is beside them."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import MalformedImage, SourceError
from sam_perception.files import parsed_json

_ENDINGS = (".png", ".jpg", ".jpeg")
# What labels.json calls things that are no objects to segment, as the last word of what is named: a "supporting
# table" is one, a "table lamp", a "tablet" and "the cup on the table" are objects.
_NO_OBJECT = re.compile(r"\b(?:backgrounds?|no data|tables?|ground|floors?)(?:[ _-]*(?:top|plane|surface))?[ _-]*\d*$")
_ASIDE = re.compile(r"\(.*?\)|\[.*?\]|[,;:].*|\b(?:on|in|at|of|under|above|below|behind|beside|near|from|with)\b.*")


def _names_no_object(text: str) -> bool:
    """Whether a label's name is that of background, table, ground or floor themselves."""
    return _NO_OBJECT.search(_ASIDE.sub("", text.lower().replace("_", " ")).strip(" .")) is not None


class Recording:
    """A clip or a set of single pictures, some or all of them labelled.

    Label 0 is never an object; nor are ids that labels.json calls background, table, ground or floor,
    or those in `ignore` where it is given.

    Raises:
        SourceError: no pictures, or a file beside them cannot be read.
    """

    def __init__(self, path: Path, ignore: Collection[int] | None = None) -> None:
        self.path = path
        self.colors = sorted(p for p in (path / "color").glob("*") if p.suffix.lower() in _ENDINGS)
        if not self.colors:
            raise SourceError(f"{path} has no pictures: put them in {path / 'color'} as NAME.png or NAME.jpg")
        info = self._json("info.json")
        self.stills = info.get("type") == "stills" or bool(info.get("frames_independent"))
        self.ignored = self._ignored() if ignore is None else {0, *ignore}

    def __len__(self) -> int:
        return len(self.colors)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    def _json(self, name: str) -> dict[str, Any]:
        file = self.path / name
        if not file.is_file():
            return {}
        try:
            values: dict[str, Any] = parsed_json(file.read_text())
        except ValueError as error:
            raise SourceError(f"{file} is no JSON ({error}): mend or remove it") from error
        if not isinstance(values, dict):
            raise SourceError(f"{file} holds a {type(values).__name__}: it must hold an object with named values")
        return values

    def _ignored(self) -> set[int]:
        named = self._json("labels.json")
        words = {int(k): str(v).lower() for k, v in named.items() if k.isdigit()}
        return {0} | {k for k, text in words.items() if _names_no_object(text)}

    def rgb(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) picture.

        Raises:
            MalformedImage: it cannot be read.
        """
        picture = cv2.imdecode(np.fromfile(self.colors[index], np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise MalformedImage(f"{self.colors[index]} cannot be decoded: save it again as PNG or JPEG")
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)

    def labels(self, index: int) -> NDArray[np.uint16] | None:
        """(H, W) instance ids, or None where the picture has no label.

        Raises:
            MalformedImage: it cannot be read.
        """
        file = self.path / "labels" / f"{self.colors[index].stem}.png"
        if not file.is_file():
            return None
        ids = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED)
        if ids is None or ids.ndim != 2:
            raise MalformedImage(f"{file} is no single-channel PNG: save instance ids as 8 or 16 bit gray values")
        return np.asarray(ids, np.uint16)

    def depth_m(self, index: int) -> NDArray[np.float32] | None:
        """(H, W) metres, 0 where there is none; None where nothing was recorded."""
        file = self.path / "depth" / f"{self.colors[index].stem}.png"
        if not file.is_file():
            return None
        raw = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED)
        if raw is None or raw.dtype != np.uint16:
            raise MalformedImage(f"{file} is no 16 bit PNG: save depth in millimetres")
        from sam_perception.images import depth_from_millimetres

        return depth_from_millimetres(raw)

    def intrinsics(self) -> dict[str, Any]:
        """What intrinsics.json says; empty where there is none."""
        return self._json("intrinsics.json")

    def world_from_camera(self) -> NDArray[np.float64] | None:
        """(T, 4, 4) poses, or None.

        Raises:
            SourceError: not 16 numbers for each picture.
        """
        file = self.path / "poses.txt"
        if not file.is_file():
            return None
        poses = np.loadtxt(file, np.float64, ndmin=2)
        if poses.shape != (len(self), 16):
            raise SourceError(f"{file} has shape {poses.shape}: write 16 numbers for each of {len(self)} pictures")
        return poses.reshape(-1, 4, 4)

    def objects(self, ids: NDArray[np.uint16]) -> list[int]:
        """Ids of the objects in a label image."""
        return [int(k) for k in np.unique(ids) if int(k) not in self.ignored]
