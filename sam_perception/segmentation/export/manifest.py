"""What lies in an exported folder: `export.json`, read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Union

from sam_perception.errors import CheckpointError
from sam_perception.files import parsed_json

MANIFEST, CONSTANTS = "export.json", "constants.safetensors"
FORMAT = 1

PARTS = ("image_encoder", "memory_attention", "prompt_encoder", "mask_decoder", "memory_encoder")

# A dimension is a number, or a letter that stands for one of each call: B pictures, N objects, M memories and
# P object pointers of each, C clicks; with "+1" behind it one more.
Dimension = Union[int, str]
Shape = tuple[Dimension, ...]


@dataclass(frozen=True)
class PartFile:
    """One exported part."""

    file: str
    sha256: str
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    max_abs_difference: float  # from torch in float32, over all outputs, when it was exported


@dataclass(frozen=True)
class Choice:
    """Which of an object's masks counts: SAM 2's own settings."""

    several: bool  # several masks for an ambiguous prompt
    several_when_tracking: bool
    least_clicks: int
    most_clicks: int
    by_stability: bool  # the single mask gives way where its edge is not sure
    stability_delta: float
    stability_threshold: float


@dataclass(frozen=True)
class ExportManifest:
    """An exported model."""

    format: int
    model: str
    size: int  # side of the square input in pixels
    feature_size: tuple[int, int]  # h, w of the coarsest features
    hidden: int  # c
    memory_channels: int
    memory_frames: int  # recent frames attended to
    pointer_frames: int  # recent frames whose object pointers are attended to
    batch: int  # objects per call; 0: any number
    memories: int  # of one object: as many as SAM 2's own memory has; always so many where the batch is static
    pointers: int  # likewise object pointers
    number_format: str  # fp32, fp16 or int8
    choice: Choice
    parts: Mapping[str, PartFile]
    versions: Mapping[str, str]  # of what made it

    def write(self, folder: Path) -> None:
        """Write `export.json`."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> ExportManifest:
    """The manifest of an exported folder.

    Raises:
        CheckpointError: not there, not JSON, of another format, or incomplete.
    """
    file = folder / MANIFEST
    try:
        entries = parsed_json(file.read_text(encoding="utf-8"))
        if entries["format"] != FORMAT:
            raise CheckpointError(
                f"{file} is of format {entries['format']}, wanted {FORMAT}: export again with this version"
            )
        parts = {name: _part(part) for name, part in entries["parts"].items()}
        known = {**entries, "parts": parts, "choice": Choice(**entries["choice"])}
        return ExportManifest(**{**known, "feature_size": tuple(entries["feature_size"])})
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror}): export the model again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{file} is not a manifest ({type(error).__name__}: {error}): export the model again"
        ) from error


def _part(entries: Mapping[str, Any]) -> PartFile:
    shapes = {key: {name: tuple(shape) for name, shape in entries[key].items()} for key in ("inputs", "outputs")}
    return PartFile(**{**entries, **shapes})
