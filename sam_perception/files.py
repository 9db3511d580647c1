"""Files that are there as a whole or not at all, and texts that others wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place when the block ends well.

    Whoever kills the process half-way leaves the file that was there before; where the block raises,
    nothing is left behind. The name keeps its ending, by which some libraries choose a format.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = path.with_name(f".part-{path.name}")
    try:
        yield unfinished
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())  # else a power cut may leave the new name with the old disk's nothing
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


def parsed_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: it is none, or nested too deeply, or not UTF-8.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parsed_yaml(text: str) -> Any:
    """What a YAML text says, in plain values.

    Raises:
        ValueError: it is none. PyYAML lets through whatever its parts raise: an impossible date, a
            number that is none, too many brackets.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except Exception as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
