"""Pictures without depth: a file, a folder of them, or the frames of a video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import SourceError

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
VIDEO_ENDINGS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture under a name that no other one of its source has."""

    name: str  # of the file without its ending, or VIDEO_000012
    file: str  # relative to the source's folder; a video's own name for its frames
    rgb: NDArray[np.uint8]  # (H, W, 3)


class PictureSource:
    """Pictures in the order of their names; every `every`-th one.

    A picture that cannot be read is left out and noted in `rejected`.

    Raises:
        SourceError: nothing there, or nothing in it that is a picture.
    """

    def __init__(self, path: Path | str, *, every: int = 1) -> None:
        self.path, self._every = Path(path), every
        self.rejected: list[str] = []
        self._video = self.path.is_file() and self.path.suffix.lower() in VIDEO_ENDINGS
        self._files = [] if self._video else self._found()
        if self._video:
            _opened(self.path)

    def __len__(self) -> int:
        """How many there are; for a video what its header says, which may be a little off."""
        if not self._video:
            return len(self._files)
        frames = max(0, int(_opened(self.path).get(cv2.CAP_PROP_FRAME_COUNT)))
        return -(-frames // self._every)

    def __iter__(self) -> Iterator[Picture]:
        self.rejected = []
        yield from self._frames() if self._video else self._pictures()

    def _found(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        if not self.path.is_dir():
            raise SourceError(f"{self.path} is not there: give a picture, a folder of pictures or a video")
        files = sorted(p for p in self.path.iterdir() if p.suffix.lower() in PICTURE_ENDINGS and p.is_file())
        if not files:
            raise SourceError(
                f"{self.path} has no pictures: put them there as {', '.join(PICTURE_ENDINGS)}, or give its subfolder"
            )
        return files[:: self._every]

    def _pictures(self) -> Iterator[Picture]:
        stems = [file.stem for file in self._files]
        for file in self._files:
            try:
                encoded = np.frombuffer(file.read_bytes(), np.uint8)
            except OSError as error:
                self.rejected.append(f"{file} cannot be read ({error.strerror})")
                continue
            bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
            if bgr is None:
                self.rejected.append(f"{file} ({encoded.size} bytes) is no whole picture")
                continue
            # cup.png beside cup.jpg: their endings tell them apart.
            name = file.stem if stems.count(file.stem) == 1 else f"{file.stem}_{file.suffix[1:]}"
            yield Picture(name, file.name, _as_rgb(bgr))

    def _frames(self) -> Iterator[Picture]:
        video, index = _opened(self.path), 0
        while video.grab():
            if index % self._every == 0:
                whole, bgr = video.retrieve()
                if whole:
                    yield Picture(f"{self.path.stem}_{index:06d}", self.path.name, _as_rgb(bgr))
                else:
                    self.rejected.append(f"{self.path}, frame {index} cannot be decoded")
            index += 1
        if index == 0:
            raise SourceError(f"{self.path} has no frame that can be decoded: convert it with ffmpeg")


def _opened(path: Path) -> cv2.VideoCapture:
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise SourceError(f"{path} cannot be opened as a video: convert it to mp4, or extract its frames with ffmpeg")
    return video


def _as_rgb(bgr: cv2.typing.MatLike) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
