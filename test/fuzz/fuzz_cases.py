"""What is fuzzed: functions that read what others wrote, each with the only errors that it may raise."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np

from sam_perception.commands.settings import _parsed, _read
from sam_perception.config import PerceptionConfig
from sam_perception.errors import PerceptionError
from sam_perception.settings import with_settings
from sam_perception.sources.prompt_file import read_prompts

ENCODINGS = (
    *("rgb8", "bgr8", "rgba8", "bgra8", "mono8", "yuv422", "yuv422_yuy2", "uyvy", "yuyv", "RGB8"),
    *("16UC1", "mono16", "32FC1", "64FC1", "bayer_rggb8", "", "\0", "8UC3", "16uc1"),
)
LENSES = ("", "none", "plumb_bob", "rational_polynomial", "equidistant", "fisheye", "?")


class Bytes:
    """Numbers and texts out of a run of bytes; where it has ended, zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        self._at += count
        return part + bytes(count - len(part))

    def number(self, most: int) -> int:
        """0 to `most`."""
        return int.from_bytes(self.take(4), "little") % (most + 1)

    def small(self) -> int:
        """Sizes: mostly small, sometimes absurd."""
        kind = self.number(31)
        return 2 * self.number(20) if kind < 24 else self.number(700) if kind < 31 else 2**32 - 1

    def real(self) -> float:
        return float(np.frombuffer(self.take(4), np.float32)[0])

    def one_of(self, values: Any) -> Any:
        return values[self.number(len(values) - 1)]

    def rest(self) -> bytes:
        return self._data[self._at :]


def header(data: Bytes) -> Any:
    stamp = SimpleNamespace(sec=data.number(2**31), nanosec=data.number(2**32 - 1))
    return SimpleNamespace(stamp=stamp, frame_id=data.one_of((*["cam"] * 14, "", "other")))


