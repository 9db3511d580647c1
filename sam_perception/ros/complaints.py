"""What could not be used: counted always, logged now and then, so that no topic can fill a disk with lines."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from sam_perception.errors import PerceptionError, StageFailed
from sam_perception.ros.health import Health

LOG_AGAIN_S = 5.0  # the same kind of trouble is logged this often at most
_NOTES = 10  # in that time


class Complaints:
    """Where refusals go, from any thread.

    Args:
        health: counts them.
        logger: rclpy's.
        clock: seconds that never go back.
    """

    def __init__(self, health: Health, logger: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._health, self._logger, self._clock = health, logger, clock
        self._lock = threading.Lock()
        self._logged_s: dict[str, float] = {}  # by kind, of which there are few
        self._unlogged: Counter[str] = Counter()
        self._noted_s: list[float] = []

    def refuse(self, error: Exception) -> None:
        """Count what went wrong, and log it unless its kind was logged just now.

        Errors of this package are one line. Others, and stages that failed, are defects of the
        program: their traceback is logged.
        """
        self._health.refused(error)
        kind = error.kind if isinstance(error, PerceptionError) else type(error).__name__
        again = self._log_now(kind)
        if again is None:
            return
        more = f" ({again} more of this kind since it was logged last)" if again else ""
        if isinstance(error, PerceptionError) and not isinstance(error, StageFailed):
            self._logger.warning(f"{kind}: {error}{more}")
        else:
            trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            self._logger.error(f"{trace or kind}{more}")

    def note(self, text: str) -> None:
        """Show people something that is no trouble; logged unless many were logged just now."""
        self._health.noted(text)
        with self._lock:
            now_s = self._clock()
            self._noted_s = [moment for moment in self._noted_s if now_s - moment < LOG_AGAIN_S]
            if len(self._noted_s) >= _NOTES:
                return
            self._noted_s.append(now_s)
        self._logger.info(text)

    def _log_now(self, kind: str) -> int | None:
        """How many of the kind went unlogged before this one, or None where this one is to go unlogged too."""
        with self._lock:
            now_s = self._clock()
            if now_s - self._logged_s.get(kind, -LOG_AGAIN_S) < LOG_AGAIN_S:
                self._unlogged[kind] += 1
                return None
            self._logged_s[kind] = now_s
            return self._unlogged.pop(kind, 0)
