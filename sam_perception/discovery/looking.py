"""Running a slow model on a stream: at once, or in a thread beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from sam_perception.detections import Detection
from sam_perception.frame import RgbdFrame

Subject = TypeVar("Subject")


@dataclass(frozen=True, eq=False)
class Answer(Generic[Subject]):
    """What a model said about one frame."""

    subject: Subject  # what was asked for
    frame: RgbdFrame
    detections: list[Detection]
    took_ms: float


class Looker(Generic[Subject]):
    """Shows frames to a model, one at a time.

    At once, the answer is there when `look` returns, and the same frames give the same answers at the same
    places of the stream. In the background, it comes some frames later, and the stream goes on.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[Answer[Subject]] | None = None

    def go_to_background(self) -> None:
        """From now on, answers come later."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="sam_perception detector")

    @property
    def busy(self) -> bool:
        """Whether an answer is still to be collected."""
        return self._running is not None

    def look(self, subject: Subject, frame: RgbdFrame, model: Callable[[], list[Detection]]) -> None:
        """Ask `model` about a frame; not while busy."""

        def run() -> Answer[Subject]:
            start = time.perf_counter()
            found = model()
            return Answer(subject, frame, found, (time.perf_counter() - start) * 1e3)

        if self._pool is not None:
            self._running = self._pool.submit(run)
            return
        answer = run()  # before anything is noted: what the model raises leaves nothing behind
        self._running = Future()
        self._running.set_result(answer)

    def collect(self) -> Answer[Subject] | None:
        """The answer, once, if it is there; what the model raised is raised."""
        if self._running is None or not self._running.done():
            return None
        done, self._running = self._running, None
        return done.result()

    def drop(self) -> None:
        """Take no interest in what is running."""
        if self._running is not None:
            self._running.cancel()
            self._running = None
