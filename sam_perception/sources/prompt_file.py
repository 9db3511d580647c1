"""prompts.yaml: which objects to follow in a recording, and in which frame each is pointed at.

A list with one entry per prompt:

    - object_id: 1             # 1 to 65535; the same id again corrects the object
      label: mug               # optional
      frame: 0                 # index in the recording (default 0), or stamp_ns: 1700000000123456789
      box: [250, 200, 330, 290]        # x_min y_min x_max y_max in pixels of the colour image
    - object_id: 2
      points: [[120, 310], [90, 300]]  # x y; with a box they refine it
      point_labels: [1, 0]             # 1 on the object, 0 beside it; left out: all on it
    - object_id: 3
      frame: 12
      mask: masks/000012.png           # relative to this file
      value: 3                         # pixels of this value; left out: all that are not 0
    - object_id: 4
      text: a red mug                  # found by the detector that words.model names
      max_instances: 2                 # the surest ones; further ids from 1001 up (default 1)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from sam_perception.errors import PerceptionError, PromptError
from sam_perception.files import parsed_yaml
from sam_perception.prompts import AnyPrompt, BoxPrompt, MaskPrompt, PointPrompt, TextPrompt

_KEYS = (
    *("object_id", "label", "frame", "stamp_ns", "box", "points", "point_labels", "choose", "mask", "value"),
    *("text", "max_instances"),
)


@dataclass(frozen=True, eq=False)
class ScheduledPrompt:
    """A prompt and the frame that it belongs to: an index, or a stamp where that is given."""

    prompt: AnyPrompt
    frame: int = 0
    stamp_ns: int | None = None
    where: str = ""  # for messages

    def is_due(self, index: int, stamp_ns: int) -> bool:
        """Whether it belongs to this frame."""
        return index == self.frame if self.stamp_ns is None else stamp_ns == self.stamp_ns


class PromptSchedule:
    """Prompts that wait for their frames."""

    def __init__(self, prompts: Iterable[ScheduledPrompt]) -> None:
        self._waiting = list(prompts)
        self.object_ids = sorted({one.prompt.object_id for one in self._waiting})

    def due(self, index: int, stamp_ns: int) -> Iterator[AnyPrompt]:
        """The prompts of this frame, in the order of the file; each is given out once."""
        due = [one for one in self._waiting if one.is_due(index, stamp_ns)]
        self._waiting = [one for one in self._waiting if one not in due]
        for one in due:
            yield one.prompt

    @property
    def unused(self) -> list[ScheduledPrompt]:
        """Prompts whose frame has not come."""
        return self._waiting


def read_prompts(path: Path | str) -> PromptSchedule:
    """Read a prompts.yaml.

    Raises:
        PromptError: the file cannot be read, or an entry is wrong; the message names its line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        entries = parsed_yaml(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise PromptError(f"{path} cannot be read ({error.strerror}): give a prompts.yaml") from None
    except ValueError as error:
        raise PromptError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if node is None or not isinstance(entries, list) or not entries:
        raise PromptError(f"{path} holds {type(entries).__name__}: write a list, one '- object_id: ...' per prompt")
    places = [f"{path}, line {entry.start_mark.line + 1}" for entry in node.value]
    return PromptSchedule(_entry(entry, path.parent, where) for entry, where in zip(entries, places, strict=True))


def _entry(entry: Any, folder: Path, where: str) -> ScheduledPrompt:
    if not isinstance(entry, Mapping):
        raise PromptError(f"{where}: {entry!r} is not a mapping; write 'object_id: ...' and below it 'box: ...'")
    unknown = [str(key) for key in entry if key not in _KEYS]
    if unknown:
        raise PromptError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(_KEYS)}")
    if "object_id" not in entry:
        raise PromptError(f"{where}: object_id is missing; number the objects from 1")
    if "frame" in entry and "stamp_ns" in entry:
        raise PromptError(f"{where}: both frame and stamp_ns are given; keep one")
    frame, stamp_ns = entry.get("frame", 0), entry.get("stamp_ns")
    for name, number in (("frame", frame), ("stamp_ns", 0 if stamp_ns is None else stamp_ns)):
        if type(number) is not int or number < 0:
            raise PromptError(f"{where}: {name} is {number!r}; write a whole number from 0")
    try:
        return ScheduledPrompt(_prompt(entry, folder), frame, stamp_ns, where)
    except PerceptionError as error:
        raise type(error)(f"{where}: {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"{where}: {error}; write numbers, as in 'box: [10, 20, 30, 40]'") from None


def _prompt(entry: Mapping[str, Any], folder: Path) -> AnyPrompt:
    object_id, label = entry["object_id"], str(entry.get("label") or "")
    points: Any = entry.get("points")
    point_labels: Any = entry.get("point_labels")
    if "text" in entry:
        others = [key for key in ("box", "points", "mask", "choose") if key in entry]
        if others:
            raise PromptError(f"text beside {' and '.join(others)}; words are looked for by themselves")
        return TextPrompt(object_id, entry["text"], entry.get("max_instances", 1), label)
    if "choose" in entry and ("mask" in entry or "box" in entry):
        raise PromptError("choose beside a mask or a box; it is for a single point")
    if "mask" in entry:
        if "box" in entry or points is not None:
            raise PromptError("a mask beside a box or points; keep one of them")
        return MaskPrompt(object_id, _read_mask(folder / str(entry["mask"]), entry.get("value")), label)
    if "box" in entry:
        box = tuple(entry["box"])
        return BoxPrompt(object_id, box, [] if points is None else points, point_labels, label)
    if points is not None:
        return PointPrompt(object_id, points, point_labels, label, choose=entry.get("choose", 0))
    raise PromptError("neither box, points, mask nor text; point at the object")


def _read_mask(path: Path, value: Any) -> NDArray[np.bool_]:
    try:
        encoded = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise PromptError(f"mask {path} cannot be read ({error.strerror}); paths are relative to the file") from None
    picture = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if encoded.size else None
    if picture is None or picture.ndim != 2:
        shape = None if picture is None else picture.shape
        raise PromptError(f"mask {path} has shape {shape}; save one channel (H, W) as PNG")
    if value is None:
        return np.asarray(picture != 0)
    if not (picture == value).any():
        raise PromptError(f"mask {path} has no pixel of value {value}; it has {np.unique(picture)[:12].tolist()}")
    return np.asarray(picture == value)
