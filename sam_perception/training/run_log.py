"""The log of a training run, and its clock."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import numpy as np

from sam_perception.files import replaced
from sam_perception.training.rollout import Outcome

COLUMNS = ("stage", "step", "minutes", "rate", "loss", "point", "box", "click", "track", "last", "s_per_step", "wait")


class Clock:
    """Time of this sitting, and when to save."""

    def __init__(self, save_every_s: float) -> None:
        self._started = self._saved = time.monotonic()
        self._every_s = save_every_s

    @property
    def elapsed_s(self) -> float:
        """Seconds since this sitting began."""
        return time.monotonic() - self._started

    def save_due(self) -> bool:
        """Whether it is time to save; the time then counts anew."""
        due = time.monotonic() - self._saved > self._every_s
        if due:
            self._saved = time.monotonic()
        return due


class Log:
    """Means over the last steps, row by row in a csv file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[tuple[Outcome, float, float]] = []

    def begin(self, step: int) -> None:
        """Make the file, or drop the rows of a run resumed at `step` that lie beyond it: they come once more."""
        kept: list[dict[str, str]] = []
        if self._path.exists():
            with self._path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if None not in row.values() and int(row["step"]) <= step]
        with replaced(self._path) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    def add(self, outcome: Outcome, waited_s: float, step_s: float) -> None:
        """Count one step; `waited_s` of `step_s` went into waiting for its batch."""
        self._rows.append((outcome, waited_s, step_s))

    def row(self, stage: str, step: int, minutes: float, rate: float) -> dict[str, Any]:
        """Write and return the row of the steps since the last one; empty where nothing was to be seen."""
        values: dict[str, Any] = {"stage": stage, "step": step, "minutes": round(minutes, 3), "rate": f"{rate:.2e}"}
        values["loss"] = round(float(np.mean([float(o.loss) for o, _, _ in self._rows])), 4)
        for name in COLUMNS[5:10]:
            seen = [float(o.iou[name]) for o, _, _ in self._rows if name in o.iou]
            seen = [value for value in seen if np.isfinite(value)]
            values[name] = round(float(np.mean(seen)), 4) if seen else ""
        total = sum(s for _, _, s in self._rows)
        values["s_per_step"] = round(total / len(self._rows), 3)
        values["wait"] = round(sum(w for _, w, _ in self._rows) / total, 3)
        self._rows = []
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(values)
        return values
