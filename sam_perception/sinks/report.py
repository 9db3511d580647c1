"""A run as a folder to look at: index.html, an overlay video, and pictures from along the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GraspConfig
from sam_perception.errors import SinkError
from sam_perception.files import replaced
from sam_perception.frame import RgbdFrame
from sam_perception.overlay import draw_overlay
from sam_perception.overlay_scene import draw_scene
from sam_perception.scene import Scene
from sam_perception.sinks.history import RunHistory
from sam_perception.sinks.report_page import GENERATOR, Table, render_page
from sam_perception.sinks.report_scene import SceneHistory
from sam_perception.sinks.video import VideoWriter

_PICTURES = 12  # about as many are kept, evenly along the run
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 88)


class ReportSink:
    """Collects scenes and writes the report when closed.

    Args:
        path: folder to create; an earlier report there is replaced, any other folder with content is refused.
        title: what was run, on the top of the page.
        source: where the frames come from.
        independent: the frames are separate scenes, so that nothing is drawn as a path over time.
        grasps: says whose gripper the pictures show.

    Raises:
        SinkError: the folder holds something else or cannot be written.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        title: str,
        source: str,
        independent: bool = False,
        grasps: GraspConfig | None = None,
    ) -> None:
        self.path = Path(path)
        self.history = RunHistory()
        self._around = SceneHistory(independent=independent)
        self._grasps = grasps
        self._title, self._source, self._independent = title, source, independent
        self._tables: list[Table] = []
        self._pictures: dict[int, dict[str, bytes]] = {}  # by frame and kind: "frame" and, where it shows more, "scene"
        self._stride = 1
        self._video: VideoWriter | None = None
        self._prepare()

    def write(self, frame: RgbdFrame, scene: Scene) -> None:
        """Add one frame."""
        overlay = draw_overlay(frame.rgb, scene.objects)
        if self._video is None:
            self._video = VideoWriter(self.path / "overlay.mp4", frame.width, frame.height)
        self._video.write(overlay, frame.stamp_ns)
        index = len(self.history.stamps_ns)
        if self._independent or index % self._stride == 0:
            self._keep(index, frame, scene, overlay)
        self.history.add(scene)
        self._around.add(scene)

    def add_table(
        self,
        title: str,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        note: str = "",
        *,
        appendix: bool = False,
    ) -> None:
        """Show a table of the caller's own, near the top of the page or folded away at its end."""
        self._tables.append(Table(title, tuple(header), tuple(tuple(row) for row in rows), note, appendix))

    def note(self, text: str) -> None:
        """Show a line among the notes at the end of the page."""
        self.history.notes.append(text)

    def close(self) -> None:
        """Write the pictures and the page."""
        if self._video is not None:
            self._video.close()
        page = render_page(
            self.history,
            title=self._title,
            source=self._source,
            independent=self._independent,
            tables=self._tables,
            pictures=self._paths("frame"),
            scene_tables=self._around.tables(),
            scene_pictures=self._paths("scene"),
            video="overlay.mp4" if self._video is not None else None,
        )
        try:
            for index, pictures in self._pictures.items():
                for kind, picture in pictures.items():
                    (self.path / _path(kind, index)).write_bytes(picture)
            with replaced(self.path / "index.html") as part:  # last, so that a page that is there is whole
                part.write_text(page, encoding="utf-8")
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> ReportSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Also after a failure: what was seen until then helps to find its cause.
        if kind is not None:
            self.note(f"the run ended early: {kind.__name__}: {error}")
        self.close()

    def _keep(self, index: int, frame: RgbdFrame, scene: Scene, overlay: NDArray[np.uint8]) -> None:
        self._pictures[index] = {"frame": _jpeg(overlay)}
        if scene.ground is not None or scene.obstacles or scene.grasp_targets:
            around = draw_scene(frame.rgb, scene, frame.intrinsics, self._grasps)
            self._pictures[index]["scene"] = _jpeg(around)
        if not self._independent and len(self._pictures) > 2 * _PICTURES:
            # The length of the run is not known: when there are too many, every other one goes.
            self._stride *= 2
            self._pictures = {i: pictures for i, pictures in self._pictures.items() if i % self._stride == 0}

    def _paths(self, kind: str) -> list[tuple[int, str]]:
        """Frames and paths of the pictures of one kind."""
        return [(index, _path(kind, index)) for index in sorted(self._pictures) if kind in self._pictures[index]]

    def _prepare(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            index = self.path / "index.html"
            earlier = index.is_file() and GENERATOR in index.read_text(encoding="utf-8", errors="replace")
            if any(self.path.iterdir()) and not earlier:
                raise SinkError(f"{self.path} holds other files: choose a new folder for the report")
            (self.path / "pictures").mkdir(exist_ok=True)
            for kind in ("frame", "scene"):
                for stale in (self.path / "pictures").glob(f"{kind}_*.jpg"):
                    stale.unlink()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> SinkError:
        return SinkError(f"{self.path} cannot be written ({error}): check the folder and free space")


def _path(kind: str, index: int) -> str:
    return f"pictures/{kind}_{index:06d}.jpg"


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _JPEG)[1])
