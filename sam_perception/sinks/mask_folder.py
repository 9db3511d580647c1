"""What everything mode finds, as files: masks and a table per picture, one COCO file, and pictures to look at."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import SinkError
from sam_perception.overlay import color_of

if TYPE_CHECKING:
    from sam_perception.segmentation import GeneratedMask

# The columns of SAM's own amg.py, so that what reads its tables reads these.
COLUMNS = (
    "id", "area", "bbox_x0", "bbox_y0", "bbox_w", "bbox_h", "point_input_x", "point_input_y", "predicted_iou",
    "stability_score", "crop_box_x0", "crop_box_y0", "crop_box_w", "crop_box_h",
)  # fmt: skip
_FILL = 0.45  # share of the region's colour in the overlay


class MaskFolder:
    """Writes `NAME/0.png`, `1.png` ... with 255 on the mask, `NAME/metadata.csv`, `NAME.jpg` and `annotations.json`.

    Masks are numbered from 0 as they come. The COCO file is written at the end, with masks as compressed
    run-length encodings that pycocotools reads.

    Args:
        path: folder to create; it may exist if it is empty.
        masks: write a PNG per mask.
        overlay: write `NAME.jpg`.

    Raises:
        SinkError: the folder has something in it, or cannot be written.
    """

    def __init__(self, path: Path, *, masks: bool = True, overlay: bool = True) -> None:
        self.path, self._with_masks, self._with_overlay = path, masks, overlay
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        if path.is_dir() and any(path.iterdir()):
            raise SinkError(f"{path} is not empty: give a new folder, or remove it first")
        self._make(path)

    def __enter__(self) -> MaskFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._write(self.path / "annotations.json", json.dumps(self.coco()).encode())

    def write(self, name: str, file: str, rgb: NDArray[np.uint8], found: Sequence[GeneratedMask]) -> None:
        """Add one picture (H, W, 3) and its masks.

        Raises:
            SinkError: something cannot be written.
        """
        folder = self.path / name
        self._make(folder)
        table = io.StringIO(newline="")
        writer = csv.writer(table)
        writer.writerow(COLUMNS)
        writer.writerows(_row(number, one) for number, one in enumerate(found))
        self._write(folder / "metadata.csv", table.getvalue().encode())
        if self._with_masks:
            for number, one in enumerate(found):
                pixels = np.where(one.segmentation, np.uint8(255), np.uint8(0))
                self._write(folder / f"{number}.png", _encoded(".png", pixels))
        if self._with_overlay:
            drawn = draw_masks(rgb, [one.segmentation for one in sorted(found, key=lambda one: -one.area)])
            self._write(self.path / f"{name}.jpg", _encoded(".jpg", drawn[..., ::-1]))
        self._add(file, rgb.shape[:2], name, found)

    def coco(self) -> dict[str, Any]:
        """What has been written so far, as COCO's instance annotations without categories of its own."""
        return {
            "info": {"description": "sam-perception segment"},
            "images": self._images,
            "annotations": self._annotations,
            "categories": [{"id": 1, "name": "region"}],
        }

    def _add(self, file: str, size: tuple[int, ...], name: str, found: Iterable[GeneratedMask]) -> None:
        image_id = len(self._images) + 1
        entry = {"id": image_id, "file_name": file, "name": name, "height": size[0], "width": size[1]}
        self._images.append(entry)
        for one in found:
            about = {"id": len(self._annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0}
            self._annotations.append({**about, **one.record("coco_rle")})

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{folder} cannot be made ({error.strerror}): choose another folder") from error

    def _write(self, file: Path, data: bytes) -> None:
        try:
            file.write_bytes(data)
        except OSError as error:
            raise SinkError(f"{file} cannot be written ({error.strerror}): check the folder and free space") from error


def draw_masks(rgb: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """A copy of `rgb` (H, W, 3) with masks (H, W) filled and outlined, each over those before it."""
    picture = np.array(rgb, np.uint8)
    thickness = max(1, round(rgb.shape[0] / 480))
    for number, mask in enumerate(masks, start=1):
        color = color_of(number)
        picture[mask] = (picture[mask] * (1 - _FILL) + np.array(color) * _FILL).astype(np.uint8)
        contours, _ = cv2.findContours(
            np.ascontiguousarray(mask).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
        )
        cv2.drawContours(picture, contours, -1, color, thickness, cv2.LINE_AA)
    return picture


def _row(number: int, one: GeneratedMask) -> list[Any]:
    scores = [f"{value:.6g}" for value in (one.predicted_iou, one.stability_score)]
    return [number, one.area, *one.bbox, *one.point, *scores, *one.crop_box]


def _encoded(ending: str, pixels: NDArray[np.uint8]) -> bytes:
    done, encoded = cv2.imencode(ending, np.ascontiguousarray(pixels))
    if not done:
        raise SinkError(f"a picture of shape {pixels.shape} cannot be written as {ending}: cut it into smaller ones")
    return encoded.tobytes()
