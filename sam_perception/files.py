"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
