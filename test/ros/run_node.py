"""`perception_node` with a tracker that goes by colour; steps and loading may take long in native code."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

from fake_tracker import ColorTracker

from sam_perception.config import PerceptionConfig
from sam_perception.perception import Perception
from sam_perception.ros.node import main


class SlowTracker(ColorTracker):
    def step(self, *args: Any) -> Any:
        tracks = super().step(*args)
        hang("STEP")
        return tracks


def hang(what: str) -> None:
    """Stay in C code, as a network does, which no signal handler of Python's interrupts."""
    seconds = int(os.environ.get(f"TEST_{what}_S", "0"))
    only_if = os.environ.get(f"TEST_{what}_IF")  # a file that a test makes when the time has come
    if seconds and (only_if is None or os.path.exists(only_if)):  # noqa: PTH110 - no need of a Path
        sys.stderr.write(f"hanging in {what}\n")
        sys.stderr.flush()
        ctypes.CDLL(None).usleep(seconds * 1_000_000)


def make(config: PerceptionConfig) -> Perception:
    hang("LOAD")
    return Perception(config, SlowTracker())


if __name__ == "__main__":
    sys.exit(main(make_perception=make))
