"""Folders of pictures: color/, depth/ in millimetres, intrinsics.json, and what else was recorded with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import FrameError, MalformedImage, PerceptionError, SourceError
from sam_perception.files import parsed_json
from sam_perception.frame import CameraIntrinsics, DistortionModel, RgbdFrame
from sam_perception.images import depth_from_millimetres
from sam_perception.sources.source import Rejection

# A zero stamp means "unset" in ROS, so the first frame's is one second.
FIRST_STAMP_NS = 10**9
DEFAULT_FPS = 30.0
FRAME_ID = "camera_color_optical_frame"
_PICTURES = (".png", ".jpg", ".jpeg")


class FolderSource:
    """Frames of a folder; stamps follow from the nominal rate, since such folders have no clock.

    Layout: `color/NAME.jpg|png`, `depth/NAME.png` (uint16 millimetres on colour's pixel grid, 0 no return),
    `intrinsics.json` (width, height, fx, fy, cx, cy; optionally distortion_model and distortion). Optional:
    `labels/NAME.png` (instance ids), `poses.txt` (row-major 4 x 4 world_from_camera per frame), `info.json`
    (`fps_nominal`; `"type": "stills"` or `"frames_independent": true` for separate scenes).

    A picture that cannot be read is rejected, the others go on.

    Raises:
        SourceError: a part of the layout is missing or cannot be read.
    """

    def __init__(self, path: Path | str, *, fps: float | None = None, frame_id: str = FRAME_ID) -> None:
        self.path = Path(path)
        self._frame_id = frame_id
        self._colors = _pictures_in(self.path / "color")
        if not (self.path / "depth").is_dir():
            raise SourceError(f"{self.path} has no depth/ folder: RGB-D needs depth/NAME.png, uint16 millimetres")
        self.intrinsics = _read_intrinsics(self.path / "intrinsics.json")
        info = _read_json(self.path / "info.json") if (self.path / "info.json").is_file() else {}
        self._independent = info.get("type") == "stills" or bool(info.get("frames_independent"))
        self.fps = _checked_fps(fps or info.get("fps_nominal") or (1.0 if self._independent else DEFAULT_FPS))
        self._rejected: list[Rejection] = []

    @property
    def description(self) -> str:
        """One line for people."""
        kind = "separate scenes" if self._independent else f"frames at {self.fps:g} Hz"
        return f"{len(self)} {kind} from {self.path}"

    @property
    def independent(self) -> bool:
        """Whether the frames are separate scenes."""
        return self._independent

    @property
    def rejected(self) -> Sequence[Rejection]:
        """Pictures that could not be read in the latest iteration."""
        return self._rejected

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the frames, without endings, in order."""
        return tuple(color.stem for color in self._colors)

    def __len__(self) -> int:
        return len(self._colors)

    def __iter__(self) -> Iterator[RgbdFrame]:
        self._rejected = []
        for index in range(len(self)):
            try:
                frame = self.frame(index)
            except FrameError as error:
                self._rejected.append(Rejection.of(self.stamp_ns(index), error))
                continue
            yield frame

    def __enter__(self) -> FolderSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def stamp_ns(self, index: int) -> int:
        """Stamp of frame `index` at the nominal rate."""
        return FIRST_STAMP_NS + round(index * 10**9 / self.fps)

    def frame(self, index: int) -> RgbdFrame:
        """Frame `index`.

        Raises:
            FrameError: its pictures are missing, unreadable or do not fit together.
        """
        color = self._colors[index]
        bgr = _read_picture(color, cv2.IMREAD_COLOR)
        depth = _read_picture(self.path / "depth" / f"{color.stem}.png", cv2.IMREAD_UNCHANGED)
        if depth.dtype != np.uint16 or depth.ndim != 2:
            raise MalformedImage(
                f"depth/{color.stem}.png is {depth.dtype} of shape {depth.shape}: save uint16 millimetres, one channel"
            )
        rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
        return RgbdFrame(rgb, depth_from_millimetres(depth), self.intrinsics, self.stamp_ns(index), self._frame_id)

    def labels(self, index: int) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        """(H, W) instance ids of frame `index` (0 is no object), or None where it has no label."""
        path = self.path / "labels" / f"{self._colors[index].stem}.png"
        return _read_picture(path, cv2.IMREAD_UNCHANGED) if path.is_file() else None

    def world_from_camera(self) -> NDArray[np.float64] | None:
        """(T, 4, 4) poses, or None where there is no poses.txt.

        Raises:
            SourceError: not 16 numbers per frame.
        """
        path = self.path / "poses.txt"
        if not path.is_file():
            return None
        try:
            poses = np.loadtxt(path, np.float64, ndmin=2)
        except ValueError as error:
            raise SourceError(f"{path} cannot be read ({error}): write 16 numbers per line") from None
        if poses.shape != (len(self), 16):
            raise SourceError(
                f"{path} has shape {poses.shape}: write one line of 16 numbers for each of {len(self)} frames"
            )
        return poses.reshape(-1, 4, 4)


def _pictures_in(folder: Path) -> list[Path]:
    pictures = sorted(p for p in folder.glob("*") if p.suffix.lower() in _PICTURES)
    if not pictures:
        raise SourceError(f"{folder} has no pictures: put the colour images there as NAME.png or NAME.jpg")
    return pictures


def _read_picture(path: Path, flags: int) -> NDArray[Any]:
    # Through bytes, since imread prints a warning about a missing file instead of raising.
    try:
        encoded = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise MalformedImage(
            f"{path} cannot be read ({error.strerror}): every colour picture needs its partner"
        ) from None
    picture = cv2.imdecode(encoded, flags) if encoded.size else None
    if picture is None:
        raise MalformedImage(f"{path} ({encoded.size} bytes) is no whole picture: copy or record it again")
    return np.asarray(picture)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = parsed_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): the folder needs it") from None
    except ValueError as error:
        raise SourceError(f"{path} is not JSON ({error}): write it again") from None
    if not isinstance(content, dict):
        raise SourceError(f"{path} holds a {type(content).__name__}: it must hold an object with named values")
    return content


def _read_intrinsics(path: Path) -> CameraIntrinsics:
    values = _read_json(path)
    missing = [name for name in ("width", "height", "fx", "fy", "cx", "cy") if name not in values]
    if missing:
        raise SourceError(f"{path} lacks {', '.join(missing)}: give them in pixels")
    # The unit of depth follows from the encoding here as everywhere: uint16 is millimetres.
    if values.get("depth_scale", 0.001) != 0.001:
        raise SourceError(f"{path} has depth_scale {values['depth_scale']}: convert depth/ to millimetres (0.001)")
    if values.get("depth_aligned_to_color", True) is not True:
        raise SourceError(f"{path} says that depth is not aligned to colour: register depth to colour first")
    try:
        return CameraIntrinsics(
            int(values["width"]),
            int(values["height"]),
            float(values["fx"]),
            float(values["fy"]),
            float(values["cx"]),
            float(values["cy"]),
            DistortionModel(values.get("distortion_model", "none")),
            tuple(float(c) for c in values.get("distortion", ())),
        )
    except PerceptionError as error:
        raise SourceError(f"{path}: {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise SourceError(f"{path} has a value of the wrong kind ({error}): give numbers") from None


def _checked_fps(fps: Any) -> float:
    if isinstance(fps, (int, float)) and 0 < fps < float("inf"):
        return float(fps)
    raise SourceError(f"frame rate is {fps!r}: give a positive number of frames per second (fps_nominal in info.json)")
