"""How a person or a detector points at an object.

Coordinates are pixels of the colour image, x to the right and y down, integer at pixel centres.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sam_perception.errors import EmptyPrompt, PromptError, PromptOutsideImage

MAX_OBJECT_ID = 65535  # ids are pixel values of the mono16 mask; 0 is background

MAX_LABEL_LENGTH = 128

# Objects that detectors find are numbered from here, so that they take no id that a person is about to give.
FOUND_IDS_FROM = 1001
MAX_TEXT_LENGTH = 200  # characters; detectors read a few dozen words at most

FOREGROUND = 1
BACKGROUND = 0

ANSWERS = 3  # of the model to a single click


def check_object_id(object_id: int) -> int:
    """Return `object_id` as an int.

    Raises:
        PromptError: not a whole number from 1 to 65535.
    """
    if isinstance(object_id, (bool, np.bool_)) or not isinstance(object_id, (int, np.integer)):
        raise PromptError(f"object id is {object_id!r}: pass a whole number from 1 to {MAX_OBJECT_ID}")
    if not 1 <= object_id <= MAX_OBJECT_ID:
        raise PromptError(f"object id is {object_id}: ids go from 1 to {MAX_OBJECT_ID} (0 is the background)")
    return int(object_id)


def check_label(label: str) -> str:
    """Return an object's name without blanks around it; an empty one means none.

    Raises:
        PromptError: longer than 128 characters, or with characters that cannot be shown.
    """
    name = label.strip()
    if len(name) > MAX_LABEL_LENGTH:
        raise PromptError(f"name has {len(name)} characters: use at most {MAX_LABEL_LENGTH}")
    if not name.isprintable():
        raise PromptError(f"name is {name!r}: use characters that can be shown, on one line")
    return name


def _check_common(object_id: int, stamp_ns: int | None) -> int:
    if stamp_ns is not None and stamp_ns < 0:
        raise PromptError(f"prompt stamp is {stamp_ns} ns: pass the stamp of the image that was clicked, or None")
    return check_object_id(object_id)


def _points(values: ArrayLike) -> NDArray[np.float32]:
    points = np.array(values, dtype=np.float32)
    points = points.reshape(0, 2) if points.size == 0 else np.atleast_2d(points)
    if points.ndim != 2 or points.shape[1] != 2:
        raise PromptError(f"points have shape {points.shape}: pass (P, 2), one x y pair per point")
    if not np.isfinite(points).all():
        raise PromptError(f"points are not finite: {points.tolist()}")
    points.flags.writeable = False
    return points


def _labels(values: ArrayLike | None, count: int) -> NDArray[np.int32]:
    labels = np.full(count, FOREGROUND, np.int32) if values is None else np.array(values, dtype=np.int32).reshape(-1)
    if labels.shape != (count,):
        raise PromptError(f"{count} points have {labels.size} labels: pass one label per point")
    if not np.isin(labels, (BACKGROUND, FOREGROUND)).all():
        raise PromptError(f"point labels are {labels.tolist()}: 1 is foreground, 0 is background")
    labels.flags.writeable = False
    return labels


def _check_choose(choose: int, labels: NDArray[np.int32]) -> int:
    if isinstance(choose, (bool, np.bool_)) or not isinstance(choose, (int, np.integer)) or not 0 <= choose <= ANSWERS:
        raise PromptError(f"choose is {choose!r}: pass 0 for the surest answer, or 1 to {ANSWERS}")
    if choose and labels.tolist() != [FOREGROUND]:
        raise PromptError(
            f"choose is {choose} with point labels {labels.tolist()}: only a single click on the object has "
            f"{ANSWERS} answers; leave the other points or choose out"
        )
    return int(choose)


def _check_points_inside(points: NDArray[np.float32], width: int, height: int) -> None:
    # A pixel covers half a pixel on each side of its centre.
    inside = (points >= -0.5).all(axis=1) & (points[:, 0] <= width - 0.5) & (points[:, 1] <= height - 0.5)
    if not inside.all():
        raise PromptOutsideImage(
            f"points {points[~inside].tolist()} lie outside the {width} x {height} image: "
            "click inside the picture, in its own pixels"
        )


@dataclass(frozen=True, eq=False)
class PointPrompt:
    """Clicks on an object (label 1) and beside it (label 0).

    A single click is ambiguous, and the model has three answers to it, often the part, the object and the
    whole: with `choose` 1 to 3 that one is taken, whatever was said of the object in that picture before.

    Raises:
        PromptError: wrong shapes, labels other than 0 and 1, values not finite, id out of range, or `choose`
            with more than one click or one beside the object.
        EmptyPrompt: no point.
    """

    object_id: int
    points: NDArray[np.float32]  # (P, 2), x y in pixels
    labels: NDArray[np.int32] = None  # type: ignore[assignment]  # (P,); all foreground when left out
    label: str = ""  # the object's name
    stamp_ns: int | None = None  # of the image that was clicked; None: the next frame
    choose: int = 0  # 0: the answer that the model is surest of

    def __post_init__(self) -> None:
        object.__setattr__(self, "object_id", _check_common(self.object_id, self.stamp_ns))
        points = _points(self.points)
        if len(points) == 0:
            raise EmptyPrompt("a point prompt has no points: pass at least one x y pair")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "labels", _labels(self.labels, len(points)))
        object.__setattr__(self, "choose", _check_choose(self.choose, self.labels))

    def check_inside(self, width: int, height: int) -> None:
        """Raise PromptOutsideImage where a point is not on an image of `width` x `height` pixels."""
        _check_points_inside(self.points, width, height)


@dataclass(frozen=True, eq=False)
class BoxPrompt:
    """A box around an object, and clicks that refine it if there are any.

    Raises:
        PromptError: not four finite numbers, wrong points or labels, id out of range.
        EmptyPrompt: the box has no width or no height.
    """

    object_id: int
    box: tuple[float, float, float, float]  # x_min, y_min, x_max, y_max in pixels
    points: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))  # (P, 2)
    labels: NDArray[np.int32] = None  # type: ignore[assignment]  # (P,)
    label: str = ""
    stamp_ns: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "object_id", _check_common(self.object_id, self.stamp_ns))
        box = np.array(self.box, dtype=np.float64).reshape(-1)
        if box.shape != (4,) or not np.isfinite(box).all():
            raise PromptError(f"box is {self.box!r}: pass four finite numbers (x_min, y_min, x_max, y_max)")
        if box[2] <= box[0] or box[3] <= box[1]:
            raise EmptyPrompt(
                f"box {tuple(box.tolist())} is empty: x_max must exceed x_min and y_max must exceed y_min"
            )
        object.__setattr__(self, "box", tuple(box.tolist()))
        points = _points(self.points)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "labels", _labels(self.labels, len(points)))

    def check_inside(self, width: int, height: int) -> None:
        """Raise PromptOutsideImage where the box or a point leaves an image of `width` x `height` pixels."""
        x0, y0, x1, y1 = self.box
        # Detectors give edges from 0 to width, clicks centres from 0 to width - 1: both are inside.
        if x0 < -0.5 or y0 < -0.5 or x1 > width or y1 > height:
            raise PromptOutsideImage(
                f"box {self.box} leaves the {width} x {height} image: clip it to the picture that was looked at"
            )
        _check_points_inside(self.points, width, height)


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """An object's pixels, from a person or another segmenter.

    Raises:
        PromptError: not a two-dimensional mask, id out of range.
        EmptyPrompt: no pixel is set.
    """

    object_id: int
    mask: NDArray[np.bool_]  # (H, W), the size of the colour image
    label: str = ""
    stamp_ns: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "object_id", _check_common(self.object_id, self.stamp_ns))
        mask = np.asarray(self.mask)
        if mask.ndim != 2:
            raise PromptError(f"mask has shape {mask.shape}: pass (H, W), true on the object")
        mask = mask.astype(bool)  # a copy, so that the caller's array may change
        if not mask.any():
            raise EmptyPrompt(f"the {mask.shape[1]} x {mask.shape[0]} mask has no pixel set: mark the object")
        mask.flags.writeable = False
        object.__setattr__(self, "mask", mask)

    def check_inside(self, width: int, height: int) -> None:
        """Raise PromptOutsideImage where the mask has another size than `width` x `height` pixels."""
        if self.mask.shape != (height, width):
            raise PromptOutsideImage(
                f"mask is {self.mask.shape[1]} x {self.mask.shape[0]}, the image {width} x {height} (W x H): "
                "draw the mask on the colour image"
            )


@dataclass(frozen=True)
class TextPrompt:
    """What to look for, in words; a detector finds it, and finds it again after it was lost.

    The first instance becomes object `object_id`; further ones get ids from `FOUND_IDS_FROM` up.

    Raises:
        PromptError: no words, an id or a count out of range, a negative stamp.
    """

    object_id: int
    text: str  # "a red mug": one thing, without a full stop
    max_instances: int = 1  # surest first
    label: str = ""  # the objects' name; the words where it is left out
    stamp_ns: int | None = None  # of the image that is meant; None: the next frame

    def __post_init__(self) -> None:
        object.__setattr__(self, "object_id", _check_common(self.object_id, self.stamp_ns))
        if not isinstance(self.text, str):
            raise PromptError(f"text is {self.text!r}: say what to look for, as in 'a red mug'")
        text = " ".join(self.text.split()).strip(" .;,")
        if not any(letter.isalnum() for letter in text):
            raise PromptError(f"text is {self.text!r}, which says nothing: write what to look for, as in 'a red mug'")
        if not text.isprintable():
            raise PromptError(f"text is {text!r}: use characters that can be shown, on one line")
        if len(text) > MAX_TEXT_LENGTH:
            raise PromptError(f"text has {len(text)} characters, at most {MAX_TEXT_LENGTH}: describe one thing shortly")
        if type(self.max_instances) is not int or not 1 <= self.max_instances <= MAX_OBJECT_ID:
            raise PromptError(f"max_instances is {self.max_instances!r}: pass a whole number from 1")
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "label", self.label or text)

    def check_inside(self, width: int, height: int) -> None:
        """Words fit every picture."""


Prompt = Union[PointPrompt, BoxPrompt, MaskPrompt]  # points at pixels, which is what a tracker needs
AnyPrompt = Union[Prompt, TextPrompt]


def with_object_id(prompt: Prompt, object_id: int) -> Prompt:
    """The same prompt for another object."""
    return replace(prompt, object_id=object_id)