def image(data: Bytes) -> Any:
    """An image message, half of them of a length that fits."""
    height, width = data.small(), data.small()
    encoding = "rgb8" if data.number(1) else data.one_of(ENCODINGS)
    wide = data.number(7)
    step = width * (3 if wide < 4 else data.number(8)) if wide < 7 else data.small()
    fits = data.number(7)
    length = step * height if fits else data.small()
    pixels = data.take(64)
    if length > 10**6:
        length = data.number(4096)
    content = (pixels * (length // 64 + 1))[:length]
    return SimpleNamespace(
        header=header(data), height=height, width=width, step=step, encoding=encoding,
        is_bigendian=data.number(255), data=array("B", content),
    )  # fmt: skip


def camera_info(data: Bytes, color: Any) -> Any:
    same = data.number(3)
    return SimpleNamespace(
        header=header(data),
        width=color.width if same else data.small(),
        height=color.height if same else data.small(),
        k=[50.0, 0.0, 9.5, 0.0, 50.0, 9.5, 0.0, 0.0, 1.0] if data.number(3) else [data.real() for _ in range(9)],
        d=[] if data.number(2) else [data.real() for _ in range(data.number(9))],
        distortion_model="plumb_bob" if data.number(2) else data.one_of(LENSES),
    )


def fuzz_frame(raw: bytes) -> None:
    """Images and camera_info to a frame."""
    from sam_perception.ros.convert import frame_from_msgs

    data = Bytes(raw)
    color = image(data)
    if data.number(2):
        depth = SimpleNamespace(**vars(color))
        depth.encoding = data.one_of(("16UC1", "32FC1"))
        depth.step = color.width * (2 if depth.encoding == "16UC1" else 4)
        length = min(depth.step * color.height, 10**6)
        depth.data = array("B", (data.take(64) * (length // 64 + 1))[:length])
    else:
        depth = image(data)
    frame = frame_from_msgs(color, depth, camera_info(data, color))
    assert frame.rgb.shape == (color.height, color.width, 3)
    assert frame.depth_m.shape == frame.rgb.shape[:2]
    assert frame.stamp_ns >= 0


def fuzz_prompt(raw: bytes) -> None:
    """A Prompt message to a prompt."""
    from sam_perception.ros.convert import prompt_from_msg

    data = Bytes(raw)
    kind = data.number(7)
    msg = SimpleNamespace(
        header=header(data), object_id=data.number(70_000), label=data.take(data.number(20)).decode("latin-1"),
        points=array("f", [data.real() for _ in range(data.number(6))]) if kind & 1 else [],
        point_labels=array("B", data.take(data.number(3))) if kind & 1 else b"",
        box=[data.real() for _ in range(data.number(5))] if kind & 2 else [],
        mask=image(data) if kind & 4 else SimpleNamespace(data=[]),
        region=data.number(3), text=data.take(data.number(8)).decode("latin-1") if data.number(4) == 0 else "",
        max_instances=data.number(300), choose=data.number(255),
    )  # fmt: skip
    prompt = prompt_from_msg(msg, data.number(70_000))
    assert 1 <= prompt.object_id <= 65_535
    if hasattr(prompt, "check_inside"):
        prompt.check_inside(64, 48)


def _file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes], None]:
    def fuzz(raw: bytes) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(raw)
            read(path)

    return fuzz


def _resume(path: Path) -> None:
    from sam_perception.ros.resume import ObjectStore

    ObjectStore(path, 60.0)._read()


def _coco(path: Path) -> None:
    from sam_perception.training.datasets import open_dataset

    for example in open_dataset(path.parent)[:3]:
        example.read()


def _rle(path: Path) -> None:
    from sam_perception.segmentation.pictures.rle import Rle

    try:
        entry = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    rle = Rle.read(entry)
    assert rle.size[0] * rle.size[1] == int(rle.counts.sum(dtype=np.int64))
    if rle.size[0] * rle.size[1] <= 10**6:
        assert rle.mask().shape == rle.size


def _intrinsics(path: Path) -> None:
    from sam_perception.sources.folder import _read_intrinsics

    _read_intrinsics(path)


def _bag(path: Path) -> None:
    from sam_perception.sources.bag import BagSource

    BagSource(path.parent).close()


def _checksums(path: Path) -> None:
    from sam_perception.segmentation.models import verify_checksums

    verify_checksums(path.parent)


def _checkpoint(path: Path) -> None:
    from sam_perception.segmentation.models import load_model

    (path.parent / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    load_model(path.parent)


def _run(path: Path) -> None:
    from sam_perception.training.checkpoint import load_run

    load_run(path.parent)


def _settings(raw: bytes) -> None:
    with_settings(PerceptionConfig(), _parsed([raw.decode("utf-8", "replace")]))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frame": fuzz_frame,
    "prompt message": fuzz_prompt,
    "prompts.yaml": _file("prompts.yaml", read_prompts),
    "config yaml": _file("config.yaml", lambda path: with_settings(PerceptionConfig(), _read(path))),
    "--set": _settings,
    "resume file": _file("objects.npz", _resume),
    "COCO annotations": _file("annotations.json", _coco),
    "run lengths": _file("rle.json", _rle),
    "intrinsics.json": _file("intrinsics.json", _intrinsics),
    "bag metadata": _file("metadata.yaml", _bag),
    "SHA256SUMS": _file("SHA256SUMS", _checksums),
    "config.json": _file("config.json", _checkpoint),
    "state.json": _file("state.json", _run),
}


def survives(name: str, raw: bytes) -> bool:
    """Whether `raw` was read; a refusal of the package's own is fine, anything else is raised."""
    try:
        TARGETS[name](raw)
    except PerceptionError as error:
        said = str(error)
    else:
        return True
    assert len(said) > 10, f"{name} refuses without a word: {said!r}"
    return False


def seeds(name: str) -> Iterator[bytes]:
    """Good inputs, and bad ones that somebody has thought of."""
    yield from (b"", b"\0", b"\xff\xfe", b"null", b"[]", b"{}", b"[" * 20_000, b"{" * 20_000, b"- " * 5_000)
    yield from (b"a: 2001-99-99", b"!!bool maybe", b"!!int ''", b"!!float []", b"9" * 5_000, b"&a [*a, *a]", b"1e400")
    yield from (b"0: 1", b"yes: no", b"null: 1", b"geometry: {0: 1}", b"2001-01-01: 1", b"[{1: 2}]")
    yield from (json.dumps(entry).encode() for entry in SEEDS.get(name, ()))


_PROMPTS = [
    [{"object_id": 1, "box": [1, 2, 3, 4]}], [{"object_id": 1, "points": [[1, 2]], "point_labels": [1]}],
    [{"object_id": 1, "points": [[10**400, 0]]}], [{"object_id": 1, "points": [[1, 2]], "point_labels": [2**40]}],
    [{"object_id": 10**30, "box": [1, 2, 3, 4]}], [{"object_id": 1, "box": [10**400, 2, 3, 4]}],
    [{"object_id": 1, "mask": "a\0b"}], [{"object_id": 1, "mask": "."}], [{"object_id": 1, "mask": "prompts.yaml"}],
    [{"object_id": 1, "text": 5}], [{"object_id": 1, "text": "mug", "max_instances": -1}],
    [{"object_id": 1, "text": {"a": 1}}], [{"object_id": [1], "box": "abcd"}], [{"object_id": 1, "box": {"a": 1}}],
    [{"object_id": 1, "points": {"x": 1}}], [{"object_id": True, "points": [[1, 2]]}],
    [{"object_id": 1, "points": [[1, 2], [3]]}], [{"object_id": 1, "points": [["a", "b"]]}],
    [{"object_id": 1, "frame": True, "points": [[1, 2]]}], [{"object_id": 1, "choose": "x", "points": [[1, 2]]}],
    [{"object_id": 1, "stamp_ns": 10**30, "points": [[1, 2]]}],
    [{"object_id": 1, "label": "\x07", "box": [1, 2, 3, 4]}],
]  # fmt: skip
_RLES: list[Any] = [
    {"size": [2, 3], "counts": [1, 2, 3]}, {"size": [2, 3], "counts": "123"}, {"size": [-2, -3], "counts": [6]},
    {"size": [2, 3], "counts": [2.5, 3.5]}, {"size": 5, "counts": []}, {"size": [2], "counts": [2]}, {"counts": [1]},
    {"size": [2**20, 2**20], "counts": [2**40]}, {"size": [2, 3], "counts": "\u20ac"}, {"size": [2, 3], "counts": None},
    {"size": ["a", 3], "counts": [1]}, {"size": [2, 3], "counts": ["a"]}, {"size": [2, 3], "counts": {"a": 1}}, 7,
    {"size": [0, 0], "counts": []}, {"size": [1e400, 1], "counts": [1]}, {"size": [2, 3], "counts": "o" * 3000},
]  # fmt: skip


def _coco_of(**annotation: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 4}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, **annotation}],
        "categories": [{"id": 1, "name": "mug"}],
    }


