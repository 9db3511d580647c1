"""Keeping a rate: what is done less often, or with less, when frames take longer than they may.

Rungs of a ladder, of which each keeps what the ones before it save:

    0  everything, every frame
    1  secondary outputs with fewer pixels: obstacles, scene points and grasps look at half as many rows and columns
    2  secondary outputs in every third frame
    3  objects in two turns: half of them in each frame
    4  objects in three turns

Secondary is all but objects, their mask and their points. Rungs that would save nothing, as nobody listens to
secondary outputs or there are too few objects, are passed over.

One rung is taken after some frames that took too long, one given back after a while of frames that left
room. A rung that has to be taken again soon after it was given back is held twice as long the next time, so
that a load between two rungs does not make the node go up and down all the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sam_perception.config import PerceptionConfig

RUNGS = (
    "everything",
    "secondary outputs with fewer pixels",
    "secondary outputs with fewer pixels, in every third frame",
    "secondary outputs in every third frame, objects in two turns",
    "secondary outputs in every third frame, objects in three turns",
)
TOP = len(RUNGS) - 1
_TURNS = (1, 1, 1, 2, 3)  # by rung
_FEWER_PIXELS, _SELDOM = 1, 2  # rungs
_SECONDARY_EVERY = 3  # frames
_HURRY = 6  # frames looked at before a rung is taken; the slowest of them does not count
_COARSER = 2  # times the pixel step
_MOST_STEP = 32  # of the setting
_PATIENCE = 30  # frames looked at before one is given back
_MAX_PATIENCE = 960
_ROOM = 0.7  # of the time there is: with less needed, a rung may be given back
_RELAPSE = 2  # times the patience: a rung taken again within so many frames was given back too early


@dataclass(frozen=True)
class Plan:
    """What to do with the next frame."""

    rung: int = 0
    secondary: bool = True  # outputs beyond objects and their points are made
    fewer_pixels: bool = False
    only: tuple[int, ...] | None = None  # objects whose turn it is; None: everyone's


@dataclass(frozen=True)
class DeadlineReport:
    """For diagnostics."""

    target_rate_hz: float  # 0: there is no deadline
    rung: int
    median_ms: float  # work per frame, over the last frames on this rung; NaN before the first
    changes: int  # of rung, so far

    @property
    def kept(self) -> bool:
        """Whether frames take no longer than they may, as far as is known."""
        return not self.target_rate_hz or not self.median_ms > 1e3 / self.target_rate_hz


class Deadline:
    """Decides, frame by frame, how much is done; used by one thread.

    Args:
        target_rate_hz: frames per second to be kept; 0: no deadline, everything is always done.
    """

    def __init__(self, target_rate_hz: float) -> None:
        self._target_hz = target_rate_hz
        self._rung, self._changes, self._frame = 0, 0, 0
        self._spent_ms: deque[float] = deque(maxlen=_PATIENCE)
        self._on_rung = 0  # frames since the last change
        self._patience = _PATIENCE
        self._went_down = False  # the last change gave a rung back
        self._objects, self._secondary_wanted = 0, True
        self._coarse: tuple[PerceptionConfig, PerceptionConfig] | None = None

    @property
    def target_rate_hz(self) -> float:
        """Frames per second to be kept; 0: none."""
        return self._target_hz

    def plan(self, object_ids: Sequence[int], *, secondary_wanted: bool = True) -> Plan:
        """What to do with the next frame, in which these objects are tracked.

        Args:
            object_ids: of all tracked objects.
            secondary_wanted: somebody listens to secondary outputs.
        """
        if not self._target_hz:
            return Plan()
        self._objects, self._secondary_wanted = len(object_ids), secondary_wanted
        frame, self._frame = self._frame, self._frame + 1
        turns, ids = min(_TURNS[self._rung], len(object_ids)), sorted(object_ids)
        return Plan(
            self._rung,
            secondary=self._rung < _SELDOM or frame % _SECONDARY_EVERY == 0,
            fewer_pixels=self._rung >= _FEWER_PIXELS,
            only=None if turns < 2 else tuple(ids[frame % turns :: turns]),
        )

    def settings(self, config: PerceptionConfig, plan: Plan) -> PerceptionConfig:
        """`config` as the plan has it; the same object for the same `config`, so that a change can be told by it."""
        if not plan.fewer_pixels:
            return config
        if self._coarse is None or self._coarse[0] is not config:
            step = min(_COARSER * config.navigation.pixel_step, _MOST_STEP)
            self._coarse = (config, replace(config, navigation=replace(config.navigation, pixel_step=step)))
        return self._coarse[1]

    def spent(self, work_ms: float) -> str:
        """Take note of what a frame took, from taking it up to having published it; what changes, or ""."""
        if not self._target_hz:
            return ""
        self._spent_ms.append(work_ms)
        self._on_rung += 1
        period_ms, recent = 1e3 / self._target_hz, list(self._spent_ms)
        if len(recent) >= _HURRY and _typical_ms(recent) > period_ms:
            return self._change(self._next(1), _typical_ms(recent), period_ms)
        # Every third frame may do more: it is those that must leave room, hence the upper end.
        rested = len(recent) == _PATIENCE and self._on_rung >= self._patience
        if rested and float(np.percentile(recent, 90)) < _ROOM * period_ms:
            return self._change(self._next(-1), float(np.median(recent)), period_ms)
        return ""

    def report(self) -> DeadlineReport:
        """How it stands; from any thread."""
        spent = list(self._spent_ms)
        return DeadlineReport(
            self._target_hz, self._rung, float(np.median(spent)) if spent else float("nan"), self._changes
        )

    def _next(self, direction: int) -> int:
        """The next rung up (1) or down (-1) that changes anything, or the present one."""
        rung = self._rung + direction
        while 0 < rung <= TOP and not self._useful(rung):
            rung += direction
        return rung if 0 <= rung <= TOP else self._rung

    def _useful(self, rung: int) -> bool:
        turns = _TURNS[rung]
        return self._secondary_wanted if turns == 1 else self._objects >= turns

    def _change(self, rung: int, took_ms: float, period_ms: float) -> str:
        if rung == self._rung:
            return ""
        down = rung < self._rung
        if down and self._went_down:  # the one given back before has stood the test
            self._patience = max(_PATIENCE, self._patience // 2)
        elif not down and self._went_down and self._on_rung < _RELAPSE * self._patience:
            self._patience = min(2 * self._patience, _MAX_PATIENCE)
        self._rung, self._went_down, self._on_rung = rung, down, 0
        self._changes += 1
        self._spent_ms.clear()
        return (
            f"frames take {took_ms:.0f} ms, target_rate_hz leaves them {period_ms:.0f} ms: "
            f"{'back to' if down else 'from now on'} {RUNGS[rung]}"
        )


def _typical_ms(recent: Sequence[float]) -> float:
    """Mean of the last frames but for the slowest; rungs with a rhythm of three frames make up two rounds of it."""
    return float(np.mean(sorted(recent[-_HURRY:])[:-1]))
