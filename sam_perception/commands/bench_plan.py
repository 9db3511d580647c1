"""What the parts of `sam-perception bench` are asked, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Progress:
    """What is told while a part measures."""

    bar: Callable[[str], Callable[..., object]]  # a title to what is called after each frame
    tell: Callable[[str], None]  # a line that stays: what is known already if the rest is interrupted

    def preparing(self, model: str) -> Callable[[str], None]:
        """Told what is done with a model before anything is timed."""
        return lambda text: self.tell(f"{model}, before anything is timed: {text}")


@dataclass(frozen=True)
class BenchPlan:
    """What is measured, and how long."""

    device: str
    dtype: str
    models: Sequence[str]
    objects: Sequence[int]
    frames: int  # measured per number of objects
    warm_up: int
    memory_objects: int
    long_frames: int  # the last at which the tracker part looks at memory
    soak_model: str
    soak_at: Sequence[int]  # frames of the memory part: ours
    soak_their_at: Sequence[int]
    node_frames: int
    node_objects: int
    repeats: int
    threads: int
    compile: bool = False  # our side
    log: Path = field(default_factory=lambda: Path(gettempdir()) / "sam_perception_bench_node.log")

    def memory_at(self, model: str) -> tuple[int, int]:
        """Frames after which the tracker part looks at memory; fewer where a CPU would take half an hour."""
        slow = model.endswith("@1024") and not self.device.startswith("cuda")
        return 20, min(self.long_frames, 60) if slow else self.long_frames


@dataclass(frozen=True)
class Table:
    """For the terminal."""

    title: str
    header: Sequence[str]
    rows: Rows
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Part:
    """What one part has found."""

    name: str
    tables: Sequence[Table]
    data: dict[str, Any]  # for json
    series: dict[str, Any] = field(default_factory=dict)
