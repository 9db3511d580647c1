"""Prompts for the first frame, from what is known about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import SourceError
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt
from sam_perception.sources.folder import FolderSource
from sam_perception.sources.prompt_file import ScheduledPrompt
from sam_perception.sources.source import FrameSource

_TOO_SMALL_PX = 16


class LabelledTruth(Protocol):
    """A frame's truth as far as it is needed here."""

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids, in the order of `labels`."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What the objects are."""

    def mask(self, object_id: int) -> NDArray[np.bool_]:
        """(H, W) visible pixels."""


def prompts_of_truth(truth: LabelledTruth) -> Iterator[ScheduledPrompt]:
    """A tight box around each object that is in sight."""
    for object_id, label in zip(truth.object_ids, truth.labels, strict=True):
        rows, columns = np.nonzero(truth.mask(object_id))
        if len(rows) >= _TOO_SMALL_PX:
            box = (float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max()))
            yield ScheduledPrompt(BoxPrompt(object_id, box, label=label), where=f"box around {label}")


def prompts_of_labels(source: FrameSource, path: Path) -> Iterator[ScheduledPrompt]:
    """The mask of each id in a folder's first label picture; without one, a click at the picture's middle.

    Raises:
        SourceError: the source has no frame.
    """
    if (path / "labels").is_dir():
        labels = FolderSource(path).labels(0)
        if labels is not None:
            for value in np.unique(labels[labels > 0]).tolist():
                yield ScheduledPrompt(MaskPrompt(value, labels == value, f"label {value}"), where=f"label {value}")
            return
    first = next(iter(source), None)
    if first is None:
        raise SourceError(f"{source.description}: no frame could be used")
    middle = np.array([[first.width / 2, first.height / 2]], np.float32)
    yield ScheduledPrompt(PointPrompt(1, middle, label="middle"), where="click at the picture's middle")
