"""Somebody who looks at the clock while a frame is in work: a frozen GPU call raises nothing."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sam_perception.ros.diagnosis import ERROR, OK, Status
from sam_perception.ros.settings import NodeConfig

EXIT_FROZEN = 3  # the process's exit code where `watchdog_exit` ends it

_LOG_AGAIN_S = 60.0  # a stack is many lines
_FIRST = 10.0  # times the limit until one frame has come through: kernels are compiled, memory is set aside
_LOOKS = 4  # per limit
_LONGEST_LOOK_S = 1.0


@dataclass(frozen=True)
class Work:
    """What the inference thread is doing."""

    stage: str
    since_s: float  # monotonic clock, when this frame was begun
    thread_id: int | None
    first: bool  # no frame has come through yet


class Watchdog:
    """A thread that sees a frame that stays in work for longer than `watchdog_s`.

    It says so in diagnostics and, now and then, in the log, with the stack of the thread that hangs.
    With `watchdog_exit` it ends the process, for a launch file to start it again; a thread of C's ends
    it where the frozen call keeps Python itself from going on.

    Args:
        work: what is in work now; None between frames.
        config: the settings in force.
        logger: rclpy's.
        end: ends the process at once with a code.
        clock: seconds that never go back, the same as `Work.since_s`.
    """

    def __init__(
        self,
        work: Callable[[], Work | None],
        config: Callable[[], NodeConfig],
        logger: Any,
        end: Callable[[int], object] = os._exit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work, self._config, self._logger, self._end, self._clock = work, config, logger, end, clock
        self._logged_s = -_LOG_AGAIN_S
        self._overdue: Work | None = None
        self._armed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sam_perception watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no longer."""
        self._stop.set()
        self._thread.join(2 * _LONGEST_LOOK_S)
        self._disarm()

    def status(self) -> Status:
        """For diagnostics."""
        limit_s, work = self._config().watchdog_s, self._work()
        values = {"limit s": f"{limit_s:g}" if limit_s else "none"}
        if work is None:
            return Status("watchdog", OK, "no frame is in work", values)
        age_s = self._clock() - work.since_s
        values |= {"stage": work.stage, "in work for s": f"{age_s:.1f}"}
        if self._late(work):
            return Status("watchdog", ERROR, self._complaint(work), values)
        return Status("watchdog", OK, f"{work.stage} is at work", values)

    def look(self) -> None:
        """Look once."""
        work = self._work()
        if work is None or not self._late(work):
            if self._overdue is not None:
                self._logger.warning(f"inference goes on after {self._clock() - self._overdue.since_s:.1f} s")
            self._overdue = None
            return
        self._overdue = work
        if self._clock() - self._logged_s >= _LOG_AGAIN_S:
            self._logged_s = self._clock()
            self._logger.error(f"{self._complaint(work)}\n{_stack(work.thread_id)}")
        if self._config().watchdog_exit:
            self._logger.fatal(f"watchdog_exit is set: ending with code {EXIT_FROZEN}, the objects are in their file")
            sys.stderr.flush()
            self._end(EXIT_FROZEN)

    def _late(self, work: Work) -> bool:
        limit_s = self._config().watchdog_s * (_FIRST if work.first else 1.0)
        return 0 < limit_s < self._clock() - work.since_s

    def _complaint(self, work: Work) -> str:
        return (
            f"{work.stage} has been at work on one frame for {self._clock() - work.since_s:.1f} s (watchdog_s is "
            f"{self._config().watchdog_s:g}): the device hangs or is far too slow; the log has the stack, look at "
            "`nvidia-smi` and `dmesg`, and restart the node (watchdog_exit:=true with respawn does so)"
        )

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s()):
            self._arm()
            self.look()

    def _pause_s(self) -> float:
        limit_s = self._config().watchdog_s
        return min(limit_s / _LOOKS, _LONGEST_LOOK_S) if limit_s else _LONGEST_LOOK_S

    def _arm(self) -> None:
        """Let C's thread end the process if this one does not come here again in time."""
        config = self._config()
        if config.watchdog_exit and config.watchdog_s:
            faulthandler.dump_traceback_later(_FIRST * config.watchdog_s, exit=True, file=sys.__stderr__ or sys.stderr)
            self._armed = True
        else:
            self._disarm()

    def _disarm(self) -> None:
        if self._armed:
            faulthandler.cancel_dump_traceback_later()
            self._armed = False


def _stack(thread_id: int | None) -> str:
    frame = sys._current_frames().get(thread_id) if thread_id is not None else None
    return "".join(traceback.format_stack(frame)) if frame is not None else "(its thread has ended)"
