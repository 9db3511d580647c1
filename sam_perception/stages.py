"""The stages of one frame's work: which one is going on, how long each took, and which of them failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

StageError = Callable[[str, Exception], None]


class Stages:
    """One frame's stages, one after the other; `current` may be read by another thread.

    Args:
        on_error: called with the stage's name and what it raised where an optional one fails, after
            which the work goes on without it; None: the error is raised.
    """

    def __init__(self, on_error: StageError | None = None) -> None:
        self._on_error = on_error
        self.current = ""  # "" between stages
        self.timings_ms: dict[str, float] = {}
        self.failed: set[str] = set()

    @contextmanager
    def required(self, name: str) -> Iterator[None]:
        """A stage without which there is nothing to say about the frame."""
        self.current, start_s = name, time.perf_counter()
        try:
            yield
        finally:
            self.current = ""
        self.timings_ms[name] = (time.perf_counter() - start_s) * 1e3

    @contextmanager
    def optional(self, name: str) -> Iterator[None]:
        """A stage whose failure takes a part of the answer away and leaves the rest standing."""
        try:
            with self.required(name):
                yield
        except Exception as error:
            if self._on_error is None:
                raise
            self.failed.add(name)
            self._on_error(name, error)
