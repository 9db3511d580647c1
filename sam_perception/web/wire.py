"""What a browser may say, checked field by field: text in, values out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Union

from sam_perception.errors import ConsoleError
from sam_perception.prompts import MAX_LABEL_LENGTH, MAX_OBJECT_ID

MAX_MESSAGE_BYTES = 16 * 1024
MAX_POINTS = 64
MAX_TEXT_LENGTH = 256
MAX_TOKEN_LENGTH = 512
VIEWS = ("overlay", "color", "depth")

_MAX_STAMP_NS = 2**63 - 1
_MAX_COUNT = 2**31 - 1
_FARTHEST_PX = 1e5  # farther than any picture is wide


@dataclass(frozen=True)
class Hello:
    """The first thing that a page says."""

    token: str


@dataclass(frozen=True)
class Ready:
    """The page has shown what it was sent and wants the next picture."""

    view: str  # one of VIEWS


@dataclass(frozen=True)
class Probe:
    """What is under the cursor?"""

    stamp_ns: int  # of the picture that is shown
    x: float  # pixels
    y: float


@dataclass(frozen=True)
class PromptRequest:
    """A click, a box, words or a region; of several objects one at a time."""

    stamp_ns: int  # of the picture that was shown; 0: the next one
    object_id: int = 0  # to correct; 0: a new one
    label: str = ""
    points: tuple[tuple[float, float, int], ...] = ()  # x, y in pixels, 1 on the object or 0 beside it
    box: tuple[float, float, float, float] | None = None  # x_min, y_min, x_max, y_max in pixels
    text: str = ""
    region: int = 0


@dataclass(frozen=True)
class Rename:
    """Give an object another name."""

    object_id: int
    label: str


@dataclass(frozen=True)
class Remove:
    """Forget an object."""

    object_id: int


@dataclass(frozen=True)
class Reset:
    """Forget all objects."""


@dataclass(frozen=True)
class Everything:
    """Cut the picture up as a whole."""


Action = Union[PromptRequest, Rename, Remove, Reset, Everything]


@dataclass(frozen=True)
class Ask:
    """An action, and the number under which the page expects its answer."""

    number: int
    action: Action


Said = Union[Hello, Ready, Probe, Ask]


def parse(text: str) -> Said:
    """What a page has said.

    Raises:
        ConsoleError: it is not JSON, of no known type, or a field is missing or out of its range.
    """
    try:
        said = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ConsoleError(f"message is not JSON ({error}): send an object with a type") from error
    if not isinstance(said, dict):
        raise ConsoleError(f"message is a {type(said).__name__}: send an object with a type")
    kind = said.get("type")
    if kind == "hello":
        return Hello(_string(said, "token", MAX_TOKEN_LENGTH, ""))
    if kind == "ready":
        return Ready(_choice(said, "view", VIEWS))
    if kind == "probe":
        return Probe(_stamp_ns(said), _pixel(said.get("x"), "x"), _pixel(said.get("y"), "y"))
    make = _ACTIONS.get(kind) if isinstance(kind, str) else None
    if make is None:
        known = ", ".join(("hello", "ready", "probe", *_ACTIONS))
        raise ConsoleError(f"message has type {str(kind)[:40]!r}: known are {known}")
    return Ask(_whole(said, "ask", 0, _MAX_COUNT), make(said))


def _prompt(said: Mapping[str, Any]) -> PromptRequest:
    points = said.get("points", [])
    if not isinstance(points, list) or len(points) > MAX_POINTS:
        raise ConsoleError(f"points must be a list of at most {MAX_POINTS}")
    box = said.get("box")
    if box is not None and (not isinstance(box, list) or len(box) != 4):
        raise ConsoleError("box must be a list of four numbers: x_min, y_min, x_max, y_max in pixels")
    request = PromptRequest(
        stamp_ns=_stamp_ns(said),
        object_id=_whole(said, "object_id", 0, MAX_OBJECT_ID, 0),
        label=_string(said, "label", MAX_LABEL_LENGTH, ""),
        points=tuple(_point(entry) for entry in points),
        box=None if box is None else tuple(_pixel(edge, "box") for edge in box),  # type: ignore[arg-type]
        text=_string(said, "text", MAX_TEXT_LENGTH, "").strip(),
        region=_whole(said, "region", 0, _MAX_COUNT, 0),
    )
    ways = (bool(request.points or request.box), bool(request.text), bool(request.region))
    if sum(ways) != 1:
        raise ConsoleError("a prompt has points or a box, or words, or a region: send exactly one of them")
    return request


def _point(entry: Any) -> tuple[float, float, int]:
    if not isinstance(entry, list) or len(entry) != 3:
        raise ConsoleError("each of points must be a list of x, y and 1 (on the object) or 0 (beside it)")
    x, y, on_object = entry
    if type(on_object) is not int or on_object not in (0, 1):
        raise ConsoleError(f"a point is marked {str(on_object)[:40]!r}: 1 is on the object, 0 beside it")
    return _pixel(x, "points"), _pixel(y, "points"), on_object


def _pixel(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > _FARTHEST_PX:
        raise ConsoleError(f"{name} has {str(value)[:40]!r}: give numbers in pixels of the picture")
    return float(value)


def _stamp_ns(said: Mapping[str, Any]) -> int:
    # As text, since JavaScript's numbers are exact to 2^53 only, which today's stamps exceed.
    text = said.get("stamp", "0")
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 19:
        raise ConsoleError(f"stamp is {str(text)[:40]!r}: give the picture's own stamp back, as it came")
    stamp_ns = int(text)
    if stamp_ns > _MAX_STAMP_NS:
        raise ConsoleError(f"stamp is {stamp_ns}: give the picture's own stamp back, as it came")
    return stamp_ns


def _whole(said: Mapping[str, Any], name: str, low: int, high: int, default: int | None = None) -> int:
    value = said.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ConsoleError(f"{name} is {str(value)[:40]!r}: give a whole number from {low} to {high}")
    return value


def _string(said: Mapping[str, Any], name: str, longest: int, default: str | None = None) -> str:
    value = said.get(name, default)
    if not isinstance(value, str) or len(value) > longest:
        raise ConsoleError(f"{name} must be text of at most {longest} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ConsoleError(f"{name} has half a character (a lone surrogate): send valid Unicode")
    return value


def _choice(said: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    value = said.get(name)
    if value not in choices:
        raise ConsoleError(f"{name} is {str(value)[:40]!r}: choose one of {', '.join(choices)}")
    return str(value)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


_ACTIONS: dict[str, Callable[[Mapping[str, Any]], Action]] = {
    "prompt": _prompt,
    "rename": lambda said: Rename(
        _whole(said, "object_id", 1, MAX_OBJECT_ID), _string(said, "label", MAX_LABEL_LENGTH)
    ),
    "remove": lambda said: Remove(_whole(said, "object_id", 1, MAX_OBJECT_ID)),
    "reset": lambda _: Reset(),
    "everything": lambda _: Everything(),
}
