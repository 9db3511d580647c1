"""Where the newest picture is asked to be cut up, and where the answer is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout  # the builtin one only since Python 3.11

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import PerceptionError
from sam_perception.frame import RgbdFrame
from sam_perception.prompts import MaskPrompt
from sam_perception.scene import Regions, Scene

Chore = Generator[object, None, None]
Search = Callable[[RgbdFrame], Generator[float, None, Regions]]


class RegionDesk:
    """Takes requests from any thread; the thread that does inference works them off between frames.

    A frame waits for one batch of points at most. Who asks while a search is under way gets its answer.

    Args:
        newest: returns the newest frame that was processed and its scene, if there is one.
        search: cuts a frame up, in steps.
        take_up: leaves steps to the thread that does inference.
    """

    def __init__(
        self, newest: Callable[[], tuple[RgbdFrame, Scene] | None], search: Search, take_up: Callable[[Chore], None]
    ) -> None:
        self._newest, self._search, self._take_up = newest, search, take_up
        self._lock = threading.Lock()
        self._under_way: Future[Regions] | None = None
        self._last: Regions | None = None
        self._seen: tuple[RgbdFrame, Scene] | None = None  # the newest answer's picture

    @property
    def last(self) -> Regions | None:
        """The newest answer."""
        with self._lock:
            return self._last

    def ask(self) -> Future[Regions]:
        """The newest picture's regions, when they are there.

        The future raises PerceptionError where there is no picture yet, where the model cannot do it, or
        where the node stops before it is done, or for whatever else goes wrong on the way.
        """
        with self._lock:
            if self._under_way is not None:
                return self._under_way
            future: Future[Regions] = Future()
            seen = self._newest()
            if seen is None:
                future.set_exception(
                    PerceptionError(
                        "there is no picture yet to cut up: activate the node and wait for the first pair of images"
                    )
                )
                return future
            self._under_way = future
        chore = self._steps(*seen, future)
        next(chore)  # so that it can also be closed before its first step
        self._take_up(chore)
        return future

    def wait(self, timeout_s: float) -> Regions:
        """The same, waited for.

        Raises:
            PerceptionError: as above, or it takes longer.
        """
        try:
            return self.ask().result(timeout_s)
        except FutureTimeout:
            raise PerceptionError(
                f"the picture was not cut up within {timeout_s:g} s: set everything.points_per_side lower, or use a GPU"
            ) from None

    def prompt(self, region_id: int, object_id: int, label: str) -> MaskPrompt:
        """A region of the newest answer as a prompt for the picture that it belongs to.

        Raises:
            UnknownObject: there is no such region.
            PerceptionError: no picture was cut up yet.
        """
        last = self.last
        if last is None:
            raise PerceptionError(f"no region {region_id}: no picture was cut up yet; call ~/segment_everything first")
        mask = last.region(region_id).mask
        return MaskPrompt(object_id, mask, label, last.stamp_ns)

    def picture(self, regions: Regions) -> tuple[RgbdFrame, Scene] | None:
        """The frame that was cut up into these, and its scene; None for an answer that is not the newest."""
        with self._lock:
            return self._seen if regions is self._last else None

    def objects_of(self, regions: Regions) -> tuple[int, ...]:
        """Per region the object that most of it is, and that is mostly it: IoU above a half in their own picture.

        0 where there is none; zeros for an answer that is not the newest.
        """
        with self._lock:
            seen = self._seen if regions is self._last else None
        tracks = [] if seen is None else [track for track in seen[1].objects if track.mask.any()]
        return tuple(next((t.id for t in tracks if _iou(region.mask, t.mask) > 0.5), 0) for region in regions.regions)

    def _steps(self, frame: RgbdFrame, scene: Scene, future: Future[Regions]) -> Chore:
        error: Exception = PerceptionError("the node stopped before the picture was cut up: ask again when it works")
        regions: Regions | None = None
        try:
            yield None
            regions = yield from self._search(frame)
        except PerceptionError as seen:  # the one who asked gets it
            error = seen
        except Exception as seen:
            error = PerceptionError(f"the picture could not be cut up: {type(seen).__name__}: {seen}")
            raise  # it is in the log, too
        finally:
            with self._lock:
                self._under_way = None
                if regions is not None:
                    self._last, self._seen = regions, (frame, scene)
            if regions is None:
                future.set_exception(error)
            else:
                future.set_result(regions)


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(a & b)) / max(int(np.count_nonzero(a | b)), 1)