SEEDS: dict[str, Any] = {
    "prompts.yaml": _PROMPTS,
    "config yaml": [
        {"max_objects": 3}, {"geometry": {"min_depth_m": 0.3}}, {"geometry.min_depth_m": "x"}, {"geometry": 3},
        {"max_objects": 10**400}, {"max_objects": [1]}, {"": 1}, {"geometry.": 1}, {".min_depth_m": 1}, {"a.b.c": 1},
        {"geometry": {"geometry": {"geometry": 1}}}, {"max_objects.x": 1}, {"model": "\0"}, {"geometry": {"": None}},
    ],
    "run lengths": _RLES,
    "COCO annotations": [
        _coco_of(segmentation=[[0, 0, 3, 0, 3, 3]]), _coco_of(segmentation={"size": [4, 4], "counts": [4, 12]}),
        _coco_of(segmentation=[[0, 0]]), _coco_of(segmentation=7), _coco_of(), _coco_of(segmentation={"size": 3}),
        _coco_of(segmentation=[["a", "b"] * 4]), _coco_of(segmentation={"size": [4, 4], "counts": "\u20ac"}),
        {"images": 3, "annotations": []}, {"images": [{}], "annotations": [{}]}, {"annotations": {}}, [1, 2],
        {"images": [{"id": [1], "file_name": 5}], "annotations": [{"image_id": [1]}]},
    ],
    "intrinsics.json": [
        {"width": 4, "height": 4, "fx": 1, "fy": 1, "cx": 1, "cy": 1},
        {"width": 1e400, "height": 4, "fx": 1, "fy": 1, "cx": 1, "cy": 1},
        {"width": 4, "height": 4, "fx": 10**400, "fy": 1, "cx": 1, "cy": 1},
        {"width": 4, "height": 4, "fx": "x", "fy": [1], "cx": None, "cy": {}},
        {"width": 4, "height": 4, "fx": 1, "fy": 1, "cx": 1, "cy": 1, "distortion": 5, "distortion_model": []},
    ],
    "bag metadata": [
        {"rosbag2_bagfile_information": {}}, {"rosbag2_bagfile_information": 5}, {"rosbag2_bagfile_information": None},
        {"rosbag2_bagfile_information": {"version": "x", "relative_file_paths": 3}},
        {"rosbag2_bagfile_information": {
            "version": 9, "storage_identifier": "mcap", "relative_file_paths": ["metadata.yaml"],
            "duration": {"nanoseconds": -1}, "starting_time": {"nanoseconds_since_epoch": 0}, "message_count": 1,
            "topics_with_message_count": [], "compression_format": "", "compression_mode": "", "files": [],
        }},
    ],
    "config.json": [{"model_type": "sam2_video"}, {"model_type": "sam2_video", "image_size": "x"}, {"model_type": []}],
    "state.json": [{"recipe": "nano", "seed": 1}, {"unknown": 1}, 5],
}  # fmt: skip
