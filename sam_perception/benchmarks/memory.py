"""How the process grows over a long stream, ours and transformers', each in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from sam_perception.benchmarks.contenders import ours, theirs
from sam_perception.benchmarks.models import benchmark_model
from sam_perception.benchmarks.pictures import pictures
from sam_perception.errors import PerceptionError

MIB = 1 << 20
_SIDES = {"ours": ours, "transformers": theirs}


@dataclass(frozen=True)
class Growth:
    """Resident memory of one process."""

    side: str  # ours or transformers
    model: str
    objects: int
    frames: tuple[int, ...]  # after so many
    mib: tuple[float, ...]  # resident memory then

    def change(self, first: int, last: int) -> float:
        """Memory after `last` frames relative to that after `first`, minus one."""
        of = dict(zip(self.frames, self.mib, strict=True))
        return of[last] / of[first] - 1.0


def measure_growth(
    side: str,
    model: str,
    objects: int,
    at: Sequence[int],
    *,
    device: str = "cpu",
    threads: int = 1,
    on_frame: Callable[[int], object] | None = None,
) -> Growth:
    """Run a stream in a new process and look at its resident memory after each number of frames in `at`.

    Raises:
        PerceptionError: the process ended early.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit this process' memory
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_stream, args=(sending, side, model, objects, tuple(at), device, threads))
    process.start()
    sending.close()
    found: dict[int, float] = {}
    try:
        while True:
            frame, mib = receiving.recv()
            if mib is not None:
                found[frame] = mib
            if on_frame is not None:
                on_frame(frame)
    except EOFError:
        process.join()
    except BaseException:
        process.terminate()
        raise
    if set(found) != set(at):
        raise PerceptionError(
            f"the process that measured {side} ended with code {process.exitcode} after "
            f"{max(found, default=0)} of {max(at)} frames: it may have run out of memory"
        )
    return Growth(side, model, objects, tuple(sorted(found)), tuple(found[frame] for frame in sorted(found)))


def _stream(sending: object, side: str, model: str, objects: int, at: Sequence[int], device: str, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    step = _SIDES[side](benchmark_model(model, device, "auto"), objects)
    process, clip = psutil.Process(), pictures(32)
    for frame in range(1, max(at) + 1):
        step(clip[frame % len(clip)])
        if frame in at:
            gc.collect()
            sending.send((frame, process.memory_info().rss / MIB))  # type: ignore[attr-defined]
        elif frame % 20 == 0:
            sending.send((frame, None))  # type: ignore[attr-defined]
    sending.close()  # type: ignore[attr-defined]
