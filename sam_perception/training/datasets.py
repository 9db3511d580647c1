"""A user's own labelled pictures: COCO instances, or label PNGs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import MalformedImage, SourceError
from sam_perception.files import parsed_json
from sam_perception.training.recordings import Recording

MAX_OBJECTS = 255  # instance ids of one picture fit into 8 bits
MIN_AREA_PX = 40


@dataclass(frozen=True)
class Example:
    """One picture with its instances; read when asked for."""

    name: str
    read: Callable[[], tuple[NDArray[np.uint8], NDArray[np.uint8]]]  # (H, W, 3) RGB and (H, W) ids, 0 background
    of_clip: bool = False  # a frame of a clip, of which its neighbours show much the same


def open_dataset(path: Path, ignore: Sequence[int] | None = None) -> list[Example]:
    """Examples of a folder with COCO jsons, or with color/ and labels/ as in recordings; each picture is one example.

    Raises:
        SourceError: neither is there, or no picture has an object.
    """
    annotated = [p for p in sorted(path.glob("*.json")) if _is_coco(p)]
    if annotated:
        examples = _coco_examples(annotated)
    elif (path / "labels").is_dir():
        examples = _label_pngs(Recording(path, ignore))
    else:
        raise SourceError(
            f"{path} has neither a COCO json (images, annotations) nor color/ and labels/ folders: "
            "see `sam-perception train --help` for the two layouts"
        )
    if not examples:
        raise SourceError(f"{path} has no picture with an object of at least {MIN_AREA_PX} pixels: check its labels")
    return examples


def split(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Training and validation examples, drawn by picture; of a clip one stretch is held out, not frames among others.

    Raises:
        SourceError: fewer than two pictures.
    """
    if len(examples) < 2:
        raise SourceError(f"{len(examples)} labelled picture: training needs one and validation another")
    rng = np.random.default_rng(seed)
    count = min(len(examples) - 1, max(1, round(share * len(examples))))
    if any(example.of_clip for example in examples):
        start = int(rng.integers(len(examples) - count + 1))
        return [*examples[:start], *examples[start + count :]], list(examples[start : start + count])
    order = rng.permutation(len(examples))
    return [examples[i] for i in order[count:]], [examples[i] for i in order[:count]]


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) picture.

    Raises:
        MalformedImage: missing, or it cannot be decoded.
    """
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.is_file() else None
    if picture is None:
        raise MalformedImage(f"{path} is missing or cannot be decoded: correct its path, or save it again")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _label_pngs(recording: Recording) -> list[Example]:
    def reader(index: int) -> Callable[[], tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        def read() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            ids = recording.labels(index)
            assert ids is not None  # noqa: S101 (it had one when the folder was opened)
            table = np.zeros(int(ids.max()) + 1, np.uint8)
            for new, old in enumerate(_big_enough(recording, ids)[:MAX_OBJECTS], start=1):
                table[old] = new
            return recording.rgb(index), table[ids]

        return read

    examples = []
    for i, color in enumerate(recording.colors):
        ids = recording.labels(i)
        if ids is not None and _big_enough(recording, ids):
            examples.append(Example(f"{recording.name}/{color.stem}", reader(i), of_clip=not recording.stills))
    return examples


def _big_enough(recording: Recording, ids: NDArray[np.uint16]) -> list[int]:
    count = np.bincount(ids.ravel())
    return [k for k in recording.objects(ids) if count[k] >= MIN_AREA_PX]


def _is_coco(path: Path) -> bool:
    try:
        values = parsed_json(path.read_bytes())
    except ValueError:
        return False
    return isinstance(values, dict) and {"images", "annotations"} <= set(values)


def _coco_examples(files: Sequence[Path]) -> list[Example]:
    """Several files may be about one picture: their annotations come together, or it would be held out and learnt."""
    by_picture: dict[Path, tuple[str, list[dict[str, Any]]]] = {}
    for file in files:
        for name, own in _coco(file):
            places = [file.parent / name, file.parent / "images" / name]
            picture = next((p for p in places if p.is_file()), places[0]).resolve()
            by_picture.setdefault(picture, (name, []))[1].extend(own)
    return [Example(name, _coco_reader(picture, own)) for picture, (name, own) in by_picture.items()]


def _coco(path: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    """File name and annotations of each picture that has some."""
    values = parsed_json(path.read_bytes())
    by_image: dict[Any, list[dict[str, Any]]] = {}
    try:
        for annotation in values["annotations"]:
            if not annotation.get("iscrowd") and annotation.get("segmentation"):
                by_image.setdefault(annotation["image_id"], []).append(annotation)
        named = [(str(image["file_name"]), by_image.get(image["id"], [])) for image in values["images"]]
    except (AttributeError, KeyError, TypeError) as error:
        raise SourceError(
            f"{path} is not as COCO's format has it ({type(error).__name__}: {error}): images need id and file_name, "
            "annotations image_id and segmentation"
        ) from error
    return [(name, own) for name, own in named if own]


def _coco_reader(
    picture: Path, annotations: list[dict[str, Any]]
) -> Callable[[], tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    def read() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        rgb = read_rgb(picture)
        ids = np.zeros(rgb.shape[:2], np.uint8)
        masks = [coco_mask(a["segmentation"], *rgb.shape[:2]) for a in annotations[:MAX_OBJECTS]]
        # Where instances overlap the smaller one is taken to lie on the larger.
        for k in sorted(range(len(masks)), key=lambda i: -int(masks[i].sum())):
            ids[masks[k]] = k + 1
        return rgb, ids

    return read


def coco_mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """(H, W) mask of a COCO segmentation: polygons, or run lengths as a list or as COCO's packed string.

    Raises:
        SourceError: of another kind, or for a picture of another size.
    """
    try:
        return _coco_mask(segmentation, height, width)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SourceError(
            f"segmentation {str(segmentation)[:60]!r} is neither polygons nor run lengths ({error}): export again"
        ) from error


def _coco_mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    if isinstance(segmentation, list):
        mask = np.zeros((height, width), np.bool_)
        for polygon in segmentation:
            mask |= filled_polygon(np.asarray(polygon, np.float64).reshape(-1, 2), height, width)
        return mask
    if not isinstance(segmentation, dict) or list(segmentation.get("size", ())) != [height, width]:
        raise SourceError(f"segmentation {str(segmentation)[:60]!r} does not fit a {width} x {height} picture")
    counts = segmentation["counts"]
    runs = unpack_run_lengths(counts) if isinstance(counts, (str, bytes)) else list(counts)
    if sum(runs) != height * width:
        raise SourceError(f"run lengths add up to {sum(runs)}, the picture has {height * width} pixels: export again")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.asarray(values.reshape(width, height).T)  # COCO counts down the columns


def filled_polygon(corners: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """(H, W) pixels whose centres lie in the polygon of (N, 2) corners; whole numbers are edges of pixels, as in COCO.

    Row by row: every side that crosses the middle of a row turns all pixels right of it over. OpenCV's fillPoly
    takes the pixels under the border as well, which is half a pixel too much all around.

    Raises:
        ValueError: a corner that is not finite.
    """
    if not np.isfinite(corners).all():
        raise ValueError("corners are not finite")
    turned = np.zeros((height, width + 1), np.uint8)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = (int(v) for v in np.clip(np.ceil(np.sort([y0, y1]) - 0.5), 0, height))
        if low == high:
            continue
        x = x0 + (np.arange(low, high) + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        turned[np.arange(low, high), np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp)] ^= 1
    return np.asarray(np.bitwise_xor.accumulate(turned, axis=1)[:, :width].astype(bool))


def unpack_run_lengths(packed: str | bytes) -> list[int]:
    """Run lengths of COCO's packed string.

    Five bits to a character (less 48), bit 6 says that more follow, the last one's bit 5 is the sign; from
    the third run on, the difference to the run before the last is stored.
    """
    text = packed.encode("ascii") if isinstance(packed, str) else packed
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
